"""SigLIP: every pair of an anchor and a key is a binary classification."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import computation_dtype, in_range
from lnl_jax.contrastive import _tiles
from lnl_jax.contrastive._embeddings import (
    over_views,
    read_block_size,
    read_embeddings,
    read_pairs,
    read_temperature,
    without_masked,
)


def sigmoid_contrastive(
    queries: Array,
    keys: Array,
    *,
    temperature: ArrayLike,
    bias: ArrayLike,
    positives: Array | None = None,
    where: Array | None = None,
    query_index: Array | None = None,
    key_index: Array | None = None,
    block_size: int | None = None,
) -> Array:
    r"""Sigmoid loss for contrastive pairs (SigLIP).

    .. math::
        \ell_i = \log(1 + e^{-(s_i^+ / \tau_i + b)})
        + \sum_{j \in \mathcal{N}_i} \log(1 + e^{s_{ij} / \tau_i + b})

    Args:
        queries: anchors, ``[B, d]``, or views, ``[V, B, d]``, normalised by the caller.
        keys: ``[M, d]``, or views ``[V, B, d]``.
        temperature: above 0, a scalar or one per anchor, ``[B]``. Gradients flow to it. The paper
            starts at 0.1.
        bias: b, a scalar; the paper starts at -10. Gradients flow to it.
        positives: as in `info_nce`.
        where: as in `info_nce`.
        query_index: as in `info_nce`.
        key_index: as in `info_nce`.
        block_size: as in `info_nce`.

    Returns:
        One loss per example, ``[B]``, the mean of its views, in the dtype of `queries`; without
        negatives that of the positive.

    Raises:
        ValueError: as `contrastive_statistics`, and for a bias that is no scalar.

    Example:
        >>> z = jnp.eye(2)
        >>> sigmoid_contrastive(z, z, temperature=1.0, bias=0.0).tolist()
        [1.006, 1.006]

    References:
        Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (ICCV 2023), equation 1.
    """
    batch_shape, key_shape, queries, keys = read_embeddings(queries, keys)
    out = queries.dtype
    dtype = computation_dtype(queries.dtype)
    tau = read_temperature(temperature, batch_shape, dtype).reshape(-1)
    if np.shape(bias):
        raise ValueError(f"bias must be a scalar, got shape {np.shape(bias)}.")
    bias = in_range("bias", bias, dtype, above=-math.inf, below=math.inf)
    pairs, invalid = read_pairs(batch_shape, key_shape, positives, query_index, key_index, where)

    bias = jnp.broadcast_to(bias, tau.shape)
    block_size = read_block_size(block_size, queries)
    met = without_masked(keys, pairs)
    if block_size is None:
        similarity = _tiles.similarities(queries, met)
        negative = _tiles.is_negative(pairs, similarity.shape)
        losses = _negatives_of(similarity, negative, tau, bias)
    else:
        parts = _tiles.equally_varying(queries, met, tau, bias)
        losses = _blocked_negatives(tuple(parts), pairs, block_size)
    positive = _tiles.positive_similarities(queries, keys, pairs.positive)
    losses += jax.nn.softplus(-(positive / tau + bias))
    losses = jnp.where(invalid, jnp.nan, losses)
    return over_views(losses.reshape(batch_shape), out)


def _negatives_of(similarity: Array, negative: Array, tau: Array, bias: Array) -> Array:
    softplus = jax.nn.softplus(_logits(similarity, negative, tau, bias))
    return jnp.where(negative, softplus, 0).sum(-1)


def _slopes(similarity: Array, negative: Array, tau: Array, bias: Array) -> Array:
    """Of the negatives' losses by their logits."""
    slopes = jax.nn.sigmoid(_logits(similarity, negative, tau, bias))
    return jnp.where(negative, slopes, 0)


def _logits(similarity: Array, negative: Array, tau: Array, bias: Array) -> Array:
    return jnp.where(negative, similarity / tau[:, None] + bias[:, None], 0)


Parts = tuple[Array, Array, Array, Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _blocked_negatives(parts: Parts, pairs: _tiles.Pairs, block_size: int) -> Array:
    """`_negatives_of` queries and keys, at a temperature and a bias per anchor."""
    return _forward(parts, pairs, block_size)[0]


def _forward(parts: Parts, pairs: _tiles.Pairs, block_size: int) -> tuple[Array, tuple]:
    queries, keys, *rows = parts

    def fold(sums: tuple, similarity: Array, negative: Array, rows: list[Array]) -> tuple:
        slopes = _slopes(similarity, negative, *rows)
        more = (
            _negatives_of(similarity, negative, *rows),
            slopes.sum(-1),
            (slopes * jnp.where(negative, similarity, 0)).sum(-1),
        )
        return jax.tree.map(jnp.add, sums, more)

    start = (jnp.zeros_like(rows[0]),) * 3
    losses, *sums = _tiles.fold_tiles(fold, start, rows, queries, keys, pairs, block_size)
    return losses, (parts, pairs, sums)


def _backward(block_size: int, residuals: tuple, cotangents: Array) -> tuple[Parts, None]:
    (queries, keys, tau, bias), pairs, (of_logits, weighted) = residuals

    def slopes(similarity: Array, negative: Array, rows: tuple[Array, ...]) -> Array:
        scale, *rows = rows
        return scale[:, None] * _slopes(similarity, negative, *rows)

    rows = (cotangents / tau, tau, bias)
    of_queries, of_keys = _tiles.pull_back(slopes, rows, queries, keys, pairs, block_size)
    of_tau = -cotangents * weighted / (tau * tau)
    return (of_queries, of_keys, of_tau, cotangents * of_logits), None


_blocked_negatives.defvjp(_forward, _backward)
