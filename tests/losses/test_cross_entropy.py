"""Generalized cross-entropy: limits, bounds, closed-form gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

from lnl_jax.losses import generalized_cross_entropy

EXAMPLES, CLASSES = 12, 7


@pytest.fixture
def scores(rng):
    """NumPy logits, integer labels and distributions."""
    logits = 3 * rng.normal(size=(EXAMPLES, CLASSES))
    labels = rng.integers(CLASSES, size=EXAMPLES, dtype=np.int32)
    return logits, labels, rng.dirichlet(np.ones(CLASSES), size=EXAMPLES)


def test_a_small_q_gives_cross_entropy_in_float32(scores):
    logits, labels = jnp.float32(scores[0]), jnp.asarray(scores[1])
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    found = generalized_cross_entropy(logits, labels, q=1e-6)
    # The next term of the series in q is -q / 2 times the square: 5e-5 at the most here.
    expected = cross_entropy - 1e-6 / 2 * cross_entropy**2
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_q_one_is_the_probability_of_the_other_classes(float64, scores):
    logits, integers, distributions = scores
    p = special.softmax(logits, axis=-1)
    for labels, own in (
        (integers, p[np.arange(EXAMPLES), integers]),
        (distributions, (distributions * p).sum(-1)),
    ):
        found = generalized_cross_entropy(jnp.asarray(logits), labels, q=1.0)
        np.testing.assert_allclose(found, 1 - own, atol=1e-15)


def test_q_one_summed_over_the_labels_is_constant(float64, scores):
    logits = jnp.asarray(scores[0])
    by_label = [
        generalized_cross_entropy(logits, np.full(EXAMPLES, label), q=1.0)
        for label in range(CLASSES)
    ]
    np.testing.assert_allclose(sum(by_label), CLASSES - 1, atol=1e-14)


@pytest.mark.parametrize("q", [0.05, 0.7, 1.0])
def test_the_loss_is_bounded_by_one_over_q_and_reaches_it(q):
    logits = np.zeros((61, CLASSES), np.float32)
    logits[:, 0] = np.linspace(-3000, 3000, 61)
    found = generalized_cross_entropy(jnp.asarray(logits), np.zeros(61, np.int32), q=q)
    assert (found >= 0).all()
    assert (found <= np.float32(1 / q)).all()
    assert (np.diff(found) <= 0).all()
    np.testing.assert_allclose(found[0], 1 / q, rtol=1e-6)
    assert found[-1] == 0


@pytest.mark.parametrize("q", [0.05, 0.7, 1.0])
@pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])
def test_gradient_is_that_of_cross_entropy_damped_by_the_probability(float64, scores, q, soft):
    logits, integers, distributions = scores
    labels = distributions if soft else integers
    y = distributions if soft else np.eye(CLASSES)[integers]
    p = special.softmax(logits, axis=-1)
    own = (y * p).sum(-1, keepdims=True)
    found = jax.grad(lambda logits: generalized_cross_entropy(logits, labels, q=q).sum())(logits)
    np.testing.assert_allclose(found, own**q * (p - y * p / own), atol=1e-15)
