"""Statistics of contrastive losses on many devices, whose keys go round in a ring."""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import computation_dtype
from lnl_jax.contrastive import _blocked, _tiles
from lnl_jax.contrastive._blocked import Partial, Sums
from lnl_jax.contrastive._embeddings import (
    read_block_size,
    read_embeddings,
    read_pairs,
    read_temperature,
    without_masked,
)
from lnl_jax.contrastive._info_nce import ContrastiveStatistics
from lnl_jax.contrastive._tiles import Pairs


def ring_statistics(
    queries: Array,
    keys: Array,
    *,
    axis_name: str,
    temperature: ArrayLike,
    positives: Array | None = None,
    query_index: Array | None = None,
    key_index: Array | None = None,
    where: Array | None = None,
    block_size: int | None = None,
) -> ContrastiveStatistics:
    """`contrastive_statistics` of a device's own anchors with the keys of all devices.

    The keys are passed from device to device, so that none ever holds more than its own share and
    its neighbour's; the backward pass sends them round once more, each with its gradient. The
    numbers are those of `contrastive_statistics` on ``jax.lax.all_gather(keys, axis_name,
    tiled=True)``, which is simpler, and faster where all keys fit on a device. For
    `info_nce_from_statistics`, `sogclr_from_statistics` and `isogclr_from_statistics`, inside
    `shard_map` and `pmap`.

    Differentiate the device's own part of the loss, its sum over the size of the whole batch. The
    value is then still to be added up over devices; so are gradients of shared parameters under
    `pmap`, but `shard_map` has added those up by itself (with ``check_vma=True``, the default): a
    `psum` of them counts them once per device, silently. A second derivative is right as well, but
    holds the keys of all devices.

    Args:
        queries: the device's anchors, ``[B, d]``, or views, ``[V, B, d]``.
        keys: the device's keys, ``[M, d]``, or views ``[V, B, d]``, as many on each device.
        axis_name: of the devices.
        temperature: above 0, a scalar or one per example, ``[B]``.
        positives: index of each anchor's positive among the device's own keys, ``[B]`` or
            ``[V, B]``, by default as in `contrastive_statistics`.
        query_index: which example each anchor shows, integers ``[B]``, across devices. By default
            views are told apart by device and place.
        key_index: which example each key shows, integers ``[M]``; given with `query_index`.
        where: boolean, which of the device's own keys to include, ``[M]``, or with keys in views
            which of its examples, ``[B]``.
        block_size: anchors at a time; None means all of the device.

    Returns:
        `ContrastiveStatistics` of the device's anchors; NaN where a positive is outside ``[0, M)``.

    Raises:
        ValueError: as `contrastive_statistics`, and for a `where` that is not ``[M]``.

    Example:
        >>> from lnl_jax.contrastive import info_nce_from_statistics
        >>> z = jnp.eye(4).reshape(1, 4, 4)  # one device with four examples
        >>> def loss(z):
        ...     statistics = ring_statistics(z, z, axis_name="data", temperature=1.0)
        ...     return info_nce_from_statistics(statistics)
        >>> jax.pmap(loss, "data")(z).tolist()
        [[0.744, 0.744, 0.744, 0.744]]

    References:
        Cheng et al., "Breaking the Memory Barrier: Near Infinite Batch Size Scaling for Contrastive
        Loss" (2024), section 3.3.
    """
    batch_shape, key_shape, queries, keys = read_embeddings(queries, keys)
    temperature = read_temperature(temperature, batch_shape, computation_dtype(queries.dtype))
    if where is not None and jnp.shape(where) not in ((len(keys),), key_shape[-1:]):
        raise ValueError(
            f"where must say which of the device's own keys to include, shape {(len(keys),)}; got "
            f"shape {jnp.shape(where)}."
        )
    views_by_place = query_index is None and len(batch_shape) == 2
    pairs, invalid = read_pairs(batch_shape, key_shape, positives, query_index, key_index, where)
    if views_by_place:
        # Places start again on each device.
        first = jax.lax.axis_index(axis_name) * batch_shape[-1]
        known = pairs.key_index >= 0
        pairs = pairs._replace(
            query_index=pairs.query_index + first,
            key_index=jnp.where(known, pairs.key_index + first, -1),
        )
    block_size = read_block_size(block_size, queries) or max(len(queries), len(keys))
    queries, keys, flat, pairs = _tiles.equally_varying(
        queries, keys, temperature.reshape(-1), pairs
    )
    met = without_masked(keys, pairs)
    sums = _ring_sums(queries, met, flat, pairs, axis_name, block_size)
    sums = Sums(sums.log_sum, *jax.lax.stop_gradient(tuple(sums[1:])))
    positive = _tiles.positive_similarities(queries, keys, pairs.positive)
    positive = jnp.where(invalid, jnp.nan, positive)
    parts = [part.reshape(batch_shape) for part in (*sums, positive)]
    return ContrastiveStatistics(*parts, temperature)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _ring_sums(
    queries: Array,
    keys: Array,
    temperature: Array,
    pairs: Pairs,
    axis_name: str,
    block_size: int,
) -> Sums:
    """Of all devices' keys. A gradient of the loop itself would keep the keys of every hop."""
    return _after_the_round(queries, keys, temperature, pairs, axis_name, block_size).sums(
        temperature
    )


def _after_the_round(
    queries: Array,
    keys: Array,
    temperature: Array,
    pairs: Pairs,
    axis_name: str,
    block_size: int,
) -> Partial:
    there = _of_others(pairs)

    def hop(carry: tuple, _: None) -> tuple[tuple, None]:
        partial, travelling = carry
        visitors, which = travelling = _pass_on(travelling, axis_name)
        which = there.with_keys_of(which)
        return (after(partial, visitors, which), travelling), None

    def after(partial: Partial, keys: Array, pairs: Pairs) -> Partial:
        return _blocked.after_keys(partial, queries, keys, temperature, pairs, block_size)

    own = after(Partial.empty(temperature), keys, pairs)
    start = (own, (keys, _of_keys(pairs)))
    (partial, _), _ = jax.lax.scan(hop, start, length=jax.lax.axis_size(axis_name) - 1)
    return partial


def _forward(
    queries: Array,
    keys: Array,
    temperature: Array,
    pairs: Pairs,
    axis_name: str,
    block_size: int,
) -> tuple[Sums, tuple]:
    partial = _after_the_round(queries, keys, temperature, pairs, axis_name, block_size)
    return partial.sums(temperature), _blocked.residuals(partial, queries, keys, temperature, pairs)


def _backward(axis_name: str, block_size: int, residuals: tuple, cotangents: Sums) -> tuple:
    queries, keys, temperature, pairs, *of_sums = residuals
    there, dtype = _of_others(pairs), temperature.dtype

    def gradients(visitors: Array, pairs: Pairs) -> tuple[Array, Array, Array]:
        parts = (queries, visitors, temperature, pairs, *of_sums)
        of_queries, of_keys, of_temperature, _ = _blocked.backward(block_size, parts, cotangents)
        return of_queries.astype(dtype), of_keys.astype(dtype), of_temperature

    def hop(carry: tuple, _: None) -> tuple[tuple, None]:
        of_queries, travelling = carry
        visitors, which, of_visitors = _pass_on(travelling, axis_name)
        here, more, _ = gradients(visitors, there.with_keys_of(which))
        return (of_queries + here, (visitors, which, of_visitors + more)), None

    of_queries, of_keys, of_temperature = gradients(keys, pairs)
    start = (of_queries, (keys, _of_keys(pairs), of_keys))
    hops = jax.lax.axis_size(axis_name) - 1
    (of_queries, (_, _, of_keys)), _ = jax.lax.scan(hop, start, length=hops)
    # One more, and each gradient is where its keys are at home.
    of_keys = _pass_on(of_keys, axis_name)
    return of_queries.astype(queries.dtype), of_keys.astype(keys.dtype), of_temperature, None


_ring_sums.defvjp(_forward, _backward)


def _pass_on(tree: tuple, axis_name: str) -> tuple:
    size = jax.lax.axis_size(axis_name)
    return jax.lax.ppermute(tree, axis_name, [(i, (i + 1) % size) for i in range(size)])


def _of_keys(pairs: Pairs) -> Pairs:
    """What travels with the keys."""
    return Pairs(None, None, pairs.key_index, pairs.key_where, None)


def _of_others(pairs: Pairs) -> Pairs:
    """No other device has a positive."""
    return pairs._replace(positive=jnp.full_like(pairs.positive, -1))
