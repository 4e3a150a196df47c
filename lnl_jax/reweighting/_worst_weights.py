"""The worst weights of the examples of a batch, and what the functions that use them share.

The weights move with the losses: their derivative is the second one of the value, of which the
first is the weights themselves (Danskin). Public weights are held. ``B`` is the batch size.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import computation_dtype, in_range, not_a_number, refuse_explicit_mesh


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """The losses of a batch, in the dtype of the computation.

    Attributes:
        losses: ``[B]``; 0 where one is masked or not finite.
        given: the examples that `where` includes, ``[B]``.
        included: the same, but all of them where none is, so that nothing divides by zero, ``[B]``.
        broken: whether a given loss is not finite.
        dtype: the dtype of the caller's losses.
    """

    losses: Array
    given: Array
    included: Array
    broken: Array
    dtype: np.dtype = dataclasses.field(metadata={"static": True})


def read_batch(losses: Array, where: Array | None) -> Batch:
    """Checks `losses` and `where` and makes them safe to compute with.

    Raises:
        ValueError: if they are no floating ``[B]`` and boolean ``[B]``.
    """
    losses = jnp.asarray(losses)
    if losses.ndim != 1 or losses.size == 0 or not jnp.issubdtype(losses.dtype, jnp.floating):
        raise ValueError(
            "losses must be floating with one value per example, shape [B]; got "
            f"{losses.dtype} of shape {losses.shape}."
        )
    # Made from the losses, so that loops in `shard_map` know that it differs between devices.
    given = jnp.ones_like(losses, bool)
    if where is not None:
        where = jnp.asarray(where)
        if where.dtype != bool or where.shape != losses.shape:
            raise ValueError(
                f"where must be boolean of shape {losses.shape}, as losses have; got "
                f"{where.dtype} of shape {where.shape}."
            )
        given &= where
    finite = jnp.isfinite(losses)
    safe = jnp.where(given & finite, losses, 0).astype(computation_dtype(losses.dtype))
    return Batch(safe, given, given | ~given.any(), (given & ~finite).any(), losses.dtype)


def read_scalar(name: str, value: ArrayLike, batch: Batch, **bounds: float) -> Array:
    """A scalar in the dtype of the computation; see `in_range`.

    Raises:
        ValueError: for another shape, or a number out of range.
    """
    if np.shape(value) != ():
        raise ValueError(f"{name} must be a scalar, got shape {np.shape(value)}.")
    return in_range(name, value, batch.losses.dtype, **bounds)


class Weighted(NamedTuple):
    """A batch and its weights, in the dtype of the computation, ``[B]``."""

    batch: Batch
    weights: Array

    @property
    def public(self) -> Array:
        return jax.lax.stop_gradient(self.weights).astype(self.batch.dtype)

    @property
    def value(self) -> Array:
        return _weighted_sum(self.weights, self.batch.losses).astype(self.batch.dtype)


@jax.custom_jvp
def _weighted_sum(weights: Array, losses: Array) -> Array:
    """At a maximum: what the weights add to the slope is 0, but not what they add to its slope."""
    return (weights * losses).sum()


@_weighted_sum.defjvp
def _weighted_sum_jvp(primals, tangents):
    weights, _ = primals
    return _weighted_sum(*primals), (weights * tangents[1]).sum()


def weigh(batch: Batch, weights: Array, hyperparameter: Array) -> Weighted:
    """NaN where a loss is broken or the hyperparameter out of range, 0 where one is masked."""
    weights = jnp.where(
        batch.broken | jnp.isnan(hyperparameter), not_a_number(weights.dtype), weights
    )
    return Weighted(batch, jnp.where(batch.given, weights, 0))


def kl_penalty(batch: Batch, temperature: Array) -> Array:
    """The maximum over the simplex of the weighted mean less a KL penalty."""
    return _kl_penalty(batch, temperature)


@jax.custom_jvp
def _kl_penalty(batch: Batch, temperature: Array) -> Array:
    gaps, largest, _ = _below_the_largest(batch)
    temperature = _between_extremes(batch, temperature)
    scaled = gaps / temperature
    mean = jnp.exp(scaled).mean(where=batch.included)
    # Near 1 the logarithm would lose what the temperature then multiplies.
    below = jnp.expm1(scaled).mean(where=batch.included)
    log_mean = jnp.where(mean > 0.5, jnp.log1p(below), jnp.log(mean))
    return largest + temperature * log_mean


@_kl_penalty.defjvp
def _kl_penalty_jvp(primals, tangents):
    batch, temperature = primals
    batch_dot, temperature_dot = tangents
    scaled = _penalised_scores(batch, temperature)
    weights = jnp.where(batch.given, jax.nn.softmax(scaled, where=batch.included), 0)
    divergence = _kl_from_uniform(scaled, batch.included)
    slope = (weights * batch_dot.losses).sum() - divergence * temperature_dot
    return _kl_penalty(batch, temperature), slope


def kl_penalty_weights(batch: Batch, temperature: Array) -> Array:
    """Where :func:`kl_penalty` takes its maximum, ``[B]``."""
    return jax.nn.softmax(_penalised_scores(batch, temperature), where=batch.included)


def _penalised_scores(batch: Batch, temperature: Array) -> Array:
    gaps, _, _ = _below_the_largest(batch)
    return gaps / _between_extremes(batch, temperature)


def _between_extremes(batch: Batch, temperature: Array) -> Array:
    """Beyond them the weights are uniform, or all on the maximum, to rounding.

    Within them no gap is lost when it is divided.
    """
    _, _, spread = _below_the_largest(batch)
    limits = jnp.finfo(spread.dtype)
    highest = jnp.where(spread > 0, spread, 1) / float(limits.eps)
    return jnp.clip(temperature, float(limits.tiny), highest)


def kl_ball(batch: Batch, radius: Array) -> Array:
    """The maximiser over the simplex within a KL ball around the uniform weights, ``[B]``."""
    radius = jax.lax.stop_gradient(radius)
    return _kl_ball(batch.losses, batch.included, radius)[0]


@jax.custom_jvp
def _kl_ball(losses: Array, included: Array, radius: Array) -> tuple[Array, Array]:
    """The weights, a softmax, and its inverse temperature; 0 where they do not move."""
    gaps, spread = _unit_gaps(losses, included)
    weights, inverse_temperature = _bisected(gaps, included, radius)
    return weights, inverse_temperature / jnp.where(spread > 0, spread, 1)


@_kl_ball.defjvp
def _kl_ball_jvp(primals, tangents):
    r"""By the implicit function theorem.

    :math:`d \log w = \beta\, d\ell + \ell\, d\beta` up to a constant, and the divergence stays
    for :math:`d\beta = -\beta\, \mathrm{cov}(\ell, d\ell) / \mathrm{var}(\ell)`.
    """
    losses, included, _ = primals
    weights, inverse_temperature = _kl_ball(*primals)
    gaps, spread = _unit_gaps(losses, included)
    gaps -= (weights * gaps).sum()
    moved = jnp.where(included, tangents[0], 0)
    moved -= (weights * moved).sum()
    variance = (weights * gaps**2).sum()
    ratio = (weights * gaps * moved).sum() / jnp.where(variance > 0, variance, 1)
    change = inverse_temperature * weights * (moved - ratio * gaps)
    return (weights, inverse_temperature), (
        change,
        -inverse_temperature * ratio / jnp.where(spread > 0, spread, 1),
    )


# Control flow is compiled afresh at every eager call unless the function around it is jitted.
@jax.jit
def _bisected(gaps: Array, included: Array, radius: Array) -> tuple[Array, Array]:
    """The weights, and the inverse temperature found by bisection of its logarithm."""
    limits = jnp.finfo(gaps.dtype)

    def halve(_, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = jnp.sqrt(low) * jnp.sqrt(high)
        inside = _kl_from_uniform(gaps * middle, included) < radius
        return jnp.where(inside, middle, low), jnp.where(inside, high, middle)

    # The variance of gaps in [-1, 0] is at most 1/4, so the divergence at most an eighth of the
    # square. The zeros are for `shard_map`, where the ends vary as the gaps do.
    low = jnp.sqrt(8 * radius) + jnp.zeros_like(gaps).max()
    high = jnp.full_like(low, 1 / float(limits.tiny))
    # The logarithms of the ends are less than 2**8 apart in float32, 2**11 in float64.
    steps = limits.nmant + limits.nexp
    inverse_temperature, _ = jax.lax.fori_loop(0, steps, halve, (low, high))
    weights = jax.nn.softmax(gaps * inverse_temperature, where=included)
    tied = included & (gaps == 0)
    share = 1 / tied.sum().astype(gaps.dtype)
    saturated = radius >= jnp.log(included.sum().astype(gaps.dtype) * share)
    weights = jnp.where(saturated, jnp.where(tied, share, 0), weights)
    return weights, jnp.where(saturated, 0, inverse_temperature)


def _kl_from_uniform(scores: Array, included: Array) -> Array:
    """The divergence of softmax(scores) from uniform, for scores of which the largest is 0.

    As the mean of r log r - (r - 1), r = n w, of which no term is negative: where all weights are
    nearly equal the difference of two entropies would be lost to rounding.
    """
    mass = jnp.exp(scores)
    ratio = mass / mass.mean(where=included)
    # Not `xlogy`, whose slope at 0 is infinite.
    log_ratio = jnp.log(jnp.where(ratio > 0, ratio, 1))
    return (ratio * log_ratio - (ratio - 1)).mean(where=included)


def chi2_ball(batch: Batch, radius: Array) -> Array:
    """The maximiser over the simplex within a chi-squared ball around uniform weights, ``[B]``."""
    return _chi2_ball(batch.losses, batch.included, jax.lax.stop_gradient(radius))


@jax.custom_jvp
def _chi2_ball(losses: Array, included: Array, radius: Array) -> Array:
    return _without_negative_weights(_unit_gaps(losses, included)[0], included, radius)


@_chi2_ball.defjvp
def _chi2_ball_jvp(primals, tangents):
    """On the support they are a constant plus the offset of the losses at a constant length."""
    losses, included, _ = primals
    weights = _chi2_ball(*primals)
    gaps, spread = _unit_gaps(losses, included)
    support = included & (weights > 0)
    size = support.sum().astype(gaps.dtype)

    def offset(values: Array) -> Array:
        values = jnp.where(support, values, 0)
        return jnp.where(support, values - values.sum() / size, 0)

    tilt, gaps, moved = offset(weights), offset(gaps), offset(tangents[0])
    length, square = (tilt * tilt).sum(), (gaps * gaps).sum()
    slope = (tilt * gaps).sum() / jnp.where(square > 0, square * spread, 1)
    along = (tilt * moved).sum() / jnp.where(length > 0, length, 1)
    return weights, slope * (moved - along * tilt)


@jax.jit
def _without_negative_weights(gaps: Array, included: Array, radius: Array) -> Array:
    r"""Without the bounds at 0 the maximiser is linear in the gaps, in closed form.

    What that makes negative is left out, until nothing is. The threshold :math:`\eta`, below which
    it is negative, is never above the right one as long as the support holds the right one: the
    gaps below it only add to the second moment and take from the first. So nothing is left out
    that should stay. Equal gaps go together.
    """
    count = included.sum().astype(gaps.dtype)
    # No weights are further from uniform than a single 1.
    room = jnp.minimum(2 * radius, count - 1)

    def on(support: Array) -> Array:
        size = support.sum().astype(gaps.dtype)
        offset = jnp.where(support, gaps - gaps.mean(where=support), 0)
        # Again, as the rounding of the mean counts as often as there are examples.
        offset = jnp.where(support, offset - offset.mean(where=support), 0)
        scale = jnp.abs(offset).max()
        offset = jnp.where(scale > 0, offset / scale, 0)
        left = jnp.maximum(room - (count - size) / size, 0) / count
        slope = jnp.sqrt(left / jnp.maximum((offset**2).sum(), 1))
        return jnp.where(support, 1 / size + slope * offset, 0)

    def unfinished(carry: tuple[Array, Array]) -> Array:
        return (carry[1] < 0).any()

    def shrink(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        support, weights = carry
        support &= weights >= 0
        return support, on(support)

    return jax.lax.while_loop(unfinished, shrink, (included, on(included)))[1]


def cvar(batch: Batch, fraction: Array) -> Array:
    """The maximiser over the simplex with weights of at most 1 / (fraction n), ``[B]``."""
    refuse_explicit_mesh(losses=batch.losses)
    losses, included, fraction = jax.lax.stop_gradient((batch.losses, batch.included, fraction))
    count = included.sum()
    # How many examples share the weight; from one down, the largest loss has it all.
    sharing = jnp.maximum(fraction * count.astype(losses.dtype), 1)
    ranked = jnp.sort(jnp.where(included, losses, -jnp.inf), descending=True)
    boundary = ranked[jnp.clip(jnp.ceil(sharing).astype(count.dtype), 1, count) - 1]
    above = included & (losses > boundary)
    tied = included & (losses == boundary)
    remainder = (sharing - above.sum().astype(losses.dtype)) / tied.sum().astype(losses.dtype)
    return jnp.where(above, 1, jnp.where(tied, remainder, 0)) / sharing


def _unit_gaps(losses: Array, included: Array) -> tuple[Array, Array]:
    """The losses from -1, the smallest, to 0, the largest and the masked; 0 if all are equal.

    And the spread that they are divided by, which is held, as only their ratios matter.
    """
    gaps, _, spread = _relative(losses, included)
    return jnp.where(spread > 0, gaps / jnp.where(spread > 0, spread, 1), 0), spread


def _below_the_largest(batch: Batch) -> tuple[Array, Array, Array]:
    """Each loss minus the largest, 0 for the masked, ``[B]``; the largest; the spread."""
    return _relative(batch.losses, batch.included)


def _relative(losses: Array, included: Array) -> tuple[Array, Array, Array]:
    largest = jax.lax.stop_gradient(losses.max(where=included, initial=-jnp.inf))
    gaps = jnp.where(included, losses - largest, 0)
    spread = jax.lax.stop_gradient(-gaps.min())
    # Below the normal numbers, which XLA may flush, all losses are equal.
    return gaps, largest, jnp.where(spread >= float(jnp.finfo(gaps.dtype).tiny), spread, 0)
