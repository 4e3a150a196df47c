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
        total: the sum, float32.
        count: of how many, float32.
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
    if where is None:
        where = jnp.ones(values.shape, bool)
    check_mask(where, values.shape)
    values = jnp.where(where, values.astype(jnp.float32), 0)
    return Average(values.sum(), where.sum().astype(jnp.float32))


def check_mask(where: Array, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless the mask has this shape."""
    if where.shape != shape:
        raise ValueError(
            f"where must have one entry per example, shape {shape}; got {where.shape}."
        )


def merge(first: Any, second: Any) -> Any:
    """Adds two pytrees of `Average` of the same structure.

    Args:
        first: of one batch, say.
        second: of another.

    Returns:
        The pytree of the `Average` over both.

    Example:
        >>> first = Average(jnp.float32(3), jnp.float32(4))
        >>> second = Average(jnp.float32(1), jnp.float32(1))
        >>> float(merge(first, second).value)
        0.800
    """
    return jax.tree.map(jnp.add, first, second)
