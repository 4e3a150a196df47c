"""Projectors from noisy labels on two foundation models, in a tiny run."""

import pytest

from experiments.distillation.hello_noisy import COMPARED, FOUNDATIONS, hello_noisy
from tests.experiments.replays import first_stages, play

TINY = {"foundation_steps": 2, "contrastive_steps": 2, "projector_steps": 2, "seeds": 2}


@pytest.mark.slow
def test_a_run_fills_its_table_and_an_interrupted_one_ends_alike():
    whole = play(hello_noisy(**TINY))
    lines = whole.artifacts["results"]
    found = [(line["foundation"], line["projector"], line["loss"]) for line in lines]
    trained = [line for line in found if line[1] != "zero-shot"]
    assert len(set(trained)) == len(trained) == len(FOUNDATIONS) * 2 * len(COMPARED)
    assert len(found) == len(trained) + len(FOUNDATIONS)
    assert [row["epoch"] for row in whole.rows] == list(range(1, len(found) + 1))
    assert all(0 <= row["accuracy"] <= 1 for row in whole.rows)
    again = play(hello_noisy(**TINY), first_stages(whole, 4))
    assert again.computed == list(whole.kept)[4:]
    assert (again.rows, again.artifacts) == (whole.rows, whole.artifacts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": 1}, "seeds must be from 2"),
        ({"noise_rate": 1.5}, "noise_rate must be from 0 to 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"rank": 0}, "rank must be from 1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        next(hello_noisy(**arguments))
