import jax
import numpy as np
import pytest
from scipy import special
from sklearn import metrics as reference

from lnl_jax.metrics import brier_score, calibration_bins, expected_calibration_error, merge

EXAMPLES, CLASSES = 400, 4

# Compiled whole, which takes less time than operation by operation.
binned = jax.jit(calibration_bins, static_argnames="num_bins")
error_of = jax.jit(expected_calibration_error)
brier = jax.jit(brier_score)


@pytest.fixture
def drawn(rng):
    """Scores of a model that is right more often than not."""
    labels = rng.integers(CLASSES, size=EXAMPLES)
    logits = rng.normal(size=(EXAMPLES, CLASSES)) + 1.5 * np.eye(CLASSES)[labels]
    return np.float32(logits), np.int32(labels)


def calibration_by_definition(logits, labels, num_bins):
    """Guo et al., with its bins one after the other."""
    probabilities = special.softmax(np.asarray(logits, np.float64), 1)
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    error = 0
    for index in range(num_bins):
        inside = (confidence > index / num_bins) & (confidence <= (index + 1) / num_bins)
        if inside.any():
            error += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return error


@pytest.mark.parametrize("num_bins", [1, 15])
def test_the_calibration_error_is_that_of_the_definition(drawn, num_bins):
    expected = calibration_by_definition(*drawn, num_bins)
    found = error_of(binned(*drawn, num_bins=num_bins))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert expected > 0.02


def test_right_as_often_as_confident_is_calibrated_and_always_sure_and_wrong_is_not():
    logits = np.float32(np.log([[0.7, 0.3]] * 10))
    labels = np.int32([0] * 7 + [1] * 3)
    np.testing.assert_allclose(error_of(binned(logits, labels)), 0, atol=1e-6)
    sure = np.float32([[0, -np.inf]] * 10)
    assert error_of(binned(sure, np.ones(10, np.int32))) == 1
    assert error_of(binned(sure, np.zeros(10, np.int32))) == 0


def test_a_bin_holds_its_upper_edge_and_not_its_lower_one():
    """Confidences that are exact in binary: 1/2, 1/4 and 1, all on edges of four bins."""
    inf = np.inf
    logits = np.float32([[0, 0, -inf, -inf], [0, 0, 0, 0], [0, -inf, -inf, -inf]])
    labels = np.zeros(3, np.int32)
    np.testing.assert_array_equal(binned(logits, labels, num_bins=4).count, [1, 1, 0, 1])
    np.testing.assert_array_equal(binned(logits, labels, num_bins=3).count, [1, 1, 1])


def test_bins_merge_over_batches_and_masked_examples_are_as_removed(drawn, rng):
    logits, labels = drawn
    where = rng.uniform(size=EXAMPLES) < 0.6
    spoiled = np.where(where[:, None], logits, np.nan)
    parts = [
        binned(spoiled[part], labels[part], where=where[part])
        for part in np.split(np.arange(EXAMPLES), 2)
    ]
    merged, whole = jax.jit(merge)(*parts), binned(logits[where], labels[where])
    for found, expected in zip(merged, whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert (found.shape, found.dtype) == ((15,), np.float32)
    assert np.asarray(whole.count).sum() == where.sum()
    errors = [error_of(bins) for bins in (merged, whole, *parts)]
    np.testing.assert_allclose(errors[0], errors[1], rtol=1e-4)
    # Why the errors themselves are not averaged.
    assert abs(np.mean(errors[2:]) - errors[1]) > 1e-3


def test_nothing_has_no_calibration_error_and_a_nan_score_makes_it_nan(drawn):
    logits, labels = drawn
    nothing = binned(logits, labels, where=np.zeros(EXAMPLES, bool))
    assert np.isnan(error_of(nothing))
    logits[3, 1] = np.nan
    assert np.isnan(error_of(binned(logits, labels)))


def test_vmap_bins_every_model_on_its_own(drawn):
    logits, labels = drawn
    many = jax.vmap(binned, in_axes=(0, None))(np.stack([logits, 3 * logits]), labels)
    errors = error_of(many)
    assert errors.shape == (2,)
    for index, scale in enumerate((1, 3)):
        alone = error_of(binned(scale * logits, labels))
        np.testing.assert_allclose(errors[index], alone, rtol=1e-5)


@pytest.mark.parametrize("scale", [1, 8])
def test_the_brier_score_is_that_of_the_definition(drawn, scale):
    logits, labels = drawn
    probabilities = special.softmax(scale * np.asarray(logits, np.float64), 1)
    expected = np.square(probabilities - np.eye(CLASSES)[labels]).sum(1).mean()
    np.testing.assert_allclose(brier(scale * logits, labels).value, expected, rtol=1e-5)


def test_the_brier_score_of_two_classes_is_twice_that_of_scikit_learn(drawn):
    logits, labels = drawn[0][:, :2], drawn[1] % 2
    positive = special.softmax(np.asarray(logits, np.float64), 1)[:, 1]
    expected = 2 * reference.brier_score_loss(labels, positive)
    np.testing.assert_allclose(brier(logits, labels).value, expected, rtol=1e-5)


def test_the_brier_score_is_0_at_best_and_2_at_worst_however_large_the_scores():
    logits = np.float32([[1e30, 0, -np.inf]] * 2)
    assert brier(logits, np.int32([0, 0])).value == 0
    assert brier(logits, np.int32([1, 2])).value == 2


LABELS = np.zeros(4, np.int32)


@pytest.mark.parametrize(
    ("labels", "changes", "text"),
    [
        (LABELS[:3], {}, r"labels must be integers of shape \(4,\).*int32 of shape \(3,\)"),
        (LABELS, {"where": np.ones(3, bool)}, r"one entry per example, shape \(4,\); got \(3,\)"),
        (LABELS, {"num_bins": 0}, "num_bins must be an integer from 1 on; got 0"),
        (LABELS, {"num_bins": 2.5}, "num_bins must be an integer from 1 on; got 2.5"),
    ],
)
def test_arguments_that_do_not_fit_raise(labels, changes, text):
    with pytest.raises(ValueError, match=text):
        jax.eval_shape(lambda: calibration_bins(np.zeros((4, 2), np.float32), labels, **changes))
