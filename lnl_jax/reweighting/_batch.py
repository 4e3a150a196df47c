"""The losses of a batch, made safe to compute with, and their weights; public ones are held.

``B`` is the batch size.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import as_array, computation_dtype, in_range, not_a_number


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
    losses = as_array("losses", losses)
    if losses.ndim != 1 or losses.size == 0 or not jnp.issubdtype(losses.dtype, jnp.floating):
        raise ValueError(
            "losses must be floating with one value per example, shape [B]; got "
            f"{losses.dtype} of shape {losses.shape}."
        )
    # Made from the losses, so that loops in `shard_map` know that it differs between devices.
    given = jnp.ones_like(losses, bool)
    if where is not None:
        where = as_array("where", where)
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


def unit_gaps(losses: Array, included: Array) -> tuple[Array, Array]:
    """The losses from -1, the smallest, to 0, the largest and the masked; 0 if all are equal.

    And the spread that they are divided by, which is held, as only their ratios matter.
    """
    gaps, _, spread = _relative(losses, included)
    return jnp.where(spread > 0, gaps / jnp.where(spread > 0, spread, 1), 0), spread


def below_the_largest(batch: Batch) -> tuple[Array, Array, Array]:
    """Each loss minus the largest, 0 for the masked, ``[B]``; the largest; the spread."""
    return _relative(batch.losses, batch.included)


def _relative(losses: Array, included: Array) -> tuple[Array, Array, Array]:
    largest = jax.lax.stop_gradient(losses.max(where=included, initial=-jnp.inf))
    gaps = jnp.where(included, losses - largest, 0)
    spread = jax.lax.stop_gradient(-gaps.min())
    # Below the normal numbers, which XLA may flush, all losses are equal.
    return gaps, largest, jnp.where(spread >= float(jnp.finfo(gaps.dtype).tiny), spread, 0)
