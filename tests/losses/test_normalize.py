"""Normalisations of the logits: definitions, what they fix, and extreme scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax.losses import l1_mean_normalize, logit_clip, logit_normalize, softplus_mean_normalize
from tests.losses.cases import OTHERS

TAU = 0.4
THRESHOLD = 9.0


def softplus_mean(f):
    positive = np.logaddexp(f, 0)
    return positive / positive.mean(-1, keepdims=True)


def l1_mean(f):
    return f / np.abs(f).mean(-1, keepdims=True)


def unit_norm(f):
    return f / (TAU * np.linalg.norm(f, axis=-1, keepdims=True))


def clipped(f):
    return f * np.minimum(1, THRESHOLD / np.linalg.norm(f, axis=-1, keepdims=True))


FUNCTIONS = {
    "softplus_mean": (softplus_mean_normalize, softplus_mean),
    "l1_mean": (l1_mean_normalize, l1_mean),
    "logit": (functools.partial(logit_normalize, temperature=TAU), unit_norm),
    "clip": (functools.partial(logit_clip, threshold=THRESHOLD), clipped),
}
# Compiled as a whole: evaluated eagerly, each operation is a program for each shape.
NORMALIZERS = {
    name: (jax.jit(normalize, static_argnames="axis"), definition)
    for name, (normalize, definition) in FUNCTIONS.items()
}
divided = jax.jit(lambda logits, tau: logit_normalize(logits, temperature=tau))
EXTREMES = {
    "zeros": [0, 0, 0, 0],
    "large": [1e4, 0, -1e4, 1],
    "all_low": [-1e4, -1e4, -1e4, -1e4],
    "differently_low": [-1e4, -1e4 - 1, -2e4, -1e4],
    "huge": [1e30, -1e30, 0, 1e29],
    "all_hugely_low": [-1e30, -1e30, -1e30, -1e30],
    "tiny": [1e-30, -1e-30, 0, 1e-29],
}


@pytest.fixture(params=NORMALIZERS.values(), ids=NORMALIZERS)
def pair(request):
    """A normalisation and its definition in NumPy."""
    return request.param


@pytest.fixture
def logits(rng):
    return 5 * rng.normal(size=(6, 4))


def weighted_sum(normalize):
    """Of different weights, so that no part of the gradient cancels."""
    return lambda f: (normalize(f) @ np.array([1, -2, 3, 5], f.dtype)).sum()


def gradients(name, rows):
    """Of `weighted_sum` in each row, in the rows' dtype."""
    return jax.jit(jax.grad(weighted_sum(NORMALIZERS[name][0])))(rows)


def test_every_normalisation_is_here():
    functions = {getattr(function, "func", function) for function, _ in FUNCTIONS.values()}
    returning = {name for name, reason in OTHERS.items() if reason.startswith("returns scores")}
    assert {function.__name__ for function in functions} == returning


def test_equals_its_definition(float64, pair, logits):
    normalize, definition = pair
    np.testing.assert_allclose(normalize(jnp.asarray(logits)), definition(logits), rtol=1e-14)


def test_any_axis_can_hold_the_classes(pair, logits):
    normalize, _ = pair
    both = jax.jit(lambda logits: (normalize(logits.T, axis=0).T, normalize(logits)))
    np.testing.assert_array_equal(*both(np.float32(logits)))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_rounded_once_at_the_end(pair, logits, dtype):
    normalize, _ = pair
    # The sum of their softplus overflows float16.
    logits = np.repeat(100 * np.abs(logits), 200, axis=-1).astype(dtype)
    found = normalize(logits)
    assert found.dtype == dtype
    widened = np.asarray(normalize(logits.astype(np.float32))).astype(dtype)
    np.testing.assert_array_equal(found, widened)


@functools.cache
def at_extremes(name):
    normalize, _ = NORMALIZERS[name]
    rows = np.float32(list(EXTREMES.values()))
    return dict(
        zip(EXTREMES, zip(normalize(rows), gradients(name, rows), strict=True), strict=True)
    )


@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("name", NORMALIZERS)
def test_value_and_gradient_are_finite_at_extreme_scores(name, extreme):
    for found in at_extremes(name)[extreme]:
        assert np.isfinite(found).all()


def test_softplus_scores_are_positive_with_mean_one_at_any_scale(logits):
    for scale in (1e-4, 1.0, 1e3):
        found = NORMALIZERS["softplus_mean"][0](np.float32(scale * logits))
        assert (found >= 0).all()
        np.testing.assert_allclose(np.mean(found, -1), 1, rtol=5e-7)


def test_softplus_scores_far_below_zero_are_their_softmax():
    @jax.jit
    def values_and_slopes(logits):
        return [
            (function(logits), jax.jacobian(function)(logits))
            for function in (softplus_mean_normalize, lambda f: 4 * jax.nn.softmax(f))
        ]

    found, expected = values_and_slopes(np.float32([-1e4, -1e4 - 1, -2e4, -1e4]))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_softplus_scores_and_gradients_join_where_the_formula_changes(float64):
    @jax.jit
    @jax.value_and_grad
    def first(x):
        return softplus_mean_normalize(jnp.stack([x, jnp.full_like(x, -49.0)]))[0]

    np.testing.assert_allclose(first(-50 - 1e-9), first(-50 + 1e-9), rtol=1e-8)


@pytest.mark.parametrize("name", ["l1_mean", "logit"])
def test_the_scale_of_the_scores_divides_out_of_value_and_gradient(logits, name):
    normalize, definition = NORMALIZERS[name]
    scales = np.float32([1e-30, 1e-10, 1.0, 1e10, 1e30])[:, None, None]
    scaled = np.float32(logits) * scales
    shape = scaled.shape
    expected = np.broadcast_to(definition(np.float32(logits)), shape)
    np.testing.assert_allclose(normalize(scaled), expected, rtol=1e-6)
    found = scales * np.asarray(gradients(name, scaled))
    np.testing.assert_allclose(found, np.broadcast_to(found[2], shape), rtol=1e-4, atol=1e-6)


def test_l1_scores_have_mean_absolute_value_one(logits):
    found = NORMALIZERS["l1_mean"][0](np.float32(logits))
    np.testing.assert_allclose(np.abs(found).mean(-1), 1, rtol=5e-7)


@pytest.mark.parametrize("temperature", [0.04, 1.0, 2.0])
def test_logits_have_norm_one_over_the_temperature(logits, temperature):
    found = divided(np.float32(logits), temperature)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1 / temperature, rtol=5e-7)


def test_scores_that_are_all_zero_stay_zero():
    zeros = np.zeros((6, 4), np.float32)
    for name, expected in {"l1_mean": 0, "logit": 0, "clip": 0, "softplus_mean": 1}.items():
        np.testing.assert_array_equal(NORMALIZERS[name][0](zeros), zeros + expected, err_msg=name)


def test_the_gradient_has_no_part_along_the_scores_that_are_only_scaled(float64, logits):
    for name in ("l1_mean", "logit"):
        gradient = gradients(name, logits)
        np.testing.assert_allclose((np.asarray(gradient) * logits).sum(-1), 0, atol=1e-13)


def test_a_traced_temperature_equals_a_number(logits):
    logits = np.float32(logits)
    np.testing.assert_allclose(divided(logits, TAU), NORMALIZERS["logit"][0](logits), rtol=1e-6)


@pytest.mark.parametrize(
    "bad", [0, -1.0, float("nan"), np.float64(-0.5), np.array(0.0), np.inf, 1e39]
)
def test_a_temperature_that_is_not_positive_raises(logits, bad):
    with pytest.raises(ValueError, match="temperature must be above 0 and finite, got"):
        logit_normalize(np.float32(logits), temperature=bad)


@pytest.mark.parametrize("bad", [np.full(6, 0.5), np.full((6, 1), 0.5)])
def test_a_temperature_that_is_no_scalar_raises(logits, bad):
    with pytest.raises(ValueError, match="temperature must be a scalar, got shape"):
        logit_normalize(np.float32(logits), temperature=bad)


def test_an_array_temperature_that_is_not_positive_gives_nan(logits):
    for bad in (-1.0, 0.0, np.nan):
        assert np.isnan(divided(np.float32(logits), bad)).all()


def test_integer_logits_and_an_axis_that_is_not_there_raise(pair, logits):
    normalize, _ = pair
    with pytest.raises(ValueError, match="logits must be floating, got int32"):
        normalize(np.zeros((2, 3), np.int32))
    with pytest.raises(ValueError, match="axis must be an axis of logits .*, got 2"):
        normalize(np.float32(logits), axis=2)
