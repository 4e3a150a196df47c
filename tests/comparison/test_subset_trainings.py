import numpy as np
import pytest

from lnl_jax import comparison, label_models


def blobs(size, seed):
    label = np.arange(size) % 2
    return 3 * np.eye(2)[label] + np.random.default_rng(seed).normal(size=(size, 2)) / 4, label


def test_a_false_label_is_known_to_those_alone_that_saw_it():
    (x, label), (test_x, test_label) = blobs(30, 0), blobs(10, 1)
    # A column that it alone has: a network that saw it can fit it.
    x, test_x = np.c_[x, np.zeros(30)], np.c_[test_x, np.zeros(10)]
    label[4], x[4, 2] = 1, 10
    found = comparison.train_on_subsets(
        x, label, test_x, test_label, trainings=12, subset=0.5, hidden=(), epochs=100, batch_size=16
    )
    np.testing.assert_array_equal(found.in_subset.sum(1), 15)
    assert len(np.unique(found.in_subset, axis=0)) == 12
    memory = label_models.memorization_estimates(found.correct, found.in_subset)
    assert memory[4] > 0.9
    assert np.nanmax(np.delete(memory, 4)) < 0.5
    assert found.test_correct.mean() > 0.95


REFUSED = {
    "a subset of all": ({"subset": 1.0}, "subset must be a finite number above 0 and below 1"),
    "test rows of other columns": (
        {"test_inputs": np.ones((2, 5))},
        "test_inputs must be at least",
    ),
    "holes": ({"inputs": np.full((30, 2), np.nan)}, "inputs must be finite"),
    "a test label outside": ({"test_labels": np.full(10, 2)}, "test_labels must be from 0 to 1"),
    "no training": ({"trainings": 0}, "trainings must be an integer from 1 on"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_argument_that_does_not_fit_is_named(case):
    given, message = REFUSED[case]
    (x, label), (test_x, test_label) = blobs(30, 0), blobs(10, 1)
    usual = {"inputs": x, "labels": label, "test_inputs": test_x, "test_labels": test_label}
    with pytest.raises(ValueError, match=message):
        comparison.train_on_subsets(**usual | given)
