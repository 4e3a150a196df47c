"""Similarities of anchors to keys in tiles: never all of them at once.

Every loss here needs of its ``[A, M]`` similarities only a few sums per anchor. A block of T
anchors meets some keys at a time; the backward pass computes these tiles again.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lnl_jax.losses._checks import computation_dtype

PyTree = Any

# Of a tile, unless that is less than a square: small blocks of anchors meet more keys at a time,
# so that products of matrices run at their full rate.
SIMILARITIES_PER_TILE = 2**20


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


class Sums(NamedTuple):
    """Over the negatives of each anchor, all ``[A]``.

    Attributes:
        log_sum: ``log sum_j exp(s_j / temperature)``; ``-inf`` without negatives.
        mean: the similarity under these weights, 0 without negatives.
        log_sum_squares: ``log sum_j exp(2 s_j / temperature)``.
        count: how many there are.
    """

    log_sum: Array
    mean: Array
    log_sum_squares: Array
    count: Array


def log_sums(
    queries: Array, keys: Array, temperature: Array, pairs: Pairs, block_size: int | None
) -> Sums:
    """The sums of all anchors. Gradients flow through `log_sum` only."""
    if block_size is None:
        similarity = similarities(queries, keys)
        sums = sums_over(similarity, is_negative(pairs, similarity.shape), temperature)
    else:
        queries, keys, temperature = equally_varying(queries, keys, temperature)
        sums = blocked_sums(queries, keys, temperature, pairs, block_size)
    return Sums(sums.log_sum, *jax.lax.stop_gradient(tuple(sums[1:])))


def similarities(queries: Array, keys: Array) -> Array:
    """Inner products ``[A, M]``, summed in float32 at least."""
    return _product(queries, keys.T, queries.dtype)


def _product(a: Array, b: Array, dtype: np.dtype) -> Array:
    """``a @ b`` of factors in `dtype`, summed in float32 at least."""
    wide = computation_dtype(dtype)

    def stored(a: Array, b: Array) -> Array:
        return product(a.astype(dtype), b.astype(dtype))

    def widened(a: Array, b: Array) -> Array:
        return product(a.astype(wide), b.astype(wide))

    product = functools.partial(
        jnp.matmul, precision=jax.lax.Precision.HIGHEST, preferred_element_type=wide
    )
    if dtype == wide:
        return stored(a, b)
    # Where the processor has no units for them, products in half precision take half as long again.
    return jax.lax.platform_dependent(a, b, cpu=widened, default=stored)


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


class Partial(NamedTuple):
    """`Sums` on their way: over the keys that an anchor has met so far, all ``[A]``.

    Attributes:
        top: the highest ``s_j / temperature``; ``-inf`` before the first negative.
        total: ``sum_j exp(s_j / temperature - top)``.
        weighted: the same sum with a factor ``s_j``.
        squares: ``sum_j exp(2 (s_j / temperature - top))``.
        count: how many negatives there were.
    """

    top: Array
    total: Array
    weighted: Array
    squares: Array
    count: Array

    @classmethod
    def empty(cls, like: Array) -> "Partial":
        """Of no keys."""
        zero = jnp.zeros_like(like)
        return cls(zero - jnp.inf, zero, zero, zero, zero)

    def with_keys(self, similarity: Array, negative: Array, temperature: Array) -> "Partial":
        """After more keys, of similarity ``[A, M]``."""
        scaled = jnp.where(negative, similarity / temperature[:, None], -jnp.inf)
        top = jax.lax.stop_gradient(jnp.maximum(self.top, scaled.max(-1)))
        held = jnp.where(top == -jnp.inf, 0, top)
        before = jnp.exp(self.top - held)
        weights = jnp.exp(scaled - held[:, None])
        return Partial(
            top,
            before * self.total + weights.sum(-1),
            before * self.weighted + (weights * jnp.where(negative, similarity, 0)).sum(-1),
            before * before * self.squares + (weights * weights).sum(-1),
            self.count + negative.sum(-1).astype(self.count.dtype),
        )

    def sums(self) -> Sums:
        """The sums over these keys."""
        some = ~(self.total == 0)
        top, total, squares = (
            jnp.where(some, part, 1) for part in (self.top, self.total, self.squares)
        )
        return Sums(
            jnp.where(some, top + jnp.log(total), -jnp.inf),
            self.weighted / total,
            jnp.where(some, 2 * top + jnp.log(squares), -jnp.inf),
            self.count,
        )


def sums_over(similarity: Array, negative: Array, temperature: Array) -> Sums:
    """The sums of given similarities ``[A, M]``."""
    return Partial.empty(temperature).with_keys(similarity, negative, temperature).sums()


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def blocked_sums(
    queries: Array, keys: Array, temperature: Array, pairs: Pairs, block_size: int
) -> Sums:
    """The sums, a tile of `block_size` anchors and some keys at a time; so is their gradient."""
    start = Partial.empty(temperature)
    return after_keys(start, queries, keys, temperature, pairs, block_size).sums()


def after_keys(
    partial: Partial,
    queries: Array,
    keys: Array,
    temperature: Array,
    pairs: Pairs,
    block_size: int,
) -> Partial:
    """The sums after these keys, a tile at a time."""
    return fold_tiles(Partial.with_keys, partial, temperature, queries, keys, pairs, block_size)


def _forward(
    queries: Array, keys: Array, temperature: Array, pairs: Pairs, block_size: int
) -> tuple[Sums, tuple]:
    sums = blocked_sums(queries, keys, temperature, pairs, block_size)
    return sums, (queries, keys, temperature, pairs, sums.log_sum, sums.mean)


def backward(block_size: int, residuals: tuple, cotangents: Sums) -> tuple:
    """Gradients by anchors, keys and temperatures; keys may be a part of those that were summed."""
    queries, keys, temperature, pairs, log_sum, mean = residuals
    some = log_sum > -jnp.inf
    scale = jnp.where(some, cotangents.log_sum, 0) / temperature
    of_temperature = -scale * mean / temperature

    def slopes(similarity: Array, negative: Array, rows: tuple[Array, ...]) -> Array:
        temperature, log_sum, scale = (part[:, None] for part in rows)
        exponents = jnp.where(negative, similarity / temperature - log_sum, -jnp.inf)
        return scale * jnp.exp(exponents)

    # A row without negatives has no weights: all its exponents are -inf.
    rows = (temperature, jnp.where(some, log_sum, 0), scale)
    of_queries, of_keys = pull_back(slopes, rows, queries, keys, pairs, block_size)
    return of_queries, of_keys, of_temperature, None


blocked_sums.defvjp(_forward, backward)


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

        def of_tile(carry: tuple[Array, Array], place: _Place) -> tuple[tuple, None]:
            of_keys, of_x = carry
            y, negative = _tile(keys, which.with_keys_of(pairs), place, block_size)
            of_pairs = slopes(similarities(x, y), negative & real[:, None], values)
            of_y = jax.lax.dynamic_slice_in_dim(of_keys, place.first, len(y), axis=1)
            of_y += _product(across, of_pairs, x.dtype)
            of_keys = jax.lax.dynamic_update_slice_in_dim(of_keys, of_y, place.first, axis=1)
            return (of_keys, of_x + _product(of_pairs, y, x.dtype)), None

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
    new = jnp.arange(0, num_keys, size)
    return _Place(jnp.minimum(new, num_keys - size), new)


def _keys_per_tile(num_keys: int, block_size: int) -> int:
    return min(max(block_size, SIMILARITIES_PER_TILE // block_size), num_keys)


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
        negative &= jnp.arange(size)[None] >= place.new - place.first
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
