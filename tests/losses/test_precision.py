"""float32 at large scores: what is a difference of scores is rounded like that difference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import losses
from tests.losses.cases import CASES
from tests.losses.test_contract import parameters

CLASSES = 5
# Per row: a level of scores from 1e2 to 1e5, and how far they are apart there.
LEVELS = np.repeat([1e2, 1e3, 1e4, 1e5], 6)
SPREADS = np.tile([0, 0.1, 1, 1, 5, 10], 4)


# What subtracts a stored number from a probability has the rounding of both where they are near.
ROUNDED_ONCE = {name: case for name, case in CASES.items() if name != "sop_step"}


def rows(case):
    """Near one another on a high level; and two or one of them far above the others."""
    rng = np.random.default_rng(0)
    near = LEVELS[:, None] + SPREADS[:, None] * rng.normal(size=(len(LEVELS), CLASSES))
    far = [[high, high, 0, -1, 2] for high in (1e2, 1e4, 1e5)] + [[0, 1e5, 3, -1e5, 1e2]]
    # With every class in it, backward correction is a difference of numbers as large as these.
    return np.float32(near if case.infinite else [*near, *far])


def with_gradient(case, logits, labels):
    losses, pullback = jax.vjp(lambda logits: case(logits, labels), logits)
    return losses, *pullback(jnp.ones_like(losses))


@pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])
@pytest.mark.parametrize("case", parameters(ROUNDED_ONCE))
def test_value_and_gradient_in_float32_are_rounded_once(case, soft):
    logits = rows(case)
    rng = np.random.default_rng(1)
    labels = np.int32(rng.integers(CLASSES, size=len(logits)))
    if soft:
        labels = np.float32(rng.dirichlet(np.ones(CLASSES), size=len(logits)))
        labels /= labels.sum(-1, keepdims=True)
    found = with_gradient(case, jnp.asarray(logits), jnp.asarray(labels))
    with jax.enable_x64(True):
        wide = jnp.float64(labels) if soft else jnp.asarray(labels)
        expected = with_gradient(case, jnp.float64(logits), wide)
    np.testing.assert_allclose(found[0], expected[0], rtol=5e-7, atol=5e-7)
    np.testing.assert_allclose(found[1], expected[1], rtol=5e-7, atol=1e-6)


def test_two_equal_scores_halve_the_probability_at_any_height():
    logits, label = jnp.array([[1e4, 1e4, 0.0]]), jnp.array([0])
    assert losses.mean_absolute_error(logits, label) == 1
    assert losses.taylor_cross_entropy(logits, label, order=1) == 0.5
    two = np.float32(np.log(2))
    np.testing.assert_allclose(
        losses.symmetric_cross_entropy(logits, label, alpha=1.0, beta=0.0), two, rtol=2e-7
    )
    np.testing.assert_allclose(losses.hard_bootstrap(logits, label, weight=0.5), two, rtol=2e-7)
