"""First and second derivatives of the values in float64 against differences and definitions."""

import functools

import jax
import numpy as np
import pytest
from scipy import special

from lnl_jax import reweighting

STEP = 1e-5
VALUES = {
    "kl_dro": (reweighting.kl_dro_value, {"temperature": 0.7}),
    "kl_dro, cold": (reweighting.kl_dro_value, {"temperature": 0.25}),
    "kl_dro, hot": (reweighting.kl_dro_value, {"temperature": 50.0}),
    "kl_ball": (reweighting.kl_ball_value, {"radius": 0.2}),
    "chi2_ball, all weights positive": (reweighting.chi2_ball_value, {"radius": 0.05}),
    "chi2_ball, some are 0": (reweighting.chi2_ball_value, {"radius": 0.8}),
    "cvar": (reweighting.cvar_value, {"fraction": 0.45}),
}
# Their gradient does not flow; differences would not say so.
HELD = ("radius", "fraction")
# A maximum over weights at a price is smooth in the losses, ties or not.
ROWS = {
    "ordinary": [0.3, 1.2, -0.4, 2.0, 0.9, 1.4],
    "the largest tie": [0.3, 1.9, -0.4, 1.9, 0.9, -0.0],
    "all are 0": [0.0, -0.0, 0.0, 0.0, -0.0, 0.0],
}
WHERE = np.array([True, True, True, True, True, False])


@pytest.mark.parametrize("name", VALUES)
def test_gradient_and_curvature_are_those_of_differences(float64, name):
    function, settings = VALUES[name]
    value = functools.partial(function, where=WHERE)
    kept = ROWS if "kl_dro" in name else {"ordinary": ROWS["ordinary"]}
    losses = np.array(list(kept.values()))
    rng = np.random.default_rng(0)
    direction = {"losses": rng.normal(size=losses.shape)}
    arguments = {"losses": losses}
    for hyperparameter, number in settings.items():
        arguments[hyperparameter] = np.full(len(losses), number)
        moved = 0.0 if hyperparameter in HELD else rng.normal(size=len(losses))
        direction[hyperparameter] = np.full(len(losses), moved)

    @jax.jit
    @jax.vmap
    def evaluate(arguments, direction):
        gradient = jax.grad(lambda arguments: value(**arguments))
        return value(**arguments), *jax.jvp(gradient, (arguments,), (direction,))

    def at(step):
        return evaluate({k: a + step * direction[k] for k, a in arguments.items()}, direction)

    (_, gradient, curvature), below, above = at(0.0), at(-STEP), at(STEP)
    slope = sum(
        (np.asarray(gradient[key]) * d).reshape(len(losses), -1).sum(-1)
        for key, d in direction.items()
    )
    np.testing.assert_allclose(slope, (above[0] - below[0]) / (2 * STEP), rtol=1e-7, atol=1e-9)
    for key, found in curvature.items():
        change = (np.asarray(above[1][key]) - np.asarray(below[1][key])) / (2 * STEP)
        np.testing.assert_allclose(found, change, rtol=1e-6, atol=1e-8, err_msg=key)


def test_the_hessian_at_a_kl_price_is_that_of_a_log_sum_of_exponentials(float64):
    losses = np.array(ROWS["ordinary"])
    hessian = jax.hessian(functools.partial(reweighting.kl_dro_value, temperature=0.7))
    w = special.softmax(losses / 0.7)
    np.testing.assert_allclose(
        jax.jit(hessian)(losses), (np.diag(w) - np.outer(w, w)) / 0.7, rtol=1e-12, atol=1e-15
    )


def test_third_derivatives_in_a_ball_are_those_of_differences(float64):
    losses, direction = np.array(ROWS["ordinary"]), np.array([1.0, -2.0, 0.5, 1.0, 0.3, -1.0])
    for function, radius in ((reweighting.kl_ball_value, 0.2), (reweighting.chi2_ball_value, 0.05)):

        def slope(t, function=function, radius=radius):
            return function(losses + t * direction, radius=radius)

        # Both derivatives of the same program, at three places.
        second_and_third = jax.jit(jax.value_and_grad(jax.grad(jax.grad(slope))))
        (below, _), (_, third), (above, _) = map(second_and_third, (-STEP, 0.0, STEP))
        np.testing.assert_allclose(third, (above - below) / (2 * STEP), rtol=1e-5)


@pytest.mark.parametrize("function", [reweighting.kl_ball_value, reweighting.chi2_ball_value])
def test_equal_losses_at_a_kink_are_treated_alike(float64, function):
    """Around losses that are all equal a ball's value is a norm, without a derivative there."""
    slope = jax.jit(jax.grad(lambda losses, radius: function(losses, radius=radius)))
    for zeros in (np.zeros(4), -np.zeros(4)):
        np.testing.assert_allclose(slope(zeros, 0.3), 0.25, rtol=1e-15)
    # So large a radius leaves only the largest two.
    top = slope(np.array([1.0, 2.0, 2.0, 0.0]), 3.0)
    np.testing.assert_allclose(top, [0, 0.5, 0.5, 0], atol=1e-15)


def test_losses_that_tie_at_the_boundary_share_what_remains(float64):
    slope = jax.jit(jax.grad(functools.partial(reweighting.cvar_value, fraction=0.5)))
    np.testing.assert_allclose(slope(np.array([1.0, 2.0, 1.0, 0.0])), [0.25, 0.5, 0.25, 0])
