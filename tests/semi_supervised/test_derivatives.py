"""Derivatives in float64 against differences, at ordinary scores and those of a head at zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax.semi_supervised import nn_pu, pu_mlc_consistency, sigmoid_surrogate

STEP = 1e-5
POSITIVE = np.array([1, 0, 0, 1, 0], np.int32)
LABELS = np.stack([POSITIVE, 1 - POSITIVE], -1)


def risk(logits):
    return nn_pu(logits[:, 0], POSITIVE, prior=0.3)


def consistency(logits):
    mixed, partner = 0.5 * logits[::-1], -logits[::-1]
    return pu_mlc_consistency(mixed, logits, partner, LABELS, LABELS[::-1], mix=0.7)


@pytest.mark.parametrize("loss", [risk, consistency, sigmoid_surrogate], ids=lambda f: f.__name__)
def test_gradient_and_curvature_are_those_of_differences(float64, loss):
    rng = np.random.default_rng(0)
    direction = jnp.asarray(rng.normal(size=(5, 2)))

    @jax.jit
    def evaluate(logits):
        def total(logits):
            return (loss(logits).T @ np.arange(1.0, 6)).sum()

        return total(logits), *jax.jvp(jax.grad(total), (logits,), (direction,))

    # Of zeros the bracket of the risk is 0.2, of the drawn scores and their opposites not 0 either.
    for logits in (rng.normal(size=(5, 2)), np.zeros((5, 2)), -np.zeros((5, 2)), np.ones((5, 2))):
        (_, gradient, curvature), below, above = (
            evaluate(jnp.asarray(logits) + step * direction) for step in (0.0, -STEP, STEP)
        )
        slope = (above[0] - below[0]) / (2 * STEP)
        np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-7, atol=1e-9)
        change = (above[1] - below[1]) / (2 * STEP)
        np.testing.assert_allclose(curvature, change, rtol=1e-6, atol=1e-8)


def test_a_bracket_of_exactly_zero_counts_as_positive(float64):
    """A positive and an unlabelled one whose surrogates are 1 and the prior."""

    def loss(logits):
        def surrogate(margins):
            return jnp.square(margins)

        return nn_pu(logits, np.array([1, 0], np.int32), prior=0.25, surrogate=surrogate).sum()

    # The bracket is f_u^2 - f_p^2 / 4; its gradient would be absent if it counted as negative.
    found = jax.grad(loss)(jnp.array([2.0, 1.0]))
    # Their sum is twice their mean.
    assert found[1] == 2 * 2 * 1.0
