"""Similarities of anchors to keys in tiles: never all of them at once.

A block of anchors meets some keys at a time; the backward pass computes these tiles again, and so
do derivatives of it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.custom_derivatives import SymbolicZero

from lnl_jax._arguments import computation_dtype

PyTree = Any

# Of a tile, unless that is less than a square: small blocks of anchors meet more keys at a time,
# so that products of matrices run at their full rate. An accelerator wants more at once: with tiles
# of the first size most of its time is starting kernels.
SIMILARITIES_PER_TILE = 2**20
SIMILARITIES_PER_TILE_OF_ACCELERATORS = 2**24


# Derivatives of what is in a loop over tiles keep no tile either.
_made_again = functools.partial(jax.checkpoint, prevent_cse=False)


class Pairs(NamedTuple):
    """Which keys are negatives of which anchors, as vectors where that is enough.

    Attributes:
        positive: index of the positive among the keys, ``[A]``.
        query_index: which example an anchor shows, ``[A]``, or None.
        key_index: which example a key shows, ``[M]``, or None.
        key_where: boolean, the keys to include, ``[M]``, or None.
        where: boolean, the keys to include for each anchor, ``[A, M]``, or None.
    """

    positive: Array
    query_index: Array | None
    key_index: Array | None
    key_where: Array | None
    where: Array | None

    def rows(self) -> "Pairs":
        """The part of it that has one entry per anchor."""
        return self._replace(key_index=None, key_where=None)

    def with_keys_of(self, other: "Pairs") -> "Pairs":
        """These anchors, the keys of another."""
        return self._replace(key_index=other.key_index, key_where=other.key_where)


def similarities(queries: Array, keys: Array) -> Array:
    """Inner products ``[A, M]``, summed in float32 at least."""
    return _product(queries, keys.T, queries.dtype)


def _product(a: Array, b: Array, dtype: np.dtype) -> Array:
    """``a @ b`` of factors in `dtype`, summed in float32 at least."""
    wide = computation_dtype(dtype)

    def widened(a: Array, b: Array) -> Array:
        return _matmul(a.astype(wide), b.astype(wide), preferred_element_type=wide)

    def stored(a: Array, b: Array) -> Array:
        return _half_product(a.astype(dtype), b.astype(dtype))

    if dtype == wide:
        return widened(a, b)
    # Most CPUs have no units for half precision, and its products take half as long again there.
    return jax.lax.platform_dependent(a, b, cpu=widened, default=stored)


_matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


@jax.custom_jvp
def _half_product(a: Array, b: Array) -> Array:
    """Of factors in half precision, summed and given in float32."""
    return _matmul(a, b, preferred_element_type=jnp.float32)


# JAX's own rule would pull a gradient in float32 back through a product of that with a factor in
# half precision, which runs in float32 and at its highest precision: a sixteenth of the rate on a
# GPU. The factor's gradient is rounded to half precision anyway.
def _half_product_moves(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (a, b), (of_a, of_b) = primals, tangents
    value = _half_product(a, b)
    moves = jnp.zeros_like(value)
    if not isinstance(of_a, SymbolicZero):
        moves += _matmul(of_a, b).astype(value.dtype)
    if not isinstance(of_b, SymbolicZero):
        moves += _matmul(a, of_b).astype(value.dtype)
    return value, moves


_half_product.defjvp(_half_product_moves, symbolic_zeros=True)


@jax.checkpoint
def positive_similarities(queries: Array, keys: Array, places: Array) -> Array:
    """Of each anchor to one key, ``[A]``; products in wider precision are made again, not kept."""
    dtype = computation_dtype(queries.dtype)
    return (queries.astype(dtype) * keys[places].astype(dtype)).sum(-1)


def is_negative(pairs: Pairs, shape: tuple[int, int]) -> Array:
    """Neither the positive, nor another view of the same example, nor masked, ``[A, M]``."""
    negative = jax.lax.broadcasted_iota(jnp.int32, shape, 1) != pairs.positive[:, None]
    if pairs.query_index is not None:
        negative &= pairs.query_index[:, None] != pairs.key_index[None]
    if pairs.key_where is not None:
        negative &= pairs.key_where[None]
    return negative if pairs.where is None else negative & pairs.where


def fold_tiles(
    fold: Callable[..., PyTree],
    start: PyTree,
    values: PyTree,
    queries: Array,
    keys: Array,
    pairs: Pairs,
    block_size: int,
) -> PyTree:
    """``carry = fold(carry, similarity, negative, values)`` over all tiles of keys.

    `start` and `values` have one entry per anchor.
    """

    def of_rows(rows: PyTree) -> PyTree:
        carry, values, x, which = rows

        @_made_again
        def of_tile(carry: PyTree, place: _Place) -> tuple[PyTree, None]:
            y, negative = _tile(keys, which.with_keys_of(pairs), place, block_size)
            return fold(carry, similarities(x, y), negative, values), None

        return jax.lax.scan(of_tile, carry, _places(len(keys), block_size))[0]

    rows = split((start, values, queries, pairs.rows()), block_size)
    return join(jax.lax.map(of_rows, rows), len(queries))


def pull_back(
    slopes: Callable[..., Array],
    values: PyTree,
    queries: Array,
    keys: Array,
    pairs: Pairs,
    block_size: int,
) -> tuple[Array, Array]:
    """Gradients by queries and keys from those by each similarity.

    Those are ``slopes(similarity, negative, values)``, 0 where a key is no negative; `values` have
    one entry per anchor.
    """
    dtype = computation_dtype(queries.dtype)

    def of_rows(of_keys: Array, rows: PyTree) -> tuple[Array, Array]:
        values, x, which, real = rows
        # Keys get their gradient transposed: a product with a matrix that is transposed on the
        # left takes a fifth longer on a CPU, and this one is turned once per block. Without the
        # barrier XLA undoes that where there is one tile, and then has no bfloat16 product.
        across = jax.lax.optimization_barrier(x.T)

        @_made_again
        def pulls(place: _Place) -> tuple[Array, Array]:
            y, negative = _tile(keys, which.with_keys_of(pairs), place, block_size)
            of_pairs = slopes(similarities(x, y), negative & real[:, None], values)
            return _product(across, of_pairs, x.dtype), _product(of_pairs, y, x.dtype)

        def of_tile(carry: tuple[Array, Array], place: _Place) -> tuple[tuple, None]:
            of_keys, of_x = carry
            of_y, more = pulls(place)
            of_y += jax.lax.dynamic_slice_in_dim(of_keys, place.first, of_y.shape[1], axis=1)
            of_keys = jax.lax.dynamic_update_slice_in_dim(of_keys, of_y, place.first, axis=1)
            return (of_keys, of_x + more), None

        start = (of_keys, jnp.zeros_like(x, dtype=dtype))
        (of_keys, of_x), _ = jax.lax.scan(of_tile, start, _places(len(keys), block_size))
        return of_keys, of_x.astype(x.dtype)

    rows = split((values, queries, pairs.rows()), block_size)
    # The copies of row 0 that fill the last block must not pull at the keys.
    real = split(jnp.ones(len(queries), bool), block_size, fill=jnp.zeros_like)
    start = jnp.zeros_like(keys.T, dtype=dtype)
    of_keys, of_queries = jax.lax.scan(of_rows, start, (*rows, real))
    return join(of_queries, len(queries)), of_keys.T.astype(keys.dtype)


class _Place(NamedTuple):
    """Where a tile's keys are: the first, and the first that no tile before it had.

    The last tile ends with the last key and overlaps with the one before.
    """

    first: Array
    new: Array


def _places(num_keys: int, block_size: int) -> _Place:
    """Of all tiles, ``[tiles]``."""
    size = _keys_per_tile(num_keys, block_size)
    new = jnp.arange(0, num_keys, size, dtype=jnp.int32)
    return _Place(jnp.minimum(new, num_keys - size), new)


def _keys_per_tile(num_keys: int, block_size: int) -> int:
    on_cpu = jax.default_backend() == "cpu"
    area = SIMILARITIES_PER_TILE if on_cpu else SIMILARITIES_PER_TILE_OF_ACCELERATORS
    return min(max(block_size, area // block_size), num_keys)


def _tile(keys: Array, pairs: Pairs, place: _Place, block_size: int) -> tuple[Array, Array]:
    """The keys of one tile, and which of them are negatives of which anchors."""
    size = _keys_per_tile(len(keys), block_size)

    def cut(array: Array | None, axis: int = 0) -> Array | None:
        if array is None:
            return None
        return jax.lax.dynamic_slice_in_dim(array, place.first, size, axis)

    pairs = pairs._replace(
        positive=pairs.positive - place.first,
        key_index=cut(pairs.key_index),
        key_where=cut(pairs.key_where),
        where=cut(pairs.where, axis=1),
    )
    negative = is_negative(pairs, (len(pairs.positive), size))
    if len(keys) % size:
        negative &= jnp.arange(size, dtype=jnp.int32)[None] >= place.new - place.first
    return cut(keys), negative


def split(
    rows: PyTree, block_size: int, fill: Callable[[Array], Array] = lambda row: row
) -> PyTree:
    """``[A, ...]`` to ``[blocks, T, ...]``; the last block is filled with copies of row 0."""

    def of_array(array: Array) -> Array:
        size = min(block_size, len(array))
        missing = -len(array) % size
        if missing:
            array = jnp.concatenate([array, jnp.repeat(fill(array[:1]), missing, axis=0)])
        return array.reshape(-1, size, *array.shape[1:])

    return jax.tree.map(of_array, rows)


def join(blocks: PyTree, length: int) -> PyTree:
    """``[blocks, T, ...]`` to ``[A, ...]``."""
    return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:])[:length], blocks)


def equally_varying(*trees: PyTree) -> list[PyTree]:
    """Arrays that differ between devices in the same way, which `shard_map` asks of a gradient."""
    axes = {jax.typeof(a).manual_axis_type.varying for a in jax.tree.leaves(trees)}
    everything = frozenset().union(*axes)

    def cast(array: Array) -> Array:
        missing = everything - jax.typeof(array).manual_axis_type.varying
        return jax.lax.pcast(array, tuple(missing), to="varying") if missing else array

    return jax.tree.map(cast, list(trees))
