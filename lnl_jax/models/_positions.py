"""Learned positions of a square grid, brought to another size."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lnl_jax.models._shapes import root_of

# Of the cubic interpolation that the transformers library resizes positions with.
SHARPNESS = -0.75


def resized(positions: np.ndarray, side: int) -> np.ndarray:
    """The positions ``[n, D]`` of a square grid, ``[side * side, D]``: cubic, edges repeated."""
    old = root_of(len(positions))
    if side == old:
        return positions
    weights = _cubic(old, side)
    grid = positions.reshape(old, old, -1).astype(np.float64)
    found = np.einsum("ir,jc,rcd->ijd", weights, weights, grid)
    return found.reshape(side * side, -1).astype(positions.dtype)


def _cubic(old: int, new: int) -> np.ndarray:
    """How much of each old place is in each new one, ``[new, old]``."""
    middles = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.zeros((new, old))
    for step in (-1, 0, 1, 2):
        places = np.floor(middles).astype(int) + step
        distance = np.abs(middles - places)
        near = (SHARPNESS + 2) * distance**3 - (SHARPNESS + 3) * distance**2 + 1
        far = SHARPNESS * (distance**3 - 5 * distance**2 + 8 * distance - 4)
        value = np.where(distance <= 1, near, far)
        np.add.at(weights, (np.arange(new), np.clip(places, 0, old - 1)), value)
    return weights


def resized_in_place(positions: Array, shapes: Array, count: int) -> Array:
    """For each image the positions of its patches, row by row: bilinear, without aliasing.

    Args:
        positions: ``[n, D]``, of a square grid.
        shapes: rows and columns of patches of each image, ``[B, 2]``; may be traced.
        count: of the places to fill; those after the last patch repeat it.

    Returns:
        ``[B, count, D]``.
    """
    side = root_of(len(positions))
    rows, columns = (jnp.maximum(shapes[:, axis, None], 1) for axis in (0, 1))
    places = jnp.minimum(jnp.arange(count)[None], rows * columns - 1)
    of_rows = _triangles(places // columns, rows, side)
    of_columns = _triangles(places % columns, columns, side)
    grid = positions.reshape(side, side, -1)
    exact = jax.lax.Precision.HIGHEST
    return jnp.einsum("bpr,bpc,rcd->bpd", of_rows, of_columns, grid, precision=exact)


def _triangles(places: Array, lengths: Array, old: int) -> Array:
    """How much of each of `old` places is in each new one of a line, ``[B, count, old]``."""
    ratio = old / lengths.astype(jnp.float32)
    middles = (places.astype(jnp.float32) + 0.5) * ratio
    each = jnp.arange(old, dtype=jnp.float32)[None, None] + 0.5
    distance = jnp.abs(each - middles[..., None])
    weights = jnp.maximum(0, 1 - distance / jnp.maximum(ratio, 1)[..., None])
    return weights / weights.sum(-1, keepdims=True)
