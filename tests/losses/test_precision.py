"""float32 at large scores: what is a difference of scores is rounded like that difference."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import losses
from tests.losses.cases import CASES
from tests.losses.test_contract import CLASSES, EXAMPLES, parameters, with_gradient

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
    kinds = np.float32(near if case.infinite else [*near, *far])
    # The shape at which the losses share the programs of their operations.
    return np.resize(kinds, (EXAMPLES, CLASSES))


def labels_of(form):
    rng = np.random.default_rng(1)
    if form == "integer":
        return np.int32(rng.integers(CLASSES, size=EXAMPLES))
    labels = np.float32(rng.dirichlet(np.ones(CLASSES), size=EXAMPLES))
    return labels / labels.sum(-1, keepdims=True)


@functools.cache
def in_float64(case):
    """Value and gradient for the labels of each form, from one program."""
    distributions = np.eye(CLASSES)[labels_of("integer")], np.float64(labels_of("soft"))
    with jax.enable_x64(True):
        both = np.tile(np.float64(rows(case)), (2, 1)), np.concatenate(distributions)
        found = jax.jit(functools.partial(with_gradient, case))(*both)
    parts = (np.split(np.asarray(array), 2) for array in found)
    return dict(zip(("integer", "soft"), zip(*parts, strict=True), strict=True))


@pytest.mark.parametrize("form", ["integer", "soft"])
@pytest.mark.parametrize("case", parameters(ROUNDED_ONCE))
def test_value_and_gradient_in_float32_are_rounded_once(case, form):
    found = with_gradient(case, jnp.asarray(rows(case)), jnp.asarray(labels_of(form)))
    expected = in_float64(case)[form]
    np.testing.assert_allclose(found[0], expected[0], rtol=5e-7, atol=5e-7)
    np.testing.assert_allclose(found[1], expected[1], rtol=5e-7, atol=1e-6)


def test_two_equal_scores_halve_the_probability_at_any_height():
    logits = jnp.asarray(np.resize(np.float32([1e4, 1e4, 0, 0, 0]), (EXAMPLES, CLASSES)))
    labels = jnp.zeros(EXAMPLES, jnp.int32)
    assert (losses.mean_absolute_error(logits, labels) == 1).all()
    assert (losses.taylor_cross_entropy(logits, labels, order=1) == 0.5).all()
    two = np.float32(np.log(2))
    found = losses.symmetric_cross_entropy(logits, labels, alpha=1.0, beta=0.0)
    np.testing.assert_allclose(found, two, rtol=2e-7)
    found = losses.hard_bootstrap(logits, labels, weight=0.5)
    np.testing.assert_allclose(found, two, rtol=2e-7)
