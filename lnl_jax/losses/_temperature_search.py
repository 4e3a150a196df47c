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

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# Exact values at first; then follow those at the two best maxima, and one more at the better.
_FIRST = 4
# Into so many parts is each cubic divided to find where it falls through 0.
_PARTS = 8
_NEWTON_STEPS = 3
# Up to so many classes, sums over them vectorise along the examples.
_FEW_CLASSES = 24


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
    sums = functools.partial(_sums_of_many, scores)
    if scores.shape[-1] <= _FEW_CLASSES:
        sums = functools.partial(_sums_of_few, jnp.moveaxis(scores, -1, 0))

    def knots_at(u: Array) -> _Knots:
        return jax.lax.map(lambda u: _exact(sums, u, log_count), u)

    def image(u: Array) -> Array:
        return 1 - slope * _exact(sums, u, log_count).divergence

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


def _exact(sums: Callable, u: Array, log_count: Array) -> _Knots:
    beta = 1 / u
    total, mean, square = sums(beta)
    mean, square = mean * beta / total, square * beta**2 / total
    log_mass = jnp.log(total) - log_count
    variance = jnp.maximum(square - mean**2, 0)
    return _Knots(u, u * log_mass, jnp.maximum(mean - log_mass, 0), -variance * beta)


def _sums_of_many(scores: Array, beta: Array) -> tuple[Array, Array, Array]:
    """Over the classes, ``[..., K]``: the masses, with the scores and with their squares."""
    mass = jnp.exp(scores * beta[..., None])
    return mass.sum(-1), (mass * scores).sum(-1), (mass * (scores * scores)).sum(-1)


def _sums_of_few(scores: Array, beta: Array) -> tuple[Array, Array, Array]:
    """The same of ``[K, ...]``, for which many classes would have to be turned."""
    mass = jnp.exp(scores * beta[None])
    # In one pass: as sums of their own they take a CPU fifteen times as long.
    return jax.lax.reduce(
        (mass, mass * scores, mass * (scores * scores)),
        (jnp.zeros((), mass.dtype),) * 3,
        lambda sums, values: tuple(map(jnp.add, sums, values)),
        (0,),
    )


def _geometric(low: Array, high: Array) -> Array:
    """What happens between temperatures depends on their ratio."""
    ratio = high / low
    between = [low * ratio ** (i / (_FIRST - 1)) for i in range(1, _FIRST - 1)]
    return jnp.stack([low, *between, high])


def _merged(knots: _Knots, others: _Knots) -> _Knots:
    """In the order of u. Counting vectorises, which a sort on a CPU does not."""
    joined = jax.tree.map(lambda *both: jnp.concatenate(both), knots, others)
    count = len(joined.u)
    before = joined.u[:, None] > joined.u[None]
    # Of equals the first stays before the other.
    earlier = (joined.u[:, None] == joined.u[None]) & _are_earlier(count, joined.u.ndim)
    places = jax.lax.optimization_barrier((before | earlier).sum(1, dtype=jnp.int32))
    wanted = jax.lax.broadcasted_iota(jnp.int32, joined.u.shape, 0)
    ordered = joined
    for at in range(count):
        here = places[at][None] == wanted
        ordered = jax.tree.map(
            lambda x, y, at=at, here=here: jnp.where(here, x[at][None], y), joined, ordered
        )
    return jax.lax.optimization_barrier(ordered)


def _are_earlier(count: int, rank: int) -> np.ndarray:
    return np.tri(count, k=-1, dtype=bool).reshape(count, count, *[1] * (rank - 1))


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

    def polynomials(self, slope: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """The coefficients in t of T(u) - u and of the objective, from that of the constant on."""
        width, beyond = self.width, self.left.u - 1
        start, first = self.left.divergence, self.width * self.left.fall
        change, end_slope = self.right.divergence - start, self.width * self.right.fall
        second, third = 3 * change - 2 * first - end_slope, first + end_slope - 2 * change
        slope = slope[None]
        climb = (-beyond - slope * start, -width - slope * first, -slope * second, -slope * third)
        scaled = slope * width
        objective = (
            slope * self.left.tempered - beyond**2 / 2,
            -scaled * start - beyond * width,
            -(scaled * first + width**2) / 2,
            -scaled * second / 3,
            -scaled * third / 4,
        )
        return climb, objective

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
    none = jnp.full_like(slope, -jnp.inf)
    nowhere = jnp.zeros_like(slope, jnp.int32)
    ranked = _Ranked(none, nowhere, none, nowhere)
    start = (jnp.zeros_like(slope, bool), none, ranked)
    of_cubics = (jnp.arange(len(cubics.width), dtype=jnp.int32), *cubics.polynomials(slope))
    (rises, objective, ranked), _ = jax.lax.scan(_look_through, start, of_cubics)
    last = len(cubics.width) * _PARTS - 1
    ranked = ranked.with_one_more(rises, objective, last)
    both = jnp.stack([ranked.best_part, ranked.second_part])
    u, objective = _polished(cubics, jax.lax.optimization_barrier(both), slope[None])
    # Close to the best, any other place rounds to the same objective.
    second = jnp.where(ranked.second > -jnp.inf, objective[1], -jnp.inf)
    return u, jnp.stack([objective[0], second])


class _Ranked(NamedTuple):
    """The objective where two maxima begin, and in which of the parts that is."""

    best: Array
    best_part: Array
    second: Array
    second_part: Array

    def with_one_more(self, there: Array, objective: Array, part: int | Array) -> "_Ranked":
        """With a maximum in a part where there is one; of equals the first stays."""
        first = there & (objective > self.best)
        later = there & ~first & (objective > self.second)
        return _Ranked(
            jnp.where(first, objective, self.best),
            jnp.where(first, part, self.best_part),
            jnp.where(first, self.best, jnp.where(later, objective, self.second)),
            jnp.where(first, self.best_part, jnp.where(later, part, self.second_part)),
        )


def _look_through(carried: tuple, of_cubic: tuple) -> tuple[tuple, None]:
    """The parts of one cubic: a maximum is where T(u) - u falls through 0.

    Part after part of an example, not example after example of a part: what is known of the cubic
    is read once.
    """
    rises, objective, ranked = carried
    index, climb, height = of_cubic
    for part in range(_PARTS):
        rise = _polynomial(climb, part / _PARTS) > 0
        if part == 0:
            # T maps the whole interval into itself, which rounding must not hide.
            rise = rise | (index == 0)
        ranked = ranked.with_one_more(rises & ~rise, objective, index * _PARTS + part - 1)
        rises, objective = rise, _polynomial(height, part / _PARTS)
    return (rises, objective, ranked), None


def _polynomial(coefficients: tuple[Array, ...], t: float) -> Array:
    """From that of the constant on."""
    *rest, value = coefficients
    for coefficient in reversed(rest):
        value = coefficient + t * value
    return value


def _neighbours(knots: _Knots) -> tuple[_Knots, _Knots]:
    return jax.tree.map(lambda x: x[:-1], knots), jax.tree.map(lambda x: x[1:], knots)


def _polished(cubics: _Cubic, parts: Array, slope: Array) -> tuple[Array, Array]:
    """U and the objective where T(u) - u falls through 0 within these parts, ``[2, ...]``."""
    which = parts // _PARTS
    # Of few values all are looked at: a lookup would have to be told how the batch is split.
    cubic = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], which.shape), cubics)
    for index in range(1, len(cubics.width)):
        here = which == index
        cubic = jax.tree.map(
            lambda x, y, at=index, here=here: jnp.where(here, x[at][None], y), cubics, cubic
        )
    start = (parts % _PARTS).astype(slope.dtype) / _PARTS
    t = start + 0.5 / _PARTS
    for _ in range(_NEWTON_STEPS):
        climb, change = cubic.climb(t, slope)
        step = jnp.where(change < 0, climb / jnp.where(change < 0, change, -1), 0)
        t = jnp.clip(t - step, start, start + 1 / _PARTS)
    return cubic.u(t), cubic.objective(t, slope)
