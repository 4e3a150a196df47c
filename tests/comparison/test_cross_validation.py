import functools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from lnl_jax import comparison, data, losses, metrics, noise
from lnl_jax.comparison import CATALOGUE
from lnl_jax.comparison.cross_validation import read_inputs
from lnl_jax.data import fold_numbers

QUICK = {"epochs": 4, "learning_rates": (0.1,), "folds": 3, "batch_size": 16}
SIZE, CLASSES, DECAY = 62, 3, 1e-2


def blobs():
    """Rows that a linear head tells apart."""
    label = np.arange(SIZE) % CLASSES
    x = np.eye(CLASSES)[label] + np.random.default_rng(0).normal(size=(SIZE, CLASSES)) / 5
    return x, label


def test_every_example_is_in_one_fold_with_the_classes_in_proportion():
    labels = np.repeat([0, 1, 2], [23, 9, 5])
    found = fold_numbers(labels, 5, np.random.default_rng(0))
    assert np.ptp(np.bincount(found, minlength=5)) <= 1
    for name in range(3):
        assert np.ptp(np.bincount(found[labels == name], minlength=5)) <= 1
    # Shuffled: the rows of a class are not dealt as they come.
    assert (found != fold_numbers(labels, 5, np.random.default_rng(1))).any()
    assert (np.diff(found[:23]) % 5 != 1).any()


def test_an_example_is_scored_by_networks_that_have_not_seen_it():
    # A column that only the example itself has: a network that was trained on it would know.
    label = np.random.default_rng(0).integers(0, 2, 40)
    known = comparison.cross_validated_probabilities(
        np.eye(40), label, folds=4, epochs=40, learning_rates=(0.1,), weight_decay=0.0
    )
    agreement = (known.argmax(1) == label).mean()
    assert known.shape == (40, 2)
    np.testing.assert_allclose(known.sum(1), 1, rtol=1e-5)
    assert agreement < 0.75


def test_it_agrees_with_a_network_fitted_to_the_other_folds_one_by_one():
    x, label = blobs()
    found = comparison.cross_validated_probabilities(x, label, epochs=200, weight_decay=DECAY)
    number, columns = fold_numbers(label, 5, np.random.default_rng(0)), read_inputs(x)
    columns = np.c_[np.float64(columns), np.ones(SIZE)]
    for fold in range(5):
        expected = log_softmax(
            columns @ fitted(columns[number != fold], label[number != fold]), axis=1
        )
        held = number == fold
        np.testing.assert_allclose(found[held], np.exp(expected[held]), atol=0.02)


def fitted(columns, label):
    """The weights of logistic regression; the decay of all of them is half a squared norm."""

    def objective(flat):
        weights = flat.reshape(-1, CLASSES)
        scores = log_softmax(columns @ weights, axis=1)
        slope = columns.T @ (np.exp(scores) - np.eye(CLASSES)[label]) / len(label)
        value = -scores[np.arange(len(label)), label].mean() + 0.5 * DECAY * (flat**2).sum()
        return value, (slope + DECAY * weights).ravel()

    start = np.zeros(columns.shape[1] * CLASSES)
    return minimize(objective, start, jac=True).x.reshape(-1, CLASSES)


def custom(logits, labels, *, axis=-1):
    return -jnp.take_along_axis(logits, jnp.expand_dims(labels, axis), axis).squeeze(axis)


def corrected(logits, labels, *, matrix, axis=-1):
    return losses.forward_correction(logits, labels, matrix=matrix, axis=axis)


@pytest.mark.parametrize(
    "loss",
    [
        CATALOGUE["aldr_kl_step"],
        CATALOGUE["generalized_jensen_shannon"],
        functools.partial(losses.forward_correction, matrix=np.eye(CLASSES)),
        functools.partial(losses.generalized_cross_entropy, q=0.5),
        losses.ldr_kl,
        custom,
        functools.partial(corrected, matrix=np.eye(CLASSES)),
    ],
    ids=[
        "with rows",
        "with views",
        "with a matrix",
        "with a keyword",
        "with a grid",
        "one's own",
        "one's own with a matrix",
    ],
)
@pytest.mark.slow
def test_any_loss_trains(loss):
    x, label = blobs()
    found = comparison.cross_validated_probabilities(x, label, loss=loss, **QUICK | {"epochs": 12})
    assert (found.argmax(1) == label).mean() > 0.9


def test_a_loss_that_needs_the_noise_says_so():
    with pytest.raises(ValueError, match=r"loss asks for matrix.*partial"):
        comparison.cross_validated_probabilities(*blobs(), loss=losses.forward_correction, **QUICK)


def test_images_are_taken_and_repeats_are_averaged():
    rng = np.random.default_rng(0)
    label = np.arange(30) % 2
    images = np.uint8(100 * label[:, None, None] + rng.integers(0, 99, (30, 4, 4)))
    both = comparison.cross_validated_probabilities(images, label, repeats=2, **QUICK)
    single = [
        comparison.cross_validated_probabilities(images, label, seed=seed, **QUICK)
        for seed in (0, 1)
    ]
    np.testing.assert_allclose(both, np.mean(single, 0), atol=1e-5)


@pytest.mark.slow
def test_false_labels_of_digits_stand_out():
    digits = data.digits()
    rng = np.random.default_rng(0)
    given = noise.corrupt(digits["label"], noise.symmetric(10, 0.3), rng).labels
    found = comparison.cross_validated_probabilities(digits["x"], given)
    doubt = jnp.asarray(1 - found[np.arange(len(given)), given])
    assert metrics.auroc(doubt, jnp.asarray(given != digits["label"])) > 0.98


FAULTS = {
    "class": ({"labels": np.array([1] + [0] * 9)}, r"class 1 has 1 of 10 examples, so that a fold"),
    "outside": ({"labels": np.arange(10), "num_classes": 9}, r"from 0 to 8; 1 of 10.*row 9: 9"),
    "count": ({"labels": np.zeros(9, int)}, r"one entry per example, 10, got 9"),
    "nan": ({"inputs": np.diag([np.nan] * 10)}, r"finite; 10 of 10 rows.*row 0, column 0: nan"),
    "shape": ({"inputs": np.zeros(10)}, r"features \[N, D\] or images"),
    "folds": ({"folds": 1}, r"folds must be an integer from 2 on, got 1"),
    "rates": ({"learning_rates": ()}, r"learning_rates must hold at least one"),
    "rate": ({"learning_rates": (-1,)}, r"learning_rates must be a finite number above 0"),
}


@pytest.mark.parametrize(("changes", "message"), FAULTS.values(), ids=FAULTS)
def test_what_cannot_be_used_is_named(changes, message):
    arguments = {"inputs": np.zeros((10, 2)), "labels": np.arange(10) % 2} | changes
    with pytest.raises(ValueError, match=message):
        comparison.cross_validated_probabilities(**arguments)


def test_trainings_that_diverge_say_so():
    x, label = blobs()
    with pytest.raises(
        FloatingPointError, match=r"no training stayed finite.*lower one than 1e\+30"
    ):
        comparison.cross_validated_probabilities(x, label, **QUICK | {"learning_rates": (1e30,)})
