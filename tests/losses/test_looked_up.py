"""The label's score among many classes: looked up, and moved without a scatter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax.losses import _checks, crammer_singer, generalized_cross_entropy, ldr_kl

EXAMPLES, CLASSES = 8, 2 * _checks.FEW_CLASSES
# Arrays of all scores in float32 that a gradient may keep: the exponentials, and the pass of
# `ldr_kl` that mends its rounding.
KEPT = {crammer_singer: 0, generalized_cross_entropy: 1, ldr_kl: 2}


@pytest.mark.parametrize("loss", KEPT)
def test_the_gradient_in_half_precision_has_no_array_of_its_own_for_the_label(loss):
    scores = jax.ShapeDtypeStruct((EXAMPLES, CLASSES), jnp.bfloat16)
    labels = jax.ShapeDtypeStruct((EXAMPLES,), jnp.int32)
    lowered = jax.jit(jax.grad(lambda f, y: loss(f, y).sum())).lower(scores, labels)
    assert "scatter" not in lowered.as_text()
    kept = lowered.compile().memory_analysis().temp_size_in_bytes
    # Each example keeps a few numbers besides.
    assert kept < (KEPT[loss] + 0.5) * 4 * EXAMPLES * CLASSES


def test_all_derivatives_are_those_of_the_comparison():
    rng = np.random.default_rng(0)
    scores = jnp.asarray(rng.normal(size=(EXAMPLES, CLASSES)), jnp.float32)
    labels = jnp.asarray(rng.integers(CLASSES, size=EXAMPLES), jnp.int32)
    moves = jnp.asarray(rng.normal(size=scores.shape), jnp.float32)

    def derivatives(look):
        def value(scores):
            return (look(scores, labels, -1) ** 3).sum()

        gradient, second = jax.jvp(jax.grad(value), (scores,), (moves,))
        return gradient, second, jax.jvp(value, (scores,), (moves,))[1]

    found, expected = (
        jax.jit(functools.partial(derivatives, look))()
        for look in (_checks._looked_up, _checks._picked)
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.any(one)
