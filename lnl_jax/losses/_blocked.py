"""Similarities of anchors to keys in blocks of anchors: never all of them at once.

Every loss here needs of its ``[A, M]`` similarities only a few sums per anchor. A block of T
anchors against all keys is ``[T, M]``; the backward pass computes it again.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lnl_jax.losses._checks import computation_dtype

PyTree = Any


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
        sums = _sums_of_similarities(similarities(queries, keys), temperature, pairs)
    else:
        queries, keys, temperature = equally_varying(queries, keys, temperature)
        sums = blocked_sums(queries, keys, temperature, pairs, min(block_size, len(queries)))
    return Sums(sums.log_sum, *jax.lax.stop_gradient(tuple(sums[1:])))


def similarities(queries: Array, keys: Array) -> Array:
    """Inner products ``[A, M]``, summed in float32 at least."""
    return jnp.einsum(
        "ad,md->am",
        queries,
        keys,
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=computation_dtype(queries.dtype),
    )


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


def in_blocks(f: Callable[..., PyTree], rows: PyTree, block_size: int) -> PyTree:
    """``f(rows)``, a block of rows at a time, each computed again for its gradient."""
    length = len(jax.tree.leaves(rows)[0])
    blocks = split(rows, block_size)
    return join(jax.lax.map(jax.checkpoint(f), blocks), length)


def sums_over(similarity: Array, negative: Array, temperature: Array) -> Sums:
    """The sums of given similarities ``[A, M]``."""
    scaled = jnp.where(negative, similarity / temperature[:, None], -jnp.inf)
    any_left = negative.any(-1)
    top = jax.lax.stop_gradient(jnp.where(any_left, scaled.max(-1), 0))
    weights = jnp.exp(scaled - top[:, None])
    total = jnp.where(any_left, weights.sum(-1), 1)
    weighted = (weights * jnp.where(negative, similarity, 0)).sum(-1)
    squares = jnp.where(any_left, (weights * weights).sum(-1), 1)
    return Sums(
        jnp.where(any_left, top + jnp.log(total), -jnp.inf),
        weighted / total,
        jnp.where(any_left, 2 * top + jnp.log(squares), -jnp.inf),
        negative.sum(-1).astype(similarity.dtype),
    )


def _sums_of_similarities(similarity: Array, temperature: Array, pairs: Pairs) -> Sums:
    return sums_over(similarity, is_negative(pairs, similarity.shape), temperature)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def blocked_sums(
    queries: Array, keys: Array, temperature: Array, pairs: Pairs, block_size: int
) -> Sums:
    """The sums, `block_size` anchors at a time; so is their gradient."""

    def block(rows: PyTree) -> Sums:
        x, tau, which = rows
        which = which.with_keys_of(pairs)
        return _sums_of_similarities(similarities(x, keys), tau, which)

    rows = (queries, temperature, pairs.rows())
    return join(jax.lax.map(block, split(rows, block_size)), len(queries))


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
    # A row without negatives has no weights: every exponent becomes -inf below.
    safe = jnp.where(some, log_sum, 0)

    def block(gradient: Array, rows: PyTree) -> tuple[Array, Array]:
        x, tau, log_sum, scale, which = rows
        which = which.with_keys_of(pairs)
        similarity = similarities(x, keys)
        negative = is_negative(which, similarity.shape)
        exponents = similarity / tau[:, None] - log_sum[:, None]
        weights = scale[:, None] * jnp.exp(jnp.where(negative, exponents, -jnp.inf))
        highest = {
            "precision": jax.lax.Precision.HIGHEST,
            "preferred_element_type": weights.dtype,
        }
        stored = weights.astype(x.dtype)
        gradient = gradient + jnp.einsum("am,ad->md", stored, x, **highest)
        return gradient, jnp.einsum("am,md->ad", stored, keys, **highest).astype(x.dtype)

    x, tau, safe, which = split((queries, temperature, safe, pairs.rows()), block_size)
    # The copies of row 0 that fill the last block must not pull at the keys.
    scales = split(scale, block_size, fill=jnp.zeros_like)
    start = jnp.zeros_like(keys, dtype=log_sum.dtype)
    of_keys, of_queries = jax.lax.scan(block, start, (x, tau, safe, scales, which))
    of_temperature = -scale * mean / temperature
    return join(of_queries, len(queries)), of_keys.astype(keys.dtype), of_temperature, None


blocked_sums.defvjp(_forward, backward)


def split(
    rows: PyTree, block_size: int, fill: Callable[[Array], Array] = lambda row: row
) -> PyTree:
    """``[A, ...]`` to ``[blocks, T, ...]``; the last block is filled with copies of row 0."""

    def of_array(array: Array) -> Array:
        missing = -len(array) % block_size
        if missing:
            array = jnp.concatenate([array, jnp.repeat(fill(array[:1]), missing, axis=0)])
        return array.reshape(-1, block_size, *array.shape[1:])

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
