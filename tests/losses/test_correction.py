"""Corrections: what they are without noise, and what the noise does to their mean and minimum."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

from lnl_jax.losses import backward_correction, forward_correction, hard_bootstrap, soft_bootstrap

CLASSES = 7
EXAMPLES = CLASSES * CLASSES

CORRECTIONS = pytest.mark.parametrize("loss", [forward_correction, backward_correction])
BOOTSTRAPS = pytest.mark.parametrize("loss", [soft_bootstrap, hard_bootstrap])
SOFT = pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])


@pytest.fixture
def scores(rng):
    """NumPy logits, integer labels and distributions."""
    logits = 3 * rng.normal(size=(EXAMPLES, CLASSES))
    labels = rng.integers(CLASSES, size=EXAMPLES, dtype=np.int32)
    return logits, labels, rng.dirichlet(np.ones(CLASSES), size=EXAMPLES)


@pytest.fixture
def matrix(rng):
    """A noise that is different for each class, ``matrix[true, observed]``."""
    return 0.6 * np.eye(CLASSES) + 0.4 * rng.dirichlet(np.ones(CLASSES), size=CLASSES)


def target(scores, soft):
    """The labels as the losses take them, and as distributions."""
    return 2 * (scores[2],) if soft else (scores[1], np.eye(CLASSES)[scores[1]])


def of_every_label(loss, logits, **arguments):
    """One loss per label, last, for each of the first examples."""
    labels = np.tile(np.arange(CLASSES, dtype=np.int32), CLASSES)
    found = loss(np.repeat(logits[:CLASSES], CLASSES, axis=0), labels, **arguments)
    return np.asarray(found).reshape(CLASSES, CLASSES)


def value_and_gradient(loss, logits):
    values, pullback = jax.vjp(loss, jnp.asarray(logits))
    return values, pullback(jnp.ones_like(values))[0]


@SOFT
@CORRECTIONS
def test_without_noise_it_is_cross_entropy_in_float32(scores, loss, soft):
    labels, y = target(scores, soft)
    labels = labels.astype(np.float32) if soft else labels

    @jax.jit
    def corrected(logits):
        return value_and_gradient(
            lambda logits: loss(logits, labels, matrix=np.eye(CLASSES)), logits
        )

    for scale in (1, 1e4):
        logits = jnp.float32(scale * scores[0])
        exact = np.asarray(logits, np.float64)
        expected = -(y * special.log_softmax(exact, axis=-1)).sum(-1)
        found, gradient = corrected(logits)
        # Below one rounding of the largest score.
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * scale)
        np.testing.assert_allclose(gradient, special.softmax(exact, axis=-1) - y, atol=2e-6)


@SOFT
def test_the_forward_correction_of_symmetric_noise_mixes_with_the_uniform(float64, scores, soft):
    labels, y = target(scores, soft)
    flip = 0.3
    noise = flip / (CLASSES - 1) * np.ones((CLASSES, CLASSES))
    np.fill_diagonal(noise, 1 - flip)
    p = special.softmax(scores[0], axis=-1)
    observed = (1 - flip) * p + flip / (CLASSES - 1) * (1 - p)
    found = forward_correction(scores[0], labels, matrix=noise)
    np.testing.assert_allclose(found, -(y * np.log(observed)).sum(-1), rtol=1e-13)


def test_the_forward_correction_of_a_one_way_noise_reads_the_matrix_by_true_class(float64, scores):
    # Class 0 is observed as class 1 in four of ten cases, and never the other way.
    noise = np.eye(CLASSES)
    noise[0, :2] = 0.6, 0.4
    p = special.softmax(scores[0][:CLASSES], axis=-1)
    found = of_every_label(forward_correction, scores[0], matrix=noise)
    np.testing.assert_allclose(found[:, 0], -np.log(0.6 * p[:, 0]), rtol=1e-13)
    np.testing.assert_allclose(found[:, 1], -np.log(p[:, 1] + 0.4 * p[:, 0]), rtol=1e-13)
    np.testing.assert_allclose(found[:, 2:], -np.log(p[:, 2:]), rtol=1e-13)


def test_the_mean_of_the_backward_correction_over_the_noise_is_clean_cross_entropy(
    float64, scores, matrix
):
    by_observed = of_every_label(backward_correction, scores[0], matrix=matrix)
    cross_entropy = -special.log_softmax(scores[0][:CLASSES], axis=-1)
    np.testing.assert_allclose(by_observed @ matrix.T, cross_entropy, rtol=1e-12, atol=1e-13)


def test_the_backward_correction_has_no_bound_from_below(float64, scores, matrix):
    logits = 1e6 * np.eye(CLASSES)[scores[1]]
    assert backward_correction(logits, scores[1], matrix=matrix).max() < -1e5


@CORRECTIONS
@SOFT
def test_the_true_posterior_minimises_the_expected_loss_on_noisy_labels(
    float64, rng, scores, matrix, loss, soft
):
    posteriors = scores[2][:CLASSES]
    observed = posteriors @ matrix
    integers = np.tile(np.arange(CLASSES, dtype=np.int32), CLASSES)
    labels = np.repeat(observed, CLASSES, axis=0) if soft else integers
    weights = np.full(EXAMPLES, 1 / CLASSES) if soft else observed.ravel()

    @jax.jit
    def expected(logits):
        losses = loss(logits, labels, matrix=matrix) * weights
        return losses.reshape(CLASSES, CLASSES).sum(-1)

    posteriors = np.repeat(np.log(posteriors), CLASSES, axis=0)
    found, gradient = value_and_gradient(expected, posteriors)
    summed = gradient.reshape(CLASSES, CLASSES, CLASSES).sum(1)
    np.testing.assert_allclose(summed, 0, atol=1e-14)
    away = np.repeat(rng.normal(size=(CLASSES, CLASSES)), CLASSES, axis=0)
    assert (expected(posteriors + away) > found + 1e-3).all()


def test_a_distribution_averages_the_forward_correction_of_its_classes(float64, scores, matrix):
    by_label = of_every_label(forward_correction, scores[0], matrix=matrix)
    found = forward_correction(scores[0], scores[2], matrix=matrix)[:CLASSES]
    np.testing.assert_allclose(found, (scores[2][:CLASSES] * by_label).sum(-1), rtol=1e-13)


@SOFT
def test_masked_classes_leave_the_matrix_before_it_is_inverted(float64, scores, matrix, soft):
    kept = np.array([0, 2, 3, 6])
    where = np.isin(np.arange(CLASSES), kept)
    labels, y = target(scores, soft)
    if soft:
        labels = y = labels * where / (labels * where).sum(-1, keepdims=True)
    else:
        labels = kept[labels % len(kept)].astype(np.int32)
        y = np.eye(CLASSES)[labels]
    inverse = np.linalg.inv(matrix[np.ix_(kept, kept)])
    log_p = special.log_softmax(scores[0][:, kept], axis=-1)
    expected = -(y[:, kept] @ inverse * log_p).sum(-1)
    for same in (matrix, jnp.asarray(matrix)):
        found = backward_correction(scores[0], labels, matrix=same, where=where[None])
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@CORRECTIONS
@SOFT
def test_a_matrix_can_be_of_any_kind(float64, scores, matrix, loss, soft):
    labels, _ = target(scores, soft)
    expected = loss(scores[0], labels, matrix=matrix)
    for same in (jnp.asarray(matrix), matrix.tolist()):
        found = loss(scores[0], labels, matrix=same)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@CORRECTIONS
def test_a_matrix_that_is_none_raises(scores, matrix, loss):
    transposed = np.full((CLASSES, CLASSES), 0.1)
    transposed[0] = 0.4
    for bad, message in (
        (transposed, "rows of sum 1, matrix.true, observed.; got the sums"),
        (0.9 * matrix, "rows of sum 1"),
        (matrix[:-1], r"matrix must have shape \(7, 7\), got \(6, 7\)"),
        (matrix[0], r"matrix must have shape \(7, 7\), got \(7,\)"),
        (jnp.float32(matrix[None]), r"matrix must have shape \(7, 7\), got \(1, 7, 7\)"),
        (2 * np.eye(CLASSES) - matrix, "matrix must be at least 0 and at most 1, got"),
        (np.where(matrix > 0.5, np.nan, matrix), "matrix must be at least 0 and at most 1, got"),
    ):
        with pytest.raises(ValueError, match=message):
            loss(jnp.float32(scores[0]), scores[1], matrix=bad)


def test_a_matrix_without_an_inverse_has_no_backward_correction(scores):
    logits, labels = jnp.float32(scores[0]), scores[1]
    singular = np.full((CLASSES, CLASSES), 1 / CLASSES)
    with pytest.raises(ValueError, match="matrix must be invertible, got a singular one"):
        backward_correction(logits, labels, matrix=singular)
    assert not np.isfinite(backward_correction(logits, labels, matrix=jnp.float32(singular))).any()
    uninformative = forward_correction(logits, labels, matrix=singular)
    np.testing.assert_allclose(uninformative, np.log(CLASSES), rtol=1e-6)


def test_a_matrix_without_an_inverse_but_for_rounding_has_no_backward_correction(scores):
    # Symmetric noise of rate (K - 1) / K, as a caller computes it.
    flip = 6 / 7
    singular = np.full((CLASSES, CLASSES), flip / (CLASSES - 1))
    np.fill_diagonal(singular, 1 - flip)
    with pytest.raises(ValueError, match="matrix must be invertible"):
        backward_correction(jnp.float32(scores[0]), scores[1], matrix=singular)


@BOOTSTRAPS
@SOFT
def test_the_whole_weight_on_the_label_is_cross_entropy(float64, scores, loss, soft):
    labels, y = target(scores, soft)
    expected = optax.softmax_cross_entropy(jnp.asarray(scores[0]), y)
    found = loss(scores[0], labels, weight=1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)


@SOFT
def test_no_weight_on_the_label_leaves_the_confidence_of_the_prediction(float64, scores, soft):
    labels, _ = target(scores, soft)
    p = special.softmax(scores[0], axis=-1)
    found = soft_bootstrap(scores[0], labels, weight=0.0)
    np.testing.assert_allclose(found, special.entr(p).sum(-1), rtol=1e-12)
    found = hard_bootstrap(scores[0], labels, weight=0.0)
    np.testing.assert_allclose(found, -np.log(p.max(-1)), rtol=1e-12, atol=1e-15)


@SOFT
def test_the_gradient_of_the_soft_bootstrap_flows_through_the_target(float64, scores, soft):
    labels, y = target(scores, soft)
    logits, weight = jnp.asarray(scores[0]), 0.8
    p = special.softmax(scores[0], axis=-1)
    entropy = special.entr(p).sum(-1, keepdims=True)

    def stopped(logits):
        mixed = weight * y + (1 - weight) * jax.lax.stop_gradient(jax.nn.softmax(logits))
        return optax.softmax_cross_entropy(logits, mixed)

    value, gradient = value_and_gradient(
        lambda logits: soft_bootstrap(logits, labels, weight=weight), logits
    )
    stopped_value, stopped_gradient = value_and_gradient(stopped, logits)
    np.testing.assert_allclose(value, stopped_value, rtol=1e-12)
    through_target = -(1 - weight) * p * (np.log(p) + entropy)
    np.testing.assert_allclose(gradient, stopped_gradient + through_target, atol=1e-14)
    assert np.abs(gradient - stopped_gradient).max(-1).min() > 1e-4


@SOFT
def test_the_gradient_of_the_hard_bootstrap_pulls_to_the_first_of_the_predicted_classes(
    float64, scores, soft
):
    labels, y = target(scores, soft)
    logits = scores[0].copy()
    logits[::2, 1] = logits[::2].max(-1)
    predicted = logits == logits.max(-1, keepdims=True)
    assert (predicted.sum(-1) == 2).sum() > 10
    mixed = 0.8 * y + 0.2 * np.eye(CLASSES)[predicted.argmax(-1)]
    _, gradient = value_and_gradient(
        lambda logits: hard_bootstrap(logits, labels, weight=0.8), logits
    )
    np.testing.assert_allclose(gradient, special.softmax(logits, axis=-1) - mixed, atol=1e-14)
