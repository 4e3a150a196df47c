"""The worst weights of the examples of a batch.

They move with the losses: their derivative is the second one of the value, of which the first is
the weights themselves (Danskin). ``B`` is the batch size.
"""

import jax
import jax.numpy as jnp
from jax import Array

from lnl_jax._arguments import refuse_explicit_mesh
from lnl_jax.reweighting._batch import Batch, below_the_largest, unit_gaps


def kl_penalty(batch: Batch, temperature: Array) -> Array:
    """The maximum over the simplex of the weighted mean less a KL penalty."""
    return _kl_penalty(batch, temperature)


@jax.custom_jvp
def _kl_penalty(batch: Batch, temperature: Array) -> Array:
    gaps, largest, _ = below_the_largest(batch)
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
    gaps, _, _ = below_the_largest(batch)
    return gaps / _between_extremes(batch, temperature)


def _between_extremes(batch: Batch, temperature: Array) -> Array:
    """Beyond them the weights are uniform, or all on the maximum, to rounding.

    Within them no gap is lost when it is divided.
    """
    _, _, spread = below_the_largest(batch)
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
    gaps, spread = unit_gaps(losses, included)
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
    gaps, spread = unit_gaps(losses, included)
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
    return _without_negative_weights(unit_gaps(losses, included)[0], included, radius)


@_chi2_ball.defjvp
def _chi2_ball_jvp(primals, tangents):
    """On the support they are a constant plus the offset of the losses at a constant length."""
    losses, included, _ = primals
    weights = _chi2_ball(*primals)
    gaps, spread = unit_gaps(losses, included)
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
