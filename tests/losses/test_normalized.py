"""Normalised losses: shares between 0 and 1, with their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax.losses import normalized_cross_entropy, normalized_focal

EXAMPLES, CLASSES = 49, 7


@pytest.fixture
def scores(rng):
    """NumPy logits, integer labels and distributions."""
    logits = 3 * rng.normal(size=(EXAMPLES, CLASSES))
    labels = rng.integers(CLASSES, size=EXAMPLES, dtype=np.int32)
    return logits, labels, rng.dirichlet(np.ones(CLASSES), size=EXAMPLES)


def focal(logits, labels, **arguments):
    return normalized_focal(logits, labels, gamma=0.5, **arguments)


BOTH = pytest.mark.parametrize("loss", [normalized_cross_entropy, focal])


def test_focal_with_gamma_zero_is_normalised_cross_entropy(float64, scores):
    logits, integers, distributions = scores
    for labels in (integers, distributions):
        found = normalized_focal(logits, labels, gamma=0.0)
        np.testing.assert_allclose(found, normalized_cross_entropy(logits, labels), rtol=1e-14)


def test_a_larger_gamma_lowers_the_share_of_the_most_probable_class(float64, scores):
    logits = scores[0]
    for labels, sign in ((logits.argmax(-1), -1), (logits.argmin(-1), 1)):
        found = [normalized_focal(logits, labels, gamma=gamma) for gamma in (0.0, 0.5, 2.0, 8.0)]
        assert (sign * np.diff(found, axis=0) > 0).all()


@BOTH
def test_the_loss_is_between_zero_and_one_and_reaches_them(float64, scores, loss):
    logits = np.zeros((EXAMPLES, CLASSES))
    logits[:, 0] = np.linspace(-3000, 3000, EXAMPLES)
    found = loss(logits, np.zeros(EXAMPLES, np.int32))
    assert (np.diff(found) <= 0).all()
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found[0], 1, rtol=1e-2)
    np.testing.assert_allclose(found[EXAMPLES // 2], 1 / CLASSES, rtol=1e-14)
    assert found[-1] == 0
    soft = loss(30 * scores[0], scores[2])
    assert ((soft >= 0) & (soft <= 1)).all()


@BOTH
@pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])
def test_large_scores_count_only_by_their_ratios(float64, scores, loss, soft):
    logits, integers, distributions = scores
    labels = distributions if soft else integers
    y = distributions if soft else np.eye(CLASSES)[integers]
    below = logits.max(-1, keepdims=True) - logits
    expected = (y * below).sum(-1) / below.sum(-1)
    np.testing.assert_allclose(loss(1e6 * logits, labels), expected, rtol=1e-12)
    np.testing.assert_allclose(loss(1e9 * logits, labels), expected, rtol=1e-12)


@BOTH
def test_minus_infinity_on_another_class_gives_zero_and_on_the_label_one(float64, scores, loss):
    labels = jnp.asarray(scores[1])
    logits, rows = jnp.asarray(scores[0]), jnp.arange(EXAMPLES)
    of_another = logits.at[rows, (labels + 1) % CLASSES].set(-jnp.inf)
    of_the_label = logits.at[rows, labels].set(-jnp.inf)
    for target in (labels, np.eye(CLASSES)[labels]):
        found, pullback = jax.vjp(lambda logits, target=target: loss(logits, target), of_another)
        np.testing.assert_array_equal(found, 0)
        np.testing.assert_array_equal(pullback(jnp.ones_like(found))[0], 0)
        np.testing.assert_array_equal(loss(of_the_label, target), 1)


@BOTH
def test_the_gradient_is_zero_where_the_label_scores_minus_infinity(float64, scores, loss):
    labels = jnp.asarray(scores[1])
    logits = jnp.asarray(scores[0]).at[jnp.arange(EXAMPLES), labels].set(-jnp.inf)
    for target in (np.eye(CLASSES)[labels], labels):
        gradient = jax.grad(lambda logits, target=target: loss(logits, target).sum())(logits)
        np.testing.assert_array_equal(gradient, 0)


@BOTH
def test_minus_infinity_on_one_class_of_a_distribution_gives_its_share(float64, scores, loss):
    logits, _, labels = scores
    lowered, far = logits.copy(), logits.copy()
    lowered[:, 2], far[:, 2] = -np.inf, -1e30
    np.testing.assert_allclose(loss(far, labels), labels[:, 2], rtol=1e-12)
    np.testing.assert_allclose(loss(lowered, labels), labels[:, 2], rtol=1e-12)


@BOTH
def test_a_single_class_has_no_loss(float64, scores, loss):
    where = np.arange(CLASSES) == scores[1][:, None]

    def masked(logits):
        return loss(logits, scores[1], where=where)

    for logits in (scores[0], 1e4 * scores[0]):
        found, pullback = jax.vjp(masked, jnp.asarray(logits))
        np.testing.assert_array_equal(found, 0)
        np.testing.assert_array_equal(pullback(jnp.ones_like(found))[0], 0)
