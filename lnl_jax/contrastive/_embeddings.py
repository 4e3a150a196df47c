"""What every contrastive loss reads first, embeddings, temperatures and pairs, and does last."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import as_array, in_range, read_mask, refuse_explicit_mesh
from lnl_jax._host_arguments import check_integer
from lnl_jax.contrastive import _tiles


def over_views(values: Array, dtype: np.dtype | None = None) -> Array:
    """The mean of the views, ``[V, B]`` or ``[B]`` to ``[B]``."""
    values = values.mean(0) if values.ndim == 2 else values
    return values if dtype is None else values.astype(dtype)


def read_embeddings(
    queries: Array, keys: Array
) -> tuple[tuple[int, ...], tuple[int, ...], Array, Array]:
    """The batch shapes of queries and keys, and both as ``[rows, d]``."""
    refuse_explicit_mesh(queries=queries, keys=keys)
    queries, keys = as_array("queries", queries), as_array("keys", keys)
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
    if not keys.size:
        raise ValueError(f"keys must have at least one row and one column; got {keys.shape}.")
    width = queries.shape[-1]
    return (
        queries.shape[:-1],
        keys.shape[:-1],
        queries.reshape(-1, width),
        keys.reshape(-1, width),
    )


def read_block_size(block_size: int | None, queries: Array) -> int | None:
    """Anchors at a time; None for all at once, as for a batch without anchors."""
    if block_size is not None:
        check_integer("block_size", block_size)
    return None if block_size is None or not len(queries) else int(block_size)


def read_temperature(
    temperature: ArrayLike, batch_shape: tuple[int, ...], dtype: np.dtype
) -> Array:
    """One temperature per anchor, in the batch shape."""
    refuse_explicit_mesh(temperature=temperature)
    if np.shape(temperature) not in ((), batch_shape[-1:], batch_shape):
        raise ValueError(
            f"temperature must be a scalar or have one value per example, shape "
            f"{batch_shape[-1:]}; got shape {np.shape(temperature)}."
        )
    temperature = in_range("temperature", temperature, dtype, above=0, below=math.inf)
    if temperature.ndim and temperature.shape != batch_shape:
        temperature = temperature[None]
    return jnp.broadcast_to(temperature, batch_shape)


def read_pairs(
    batch_shape: tuple[int, ...],
    key_shape: tuple[int, ...],
    positives: Array | None,
    query_index: Array | None,
    key_index: Array | None,
    where: Array | None,
) -> tuple[_tiles.Pairs, Array]:
    """The pairs, and where a positive is no key."""
    refuse_explicit_mesh(
        positives=positives, query_index=query_index, key_index=key_index, where=where
    )
    num_keys = math.prod(key_shape)
    positives, invalid = _read_positives(positives, batch_shape, num_keys)
    query_index, key_index = _read_indices(query_index, key_index, batch_shape, num_keys)
    key_where = None
    if where is not None:
        where = read_where(where, batch_shape, key_shape)
        if math.prod(where.shape[:-1]) == 1:
            # The same keys for all anchors: a vector is enough.
            key_where, where = jnp.broadcast_to(jnp.ravel(where), num_keys), None
        else:
            where = jnp.broadcast_to(where, (*batch_shape, num_keys)).reshape(-1, num_keys)
    return _tiles.Pairs(positives, query_index, key_index, key_where, where), invalid


def read_where(where: Array, batch_shape: tuple[int, ...], key_shape: tuple[int, ...]) -> Array:
    """The mask of keys, which broadcasts to ``[*batch_shape, M]``, not broadcast yet."""
    where = as_array("where", where)
    if len(key_shape) == 2 and where.shape == key_shape[-1:]:
        # Of examples, all of whose views it stands for.
        where = jnp.tile(where, key_shape[0])
    repair = "Say which keys to include: [M], [B, M], or with keys in views [B]."
    read_mask("where", where, (*batch_shape, math.prod(key_shape)), repair)
    return where


def without_masked(keys: Array, pairs: _tiles.Pairs) -> Array:
    """Keys that no anchor meets are 0, so that nothing of them, NaN say, gets into products."""
    if pairs.key_where is None:
        return keys
    return jnp.where(pairs.key_where[:, None], keys, 0)


def _read_positives(
    positives: Array | None, batch_shape: tuple[int, ...], num_keys: int
) -> tuple[Array, Array]:
    """Of all anchors, and where one is no key."""
    views, size = (1, *batch_shape)[-2:]
    if positives is None:
        if num_keys < views * size:
            raise ValueError(
                f"positives must be given where there are fewer keys ({num_keys}) than anchors "
                f"({views * size})."
            )
        # The next view of the same example; with one view, the key at its own place.
        places = jnp.arange(views * size, dtype=jnp.int32)
        return jnp.roll(places, -size if views > 1 else 0), jnp.zeros(views * size, bool)
    positives = positives if isinstance(positives, jax.Array) else np.asarray(positives)
    integer = jnp.issubdtype(positives.dtype, jnp.integer)
    if positives.shape not in (batch_shape, batch_shape[-1:]) or not integer:
        raise ValueError(
            f"positives must be indices into keys, integers of shape {batch_shape}, got "
            f"{positives.dtype} of shape {positives.shape}."
        )
    # Before they are cast, which could bring one into the range.
    invalid = jnp.asarray((positives < 0) | (positives > num_keys - 1))
    places = jnp.where(invalid, 0, jnp.asarray(positives.astype(np.int32)))
    invalid, places = invalid.reshape(-1), places.reshape(-1)
    if len(places) < views * size:
        invalid, places = jnp.tile(invalid, views), jnp.tile(places, views)
    return places, invalid


def _read_indices(
    query_index: Array | None,
    key_index: Array | None,
    batch_shape: tuple[int, ...],
    num_keys: int,
) -> tuple[Array | None, Array | None]:
    """Which examples anchors and keys show, in one dtype; both None if each is its own."""
    views, size = (1, *batch_shape)[-2:]
    if (query_index is None) != (key_index is None):
        raise ValueError("query_index and key_index must be given together.")
    if query_index is None and views == 1:
        return None, None
    if query_index is None:
        place = jnp.arange(num_keys, dtype=jnp.int32)
        # Keys beyond the views themselves belong to nobody here.
        key_index = jnp.where(place < views * size, place % size, -1)
        return jnp.tile(jnp.arange(size, dtype=jnp.int32), views), key_index
    query_index = _read_index("query_index", query_index, (size,))
    key_index = _read_index("key_index", key_index, (num_keys,))
    if query_index.dtype != key_index.dtype:
        raise ValueError(
            "query_index and key_index must have one dtype, got "
            f"{query_index.dtype} and {key_index.dtype}."
        )
    return jnp.tile(query_index, views), key_index


def _read_index(name: str, index: Array, shape: tuple[int, ...]) -> Array:
    """Examples that are compared with each other: no two may become one by a cast."""
    index = index if isinstance(index, jax.Array) else np.asarray(index)
    if index.shape != shape or not jnp.issubdtype(index.dtype, jnp.integer):
        raise ValueError(
            f"{name} must be integers of shape {shape}, got {index.dtype} of shape {index.shape}."
        )
    if isinstance(index, jax.Array):
        return index if index.dtype.itemsize >= 4 else index.astype(jnp.int32)
    limits = np.iinfo(np.int32)
    if index.size and not (limits.min <= index.min() and index.max() <= limits.max):
        raise ValueError(
            f"{name} must fit into 32 bits, got {index.min()} to {index.max()}; number the "
            "examples, np.unique(ids, return_inverse=True)[1]."
        )
    return jnp.asarray(index.astype(np.int32))
