"""A mean that is still a sum and a count."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lnl_jax._arguments import refuse_explicit_mesh
from lnl_jax.metrics._checks import read_where


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
        ValueError: if `where` is not boolean or has another shape.
    """
    where = read_where(where, values.shape)
    values = jnp.where(where, values.astype(jnp.float32), 0)
    return Average(values.sum(), where.sum().astype(jnp.float32))


def group_sums(values: Array, groups: Array, num_groups: int, where: Array | None) -> Array:
    """The sum of the values of each group at which `where` is true, ``[num_groups]``, float32.

    A value whose group is not from 0 to ``num_groups - 1`` is in none.

    Raises:
        ValueError: if `where` is not boolean or has another shape, or the arrays are split over an
            Explicit axis of a mesh.
    """
    refuse_explicit_mesh(values=values, groups=groups)
    inside = read_where(where, values.shape) & (groups >= 0) & (groups < num_groups)
    # A scatter drops what lies beyond the end, but takes a negative index to count from there.
    index = jnp.where(inside, groups, num_groups).reshape(-1)
    values = values.astype(jnp.float32).reshape(-1)
    return jnp.zeros(num_groups, jnp.float32).at[index].add(values, mode="drop")


def merge(first: Any, second: Any) -> Any:
    """Adds two pytrees of `Average`, or of other sums, of the same structure.

    Args:
        first: of one batch, say.
        second: of another.

    Returns:
        The pytree of the sums over both.

    Raises:
        ValueError: if the structures differ.

    Example:
        >>> first = Average(jnp.float32(3), jnp.float32(4))
        >>> second = Average(jnp.float32(1), jnp.float32(1))
        >>> float(merge(first, second).value)
        0.800
    """
    if jax.tree.structure(first) != jax.tree.structure(second):
        raise ValueError(
            f"first and second must have one structure, got {jax.tree.structure(first)} and "
            f"{jax.tree.structure(second)}."
        )
    return jax.tree.map(jnp.add, first, second)
