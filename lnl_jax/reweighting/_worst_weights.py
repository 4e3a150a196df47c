"""The worst weights of the examples of a batch, and what the functions that use them share.

All is computed on values, without gradients. ``B`` is the batch size.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import computation_dtype, in_range


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
        return self.weights.astype(self.batch.dtype)

    @property
    def value(self) -> Array:
        return (self.weights * self.batch.losses).sum().astype(self.batch.dtype)


def weigh(batch: Batch, weights: Array, hyperparameter: Array) -> Weighted:
    """NaN where a loss is broken or the hyperparameter out of range, 0 where one is masked."""
    weights = jnp.where(batch.broken | jnp.isnan(hyperparameter), jnp.nan, weights)
    return Weighted(batch, jnp.where(batch.given, weights, 0))


class Penalised(NamedTuple):
    """The maximum of the weighted mean less the price, where it is taken, and the divergence there.

    Attributes:
        weights: ``[B]``.
        value: a scalar.
        divergence: from the uniform weights, a scalar.
    """

    weights: Array
    value: Array
    divergence: Array


def kl_penalty(batch: Batch, temperature: Array) -> Penalised:
    """The maximum over the simplex with a KL penalty."""
    batch, temperature = jax.lax.stop_gradient((batch, temperature))
    gaps, largest, spread = _below_the_largest(batch)
    limits = jnp.finfo(gaps.dtype)
    # Beyond these the weights are uniform, or all on the maximum, to rounding; within them no gap
    # is lost when it is divided.
    highest = jnp.where(spread > 0, spread, 1) / float(limits.eps)
    temperature = jnp.clip(temperature, float(limits.tiny), highest)
    scaled = gaps / temperature
    weights = jax.nn.softmax(scaled, where=batch.included)
    mean = jnp.exp(scaled).mean(where=batch.included)
    # Near 1 the logarithm would lose what the temperature then multiplies.
    below = jnp.expm1(scaled).mean(where=batch.included)
    log_mean = jnp.where(mean > 0.5, jnp.log1p(below), jnp.log(mean))
    divergence = _kl_from_uniform(scaled, batch.included)
    return Penalised(weights, largest + temperature * log_mean, divergence)


def kl_ball(batch: Batch, radius: Array) -> Array:
    """The maximiser over the simplex within a KL ball around the uniform weights, ``[B]``."""
    return _kl_ball(*jax.lax.stop_gradient((_unit_gaps(batch), batch.included, radius)))


# Control flow is compiled afresh at every eager call unless the function around it is jitted.
@jax.jit
def _kl_ball(gaps: Array, included: Array, radius: Array) -> Array:
    """A softmax whose inverse temperature is found by bisection of its logarithm."""
    limits = jnp.finfo(gaps.dtype)

    def halve(_, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = jnp.sqrt(low) * jnp.sqrt(high)
        inside = _kl_from_uniform(gaps * middle, included) < radius
        return jnp.where(inside, middle, low), jnp.where(inside, high, middle)

    # The variance of gaps in [-1, 0] is at most 1/4, so the divergence at most an eighth of the
    # square. The zeros are for `shard_map`, where the ends vary as the gaps do.
    low = jnp.sqrt(8 * radius) + jnp.zeros_like(gaps[0])
    high = jnp.full_like(low, 1 / float(limits.tiny))
    # The logarithms of the ends are less than 2**8 apart in float32, 2**11 in float64.
    steps = limits.nmant + limits.nexp
    inverse_temperature, _ = jax.lax.fori_loop(0, steps, halve, (low, high))
    weights = jax.nn.softmax(gaps * inverse_temperature, where=included)
    tied = included & (gaps == 0)
    share = 1 / tied.sum().astype(gaps.dtype)
    saturated = radius >= jnp.log(included.sum().astype(gaps.dtype) * share)
    return jnp.where(saturated, jnp.where(tied, share, 0), weights)


def _kl_from_uniform(scores: Array, included: Array) -> Array:
    """The divergence of softmax(scores) from uniform, for scores of which the largest is 0.

    As the mean of r log r - (r - 1), r = n w, of which no term is negative: where all weights are
    nearly equal the difference of two entropies would be lost to rounding.
    """
    mass = jnp.exp(scores)
    ratio = mass / mass.mean(where=included)
    return (jax.scipy.special.xlogy(ratio, ratio) - (ratio - 1)).mean(where=included)


def chi2_ball(batch: Batch, radius: Array) -> Array:
    """The maximiser over the simplex within a chi-squared ball around uniform weights, ``[B]``."""
    return _chi2_ball(*jax.lax.stop_gradient((_unit_gaps(batch), batch.included, radius)))


@jax.jit
def _chi2_ball(gaps: Array, included: Array, radius: Array) -> Array:
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


def _unit_gaps(batch: Batch) -> Array:
    """The losses from -1, the smallest, to 0, the largest and the masked; 0 if all are equal."""
    gaps, _, spread = _below_the_largest(batch)
    return jnp.where(spread > 0, gaps / spread, 0)


def _below_the_largest(batch: Batch) -> tuple[Array, Array, Array]:
    """Each loss minus the largest, 0 for the masked, ``[B]``; the largest; the spread."""
    largest = batch.losses.max(where=batch.included, initial=-jnp.inf)
    gaps = jnp.where(batch.included, batch.losses - largest, 0)
    spread = -gaps.min()
    # Below the normal numbers, which XLA may flush, all losses are equal.
    return gaps, largest, jnp.where(spread >= float(jnp.finfo(gaps.dtype).tiny), spread, 0)
