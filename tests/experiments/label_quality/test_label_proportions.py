import jax
import numpy as np
import pytest

from experiments.label_quality.label_proportions import Beliefs, _bags, label_proportions
from lnl_jax.runner import StudyError
from lnl_jax.runner.outputs import Artifact

TINY = {"bag_sizes": (8, 4), "rounds": 2, "seeds": 2, "epochs": 3, "pairs": Beliefs(1.0, 1.0)}


@pytest.fixture(scope="module")
def found():
    with jax.numpy_rank_promotion("raise"):
        outputs = list(label_proportions(**TINY))
    return {output.name: output.value for output in outputs if isinstance(output, Artifact)}


def test_bags_hold_every_training_digit_that_fills_one_and_no_test_digit():
    bags = _bags(32, 0)
    assert bags["x"].shape == (44, 32, 64)
    np.testing.assert_array_equal(bags["counts"], bags["label"].sum(1))
    rows = {row.tobytes() for row in bags["x"].reshape(-1, 64)}
    assert not rows & {row.tobytes() for row in bags["test_x"]}


def test_sizes_of_bags_are_refused_twice():
    with pytest.raises(StudyError, match="bag_sizes must hold at least one, none of them twice"):
        next(label_proportions(bag_sizes=(8, 8)))


@pytest.mark.slow
def test_small_bags_tell_nearly_all_labels(found):
    rows = {(row["bag size"], row["labelling"]): row for row in found["results"]}
    labellings = [f"{kind}, round {n}" for n in (1, 2) for kind in ("pairs", "whole bags")]
    labellings += ["proportion loss", "all labels known"]
    assert {name for _, name in rows} == set(labellings)
    assert len(rows) == 2 * len(labellings)
    assert rows[8, "whole bags, round 1"]["pseudo-labels %"] > 97
    assert "pseudo-labels %" not in rows[8, "proportion loss"]
    marginals = found["marginals"]["bags of 8"]
    assert marginals.shape == (179, 8)
    assert ((marginals > 0.5) == _bags(8, 0)["label"]).mean() > 0.9
