"""What every contrastive loss reads first, embeddings, temperatures and pairs, and does last."""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import computation_dtype, in_range
from lnl_jax.contrastive import _tiles


def over_views(values: Array, dtype: np.dtype | None = None) -> Array:
    """The mean of the views, ``[V, B]`` or ``[B]`` to ``[B]``."""
    values = values.mean(0) if values.ndim == 2 else values
    return values if dtype is None else values.astype(dtype)


def read_embeddings(queries: Array, keys: Array) -> tuple[tuple[int, ...], Array, Array, np.dtype]:
    """The batch shape, both as ``[rows, d]``, and the dtype of sums."""
    queries, keys = jnp.asarray(queries), jnp.asarray(keys)
    for name, array in (("queries", queries), ("keys", keys)):
        if array.ndim not in (2, 3) or not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(
                f"{name} must be floating, [B, d] or views [V, B, d]; got {array.dtype} of shape "
                f"{array.shape}."
            )
    if queries.shape[-1] != keys.shape[-1] or queries.dtype != keys.dtype:
        raise ValueError(
            "queries and keys must have one dtype and one last axis; got "
            f"{queries.dtype} {queries.shape} and {keys.dtype} {keys.shape}."
        )
    width = queries.shape[-1]
    return (
        queries.shape[:-1],
        queries.reshape(-1, width),
        keys.reshape(-1, width),
        computation_dtype(queries.dtype),
    )


def read_temperature(
    temperature: ArrayLike, batch_shape: tuple[int, ...], dtype: np.dtype
) -> Array:
    """One temperature per anchor, in the batch shape."""
    if np.shape(temperature) not in ((), batch_shape[-1:], batch_shape):
        raise ValueError(
            f"temperature must be a scalar or have one value per example, shape "
            f"{batch_shape[-1:]}; got shape {np.shape(temperature)}."
        )
    temperature = in_range("temperature", temperature, dtype, above=0)
    if temperature.ndim and temperature.shape != batch_shape:
        temperature = temperature[None]
    return jnp.broadcast_to(temperature, batch_shape)


def read_pairs(
    batch_shape: tuple[int, ...],
    num_keys: int,
    positives: Array | None,
    query_index: Array | None,
    key_index: Array | None,
    where: Array | None,
) -> tuple[_tiles.Pairs, Array]:
    """The pairs, and where a positive is no key."""
    views, size = (1, *batch_shape)[-2:]
    if positives is None:
        if num_keys < views * size:
            raise ValueError(
                f"positives must be given where there are fewer keys ({num_keys}) than anchors "
                f"({views * size})."
            )
        # The next view of the same example; with one view, the key at its own place.
        positives = jnp.roll(jnp.arange(views * size), -size if views > 1 else 0)
    elif np.shape(positives) not in (batch_shape, batch_shape[-1:]):
        raise ValueError(
            f"positives must be indices into keys of shape {batch_shape}, got shape "
            f"{np.shape(positives)}."
        )
    if (query_index is None) != (key_index is None):
        raise ValueError("query_index and key_index must be given together.")
    if query_index is None and views > 1:
        place = jnp.arange(num_keys)
        # Keys beyond the views themselves belong to nobody here.
        query_index = jnp.arange(size)
        key_index = jnp.where(place < views * size, place % size, -1)
    if query_index is not None:
        for name, index, shape in (
            ("query_index", query_index, (size,)),
            ("key_index", key_index, (num_keys,)),
        ):
            if np.shape(index) != shape:
                raise ValueError(f"{name} must have shape {shape}, got {np.shape(index)}.")
        query_index = jnp.tile(jnp.asarray(query_index).astype(jnp.int32), views)
        key_index = jnp.asarray(key_index).astype(jnp.int32)
    positives = jnp.asarray(positives).reshape(-1)
    if len(positives) < views * size:
        positives = jnp.tile(positives, views)
    invalid = (positives < 0) | (positives >= num_keys)
    key_where = None
    if where is not None and math.prod(np.shape(where)[:-1]) == 1:
        # The same keys for all anchors: a vector is enough.
        key_where, where = jnp.broadcast_to(jnp.ravel(where), num_keys), None
    elif where is not None:
        where = jnp.broadcast_to(where, (*batch_shape, num_keys)).reshape(-1, num_keys)
    safe = jnp.where(invalid, 0, positives).astype(jnp.int32)
    return _tiles.Pairs(safe, query_index, key_index, key_where, where), invalid
