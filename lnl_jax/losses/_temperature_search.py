"""The search for the temperature of ALDR-KL: the best of the fixed points of T.

Temperatures are relative to the initial one, u = lambda / lambda_0, and scores are divided by it
and counted from the largest, so that a fixed point is u = T(u) = 1 - slope * KL(softmax(scores / u)
|| uniform). T increases, maps [lowest, 1] into itself, and can have several fixed points. The
objective has the slope T(u) - u, up to a factor, so that its maxima are where that falls through 0.

All of it depends on the scores through the KL as a function of u, which is smooth: at 1000 classes
nothing in it is narrower than about a third of u. So a few exact values with their slopes, and
cubics between them, show where the maxima are; exact values there mend the cubics. Each exact value
costs a pass over the classes. Their number is fixed: with a stopping rule, devices that share a
batch would have to ask each other in every pass whether they are done.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

# Exact values at first; then follow those at the two best maxima, and one more at the better.
_FIRST = 4
# Into so many parts is each cubic divided to find where it falls through 0.
_PARTS = 8
_NEWTON_STEPS = 3


# Control flow is compiled afresh at every eager call unless the function around it is jitted.
@jax.jit
def adapted_temperature(scores: Array, slope: Array, lowest: Array, log_count: Array) -> Array:
    """The fixed point of T with the largest objective.

    Args:
        scores: relative to the largest, in units of the initial temperature, ``[..., K]``; -inf
            for classes that take no part.
        slope: of T with respect to the KL, as a positive number, ``[...]``.
        lowest: a bound from below on T, ``[...]``.
        log_count: the logarithm of the number of classes.

    Returns:
        u, ``[...]``.
    """
    # Below the floor an exponential is lost in the sum, and squares would overflow.
    floor = math.log(float(jnp.finfo(scores.dtype).tiny)) + 10
    scores = jnp.maximum(scores, floor)

    def knots_at(u: Array) -> _Knots:
        return jax.lax.map(lambda u: _exact(scores, u, log_count), u)

    def image(u: Array) -> Array:
        return 1 - slope * _exact(scores, u, log_count).divergence

    # All fixed points are between the images of the ends.
    low, high = jax.lax.map(image, jnp.stack([lowest, jnp.ones_like(lowest)]))
    low = jnp.clip(low, lowest, 1)
    knots = knots_at(_geometric(low, jnp.clip(high, low, 1)))
    knots = _merged(knots, knots_at(_best_maxima(knots, slope)[0]))
    knots = _merged(knots, knots_at(_best(knots, slope)[None]))
    return _best(knots, slope)


class _Knots(NamedTuple):
    """Exact values at increasing u, ``[n, ...]``."""

    u: Array
    tempered: Array  # u times the log of the mean exponential of the scores / u; its slope is -KL
    divergence: Array  # the KL
    fall: Array  # its slope in u, negative


def _exact(scores: Array, u: Array, log_count: Array) -> _Knots:
    beta = 1 / u
    mass = jnp.exp(scores * beta[..., None])
    total = mass.sum(-1)
    mean = (mass * scores).sum(-1) * beta / total
    square = (mass * (scores * scores)).sum(-1) * beta**2 / total
    log_mass = jnp.log(total) - log_count
    variance = jnp.maximum(square - mean**2, 0)
    return _Knots(u, u * log_mass, jnp.maximum(mean - log_mass, 0), -variance * beta)


def _geometric(low: Array, high: Array) -> Array:
    """What happens between temperatures depends on their ratio."""
    ratio = high / low
    between = [low * ratio ** (i / (_FIRST - 1)) for i in range(1, _FIRST - 1)]
    return jnp.stack([low, *between, high])


def _merged(knots: _Knots, others: _Knots) -> _Knots:
    joined = jax.tree.map(lambda *both: jnp.concatenate(both), knots, others)
    return _Knots(*jax.lax.sort(tuple(joined), dimension=0, num_keys=1))


class _Cubic(NamedTuple):
    """Between two knots, as a function of t from 0 to 1."""

    left: _Knots
    right: _Knots

    @property
    def width(self) -> Array:
        return self.right.u - self.left.u

    def u(self, t: Array) -> Array:
        return self.left.u + t * self.width

    def divergence(self, t: Array) -> tuple[Array, Array, Array]:
        """The KL, its slope in t, and its integral from 0 to t."""
        start, slope = self.left.divergence, self.width * self.left.fall
        change, end_slope = self.right.divergence - start, self.width * self.right.fall
        second, third = 3 * change - 2 * slope - end_slope, slope + end_slope - 2 * change
        value = start + t * (slope + t * (second + t * third))
        integral = t * (start + t * (slope / 2 + t * (second / 3 + t * third / 4)))
        return value, slope + t * (2 * second + 3 * t * third), integral

    def climb(self, t: Array, slope: Array) -> tuple[Array, Array]:
        """T(u) - u and its slope in t."""
        value, change, _ = self.divergence(t)
        return 1 - slope * value - self.u(t), -slope * change - self.width

    def objective(self, t: Array, slope: Array) -> Array:
        """Up to a constant and a factor."""
        _, _, integral = self.divergence(t)
        tempered = self.left.tempered - self.width * integral
        return slope * tempered - (self.u(t) - 1) ** 2 / 2


def _best(knots: _Knots, slope: Array) -> Array:
    u, objective = _best_maxima(knots, slope)
    return jnp.where(objective[1] > objective[0], u[1], u[0])


def _best_maxima(knots: _Knots, slope: Array) -> tuple[Array, Array]:
    """U and the objective at the two best maxima, ``[2, ...]``; -inf if there is no second."""
    cubics = _Cubic(*_neighbours(knots))
    per_cubic = jax.tree.map(lambda x: x[:, None], cubics)
    t = jax.lax.broadcasted_iota(slope.dtype, (1, _PARTS, *slope.shape), 1) / _PARTS
    climb = per_cubic.climb(t, slope[None, None])[0]
    # Not -1 for their number, which is unknown in a batch without examples.
    climb = climb.reshape(climb.shape[0] * _PARTS, *slope.shape)
    objective = per_cubic.objective(t, slope[None, None]).reshape(climb.shape)
    # T maps the whole interval into itself, which rounding must not hide.
    rises = jnp.concatenate([jnp.ones_like(climb[:1], bool), climb[1:] > 0])
    falls = jnp.concatenate([~rises[1:], jnp.ones_like(rises[:1])])
    objective = jnp.where(rises & falls, objective, -jnp.inf)
    best = objective.argmax(0)[None]
    parts = jax.lax.broadcasted_iota(best.dtype, climb.shape, 0)
    others = jnp.where(parts == best, -jnp.inf, objective)
    both = jnp.concatenate([best, others.argmax(0)[None]])
    u, objective = _polished(cubics, both, slope[None])
    # Close to the best, any other place rounds to the same objective.
    second = jnp.where(others.max(0)[None] > -jnp.inf, objective[1:], -jnp.inf)
    return u, jnp.concatenate([objective[:1], second])


def _neighbours(knots: _Knots) -> tuple[_Knots, _Knots]:
    return jax.tree.map(lambda x: x[:-1], knots), jax.tree.map(lambda x: x[1:], knots)


def _polished(cubics: _Cubic, parts: Array, slope: Array) -> tuple[Array, Array]:
    """U and the objective where T(u) - u falls through 0 within these parts, ``[2, ...]``."""
    which = parts[:, None] // _PARTS
    mask = which == jax.lax.broadcasted_iota(parts.dtype, (2, *cubics.width.shape), 1)
    # Of few values all are looked at: a lookup would have to be told how the batch is split.
    cubic = jax.tree.map(lambda x: jnp.where(mask, x[None], 0).sum(1), cubics)
    start = (parts % _PARTS).astype(slope.dtype) / _PARTS
    t = start + 0.5 / _PARTS
    for _ in range(_NEWTON_STEPS):
        climb, change = cubic.climb(t, slope)
        step = jnp.where(change < 0, climb / jnp.where(change < 0, change, -1), 0)
        t = jnp.clip(t - step, start, start + 1 / _PARTS)
    return cubic.u(t), cubic.objective(t, slope)
