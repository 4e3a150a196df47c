import jax
import numpy as np
import pytest

from experiments.label_quality.memorization_digits import memorization_digits
from lnl_jax.runner.outputs import Artifact, Kept, Stage


def call(**arguments):
    """The artifacts by name; nothing is kept of an earlier session."""
    study, found, answer = memorization_digits(**arguments), {}, None
    while True:
        try:
            output = study.send(answer)
        except StopIteration:
            return found
        answer = None
        if isinstance(output, Artifact):
            found[output.name] = output.value
        assert isinstance(output, Artifact | Kept | Stage | dict)


@pytest.fixture(scope="module")
def found():
    with jax.numpy_rank_promotion("raise"):
        return call(trainings=16, epochs=6, subset=0.5)


@pytest.mark.slow
def test_false_labels_are_memorised_and_tell_nothing_out_of_the_bag(found):
    right, false = found["results"]
    assert false["memorisation"] > right["memorisation"]
    assert false["right out of the bag %"] < right["right out of the bag %"] - 50
    arrays = found["estimates"]
    is_false = arrays["label"] != arrays["clean_label"]
    assert (right["digits"], false["digits"]) == ((~is_false).sum(), is_false.sum())
    assert false["AUROC %"] > 90
    assert arrays["influence"].shape == (len(arrays["index"]), len(arrays["test_index"]))
    assert not set(arrays["index"]) & set(arrays["test_index"])


@pytest.mark.slow
def test_the_cost_of_an_error_rises_with_what_was_seen(found):
    costs = [row["tau %"] for row in found["long_tail"]]
    assert np.all(np.diff(costs) > 0)


@pytest.mark.slow
def test_without_noise_and_with_the_fewest_trainings_there_are_figures():
    artifacts = call(trainings=2, epochs=1, noise_rate=0.0)
    assert [row["label"] for row in artifacts["results"]] == ["right"]
    assert len(artifacts["most_memorized"].subfigs) == 1
