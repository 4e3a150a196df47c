"""A mean that is still a sum and a count."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Average(NamedTuple):
    """A sum over examples and how many they are: divided once, at the end.

    A mean of batch means is wrong wherever the last batch is smaller, or a metric counts only some
    of the examples.

    Attributes:
        total: the sum, float32; one for each class where the metric says so.
        count: of how many, float32, in the shape of `total`.
    """

    total: Array
    count: Array

    @property
    def value(self) -> Array:
        """The mean, NaN where nothing was counted."""
        counted = self.count > 0
        return jnp.where(counted, self.total / jnp.where(counted, self.count, 1), jnp.nan)


def average(values: Array, where: Array | None) -> Average:
    """The `Average` of the values at which `where` is true, over all axes.

    Raises:
        ValueError: if `where` has another shape.
    """
    where = read_mask(where, values.shape)
    values = jnp.where(where, values.astype(jnp.float32), 0)
    return Average(values.sum(), where.sum().astype(jnp.float32))


def group_sums(values: Array, groups: Array, num_groups: int, where: Array | None) -> Array:
    """The sum of the values of each group at which `where` is true, ``[num_groups]``, float32.

    A value whose group is not from 0 to ``num_groups - 1`` is in none.

    Raises:
        ValueError: if `where` has another shape.
    """
    inside = read_mask(where, values.shape) & (groups >= 0) & (groups < num_groups)
    # A scatter drops what lies beyond the end, but takes a negative index to count from there.
    index = jnp.where(inside, groups, num_groups).reshape(-1)
    values = values.astype(jnp.float32).reshape(-1)
    return jnp.zeros(num_groups, jnp.float32).at[index].add(values, mode="drop")


def read_mask(where: Array | None, shape: tuple[int, ...]) -> Array:
    """The mask of the examples to count, all of them where there is none.

    Raises:
        ValueError: if it has another shape.
    """
    if where is None:
        return jnp.ones(shape, bool)
    if where.shape != shape:
        raise ValueError(
            f"where must have one entry per example, shape {shape}; got {where.shape}."
        )
    return where


def merge(first: Any, second: Any) -> Any:
    """Adds two pytrees of `Average`, or of other sums, of the same structure.

    Args:
        first: of one batch, say.
        second: of another.

    Returns:
        The pytree of the sums over both.

    Example:
        >>> first = Average(jnp.float32(3), jnp.float32(4))
        >>> second = Average(jnp.float32(1), jnp.float32(1))
        >>> float(merge(first, second).value)
        0.800
    """
    return jax.tree.map(jnp.add, first, second)
