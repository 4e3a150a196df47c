"""The search for the temperature of ALDR-KL: fixed points of T, reached without crossing any.

Temperatures are relative to the initial one, u = lambda / lambda_0, and scores are divided by it
and counted from the largest, so that a fixed point is u = T(u) = 1 - slope * KL(softmax(scores / u)
|| uniform). T increases, maps [lowest, 1] into itself, and can have several fixed points.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

# Relative to the initial temperature; about what float32 resolves.
_TOLERANCE = 1e-6
# Newton's error is of the order of the square of its step.
_SMALL_STEP = 3e-4
# Rows with two nearly equal fixed points converge linearly; these are ample.
_MAX_PASSES = 100
# A slope beyond any that occurs, finite so that it can be multiplied by 0.
_UNKNOWN = 1e30


# Control flow is compiled afresh at every eager call unless the function around it is jitted.
@jax.jit
def adapted_temperature(scores: Array, slope: Array, lowest: Array, log_count: Array) -> Array:
    """The better of the largest and the smallest fixed point of T.

    Args:
        scores: relative to the largest, in units of the initial temperature, ``[..., K]``; -inf
            for classes that take no part.
        slope: of T with respect to the KL, as a positive number, ``[...]``.
        lowest: a bound from below on T, ``[...]``.
        log_count: the logarithm of the number of classes.

    Returns:
        u, ``[...]``, within about 1e-6.
    """
    # Below the floor an exponential is lost in the sum, and squares would overflow.
    floor = math.log(float(jnp.finfo(scores.dtype).tiny)) + 10
    scores = jnp.maximum(scores, floor)

    def unfinished(carry):
        passes, *_, moving = carry
        return moving.any() & (passes < _MAX_PASSES)

    def close_in(carry):
        passes, upper, new_upper, lower, new_lower, _ = carry
        upper = _tightened(upper, _moments(scores, new_upper, log_count, upper.tilt), jnp.maximum)
        lower = _tightened(lower, _moments(scores, new_lower, log_count, lower.tilt), jnp.minimum)
        new_upper, new_lower, unsure = _certified_steps(upper, lower, slope)
        step = jnp.maximum(upper.u - new_upper, new_lower - lower.u)
        apart = new_upper - new_lower > _TOLERANCE
        moving = apart & ((unsure > _TOLERANCE) | (step > _SMALL_STEP))
        return passes + 1, upper, new_upper, lower, new_lower, moving

    one, zero = jnp.ones_like(slope), jnp.zeros_like(slope)
    # No moments are known yet: a variance of 0 says so to _tightened.
    upper = _End(one, zero, zero, zero, -_UNKNOWN * one)
    lower = _End(one, zero, zero, zero, _UNKNOWN * one)
    start = (0, upper, one, lower, lowest, one > 0)
    _, upper, u_upper, lower, u_lower, _ = jax.lax.while_loop(unfinished, close_in, start)
    return jnp.where(_objective(lower, slope) > _objective(upper, slope), u_lower, u_upper)


class _End(NamedTuple):
    """One end of the interval that holds the fixed points, and the scores' moments there."""

    u: Array
    log_mass: Array  # log of the mean exponential of the scores / u
    mean: Array  # of the scores / u, under their softmax
    variance: Array
    tilt: Array  # bound on the slope of log variance + 2 log mass in beta = 1 / u; see _rates

    @property
    def divergence(self) -> Array:
        """KL to the uniform distribution."""
        return jnp.maximum(self.mean - self.log_mass, 0)


def _moments(scores: Array, u: Array, log_count: Array, tilt: Array) -> _End:
    beta = 1 / u
    mass = jnp.exp(scores * beta[..., None])
    total = mass.sum(-1)
    mean = (mass * scores).sum(-1) * beta / total
    # XLA on CPU fuses three such sums into one sweep each; with a fourth, such as the skewness,
    # it would write the exponentials out at three times the cost.
    square = (mass * (scores * scores)).sum(-1) * beta**2 / total
    return _End(u, jnp.log(total) - log_count, mean, jnp.maximum(square - mean**2, 0), tilt)


def _objective(end: _End, slope: Array) -> Array:
    """The objective up to a constant; near a fixed point the last step changes it to 2nd order."""
    return end.u * end.log_mass - (end.u - 1) ** 2 / (2 * slope)


def _tightened(before: _End, now: _End, better: Callable) -> _End:
    """Replaces the bound on the tilt at this end by its mean over the last step, if better."""
    step = 1 / now.u - 1 / before.u
    # Differences of rounded numbers say nothing over a short step or about a lost variance.
    known = jnp.abs(step) > 1e-2
    for end in (before, now):
        known &= end.variance > 1e-3 * end.mean**2
    change = jnp.log(jnp.where(known, now.variance * now.u**2, 1))
    change -= jnp.log(jnp.where(known, before.variance * before.u**2, 1))
    change += 2 * (now.log_mass - before.log_mass)
    mean_tilt = change / jnp.where(known, step, 1)
    return now._replace(tilt=jnp.where(known, better(now.tilt, mean_tilt), now.tilt))


def _certified_steps(upper: _End, lower: _End, slope: Array) -> tuple[Array, Array, Array]:
    """Moves both ends towards each other without crossing a fixed point; says how sure that was."""
    rate_down, rate_up = _rates(upper, lower)
    new_upper, error_above = _step_down(upper, lower.u, rate_down, slope)
    new_lower, error_below = _step_up(lower, upper.u, rate_up, slope)
    # Certified ends cannot cross; rounded ones can, and then they have met.
    new_upper = jnp.clip(new_upper, lower.u, upper.u)
    new_lower = jnp.clip(new_lower, lower.u, new_upper)
    return new_upper, new_lower, jnp.maximum(error_above, error_below)


def _rates(upper: _End, lower: _End) -> tuple[Array, Array]:
    r"""How fast, at most, the variance V falls from either end towards the other.

    In :math:`\beta = 1 / u` the KL has the slope :math:`\beta V`, so a bound from below on V bounds
    T. With A the log-partition function, :math:`V(\beta) e^{2 A(\beta)}` is up to a constant
    :math:`\sum_{jk} (\delta_j - \delta_k)^2 e^{\beta (\delta_j + \delta_k)}`: its logarithm is
    convex, so V falls from one end at most as :math:`e^{(t - 2 a) h}`, with t the tilt of that
    logarithm there and a the slope of A, itself convex, between the ends. The tilt grows with
    beta, so that its mean over an earlier step bounds it on the right side.
    """
    distance = jnp.maximum(1 / lower.u - 1 / upper.u, 0)
    chord = (lower.log_mass - upper.log_mass) / jnp.where(distance > 0, distance, 1)
    # Rounding must not move the chord out of the slopes at its ends.
    chord = jnp.clip(chord, upper.mean * upper.u, lower.mean * lower.u)
    return (2 * chord - upper.tilt) / upper.u, (lower.tilt - 2 * chord) / lower.u


def _step_down(upper: _End, limit: Array, rate: Array, slope: Array) -> tuple[Array, Array]:
    """From above the largest fixed point, towards it."""
    newton = _bound_down(upper, limit, 1.0, slope)
    certified = _bound_down(upper, newton, _kept(rate * (upper.u / newton - 1)), slope)
    return certified, certified - newton


def _bound_down(upper: _End, limit: Array, kept: Array | float, slope: Array) -> Array:
    root, exists, total = _bounded_root(upper, kept, slope)
    # From the near side of both roots the bound never meets the diagonal.
    return jnp.where(exists & (2 * upper.u >= total), jnp.maximum(root, limit), limit)


def _step_up(lower: _End, limit: Array, rate: Array, slope: Array) -> tuple[Array, Array]:
    """From below the smallest fixed point, towards it."""
    newton = _bound_up(lower, limit, 1.0, slope)
    step = 1 - lower.u / newton
    certified = _bound_up(lower, newton, _kept(rate * step) * (1 - step), slope)
    return certified, newton - certified


def _bound_up(lower: _End, limit: Array, kept: Array | float, slope: Array) -> Array:
    root, exists, _ = _bounded_root(lower, kept, slope)
    return jnp.where(exists, jnp.minimum(root, limit), limit)


def _kept(decay: Array) -> Array:
    """The mean of exp(-x) for x from 0 to `decay`: how much of V to count on over a step."""
    decay = jnp.maximum(decay, 0)
    return jnp.where(decay > 1e-3, -jnp.expm1(-decay) / jnp.maximum(decay, 1e-3), 1 - decay / 2)


def _bounded_root(end: _End, kept: Array | float, slope: Array) -> tuple[Array, Array, Array]:
    """Where T meets u for a KL linear in beta: the larger root, if any exists, the sum of both."""
    drop = slope * kept * end.variance
    total = 1 - slope * end.divergence + drop
    discriminant = total**2 / 4 - drop * end.u
    return total / 2 + jnp.sqrt(jnp.maximum(discriminant, 0)), discriminant >= 0, total
