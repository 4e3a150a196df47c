"""SigLIP: every pair of an anchor and a key is a binary classification."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax.losses import _blocked
from lnl_jax.losses._checks import check_count, in_range
from lnl_jax.losses._embeddings import (
    over_views,
    read_embeddings,
    read_pairs,
    read_temperature,
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
        temperature: above 0, a scalar or one per anchor, ``[B]``. Gradients flow to it.
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
    out = jnp.asarray(queries).dtype
    batch_shape, queries, keys, dtype = read_embeddings(queries, keys)
    tau = read_temperature(temperature, batch_shape, dtype).reshape(-1)
    if np.shape(bias):
        raise ValueError(f"bias must be a scalar, got shape {np.shape(bias)}.")
    bias = in_range("bias", bias, dtype)
    pairs, invalid = read_pairs(batch_shape, len(keys), positives, query_index, key_index, where)

    def of_negatives(rows: tuple) -> Array:
        x, tau, which = rows
        which = which.with_keys_of(pairs)
        similarity = _blocked.similarities(x, keys)
        logits = similarity / tau[:, None] + bias
        negative = _blocked.is_negative(which, logits.shape)
        return jnp.where(negative, jax.nn.softplus(jnp.where(negative, logits, 0)), 0).sum(-1)

    rows = (queries, tau, pairs.rows())
    if block_size is None:
        losses = of_negatives(rows)
    else:
        check_count("block_size", block_size)
        losses = _blocked.in_blocks(of_negatives, rows, min(block_size, len(queries)))
    positive = _blocked.positive_similarities(queries, keys, pairs.positive)
    losses += jax.nn.softplus(-(positive / tau + bias))
    losses = jnp.where(invalid, jnp.nan, losses)
    return over_views(losses.reshape(batch_shape), out)
