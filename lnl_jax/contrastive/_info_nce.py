"""Contrastive losses of one batch, and the statistics that they and the global ones share.

Shapes: ``queries`` are ``[B, d]``, or ``[V, B, d]`` for V views of B examples; ``keys`` are
``[M, d]``, or views ``[V, B, d]``, which count as ``[V B, d]``.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import computation_dtype, read_mask, refuse_explicit_mesh
from lnl_jax.contrastive import _blocked, _tiles
from lnl_jax.contrastive._embeddings import (
    over_views,
    read_block_size,
    read_embeddings,
    read_pairs,
    read_temperature,
    without_masked,
)


class ContrastiveStatistics(NamedTuple):
    r"""What a contrastive loss needs to know of each anchor, all ``[B]`` or ``[V, B]``.

    Attributes:
        log_sum: :math:`\log \sum_j \exp(s_{ij} / \tau_i)` over the negatives; ``-inf`` without any.
        mean: :math:`\sum_j p_{ij} s_{ij}` with :math:`p_i` the softmax of these; no gradient.
        log_sum_squares: :math:`\log \sum_j \exp(2 s_{ij} / \tau_i)`; no gradient.
        count: the number n of negatives.
        positive: the similarity to the positive.
        temperature: :math:`\tau_i`.

    Example:
        >>> z = jnp.eye(3)
        >>> contrastive_statistics(z, z, temperature=1.0).count.tolist()
        [2.0, 2.0, 2.0]
    """

    log_sum: Array
    mean: Array
    log_sum_squares: Array
    count: Array
    positive: Array
    temperature: Array


def contrastive_statistics(
    queries: Array,
    keys: Array,
    *,
    temperature: ArrayLike,
    positives: Array | None = None,
    query_index: Array | None = None,
    key_index: Array | None = None,
    where: Array | None = None,
    block_size: int | None = None,
) -> ContrastiveStatistics:
    r"""The sums over the negatives of each anchor, with gradients through `log_sum` and `positive`.

    Negatives are all keys but the positive, the other views of the same example, and what `where`
    leaves out. Embeddings are taken as they are: normalise them first.

    Args:
        queries: anchors, ``[B, d]``, or views, ``[V, B, d]``.
        keys: ``[M, d]``, or views ``[V, B, d]``.
        temperature: above 0, a scalar or one per example, ``[B]``.
        positives: index of each anchor's positive among the keys, integers ``[B]`` or ``[V, B]``.
            By default key i for anchor i, and the next view of the same example for views.
        query_index: which example each anchor shows, integers ``[B]`` that fit into 32 bits. Keys
            of the same example are no negatives. By default views are told apart by their place.
        key_index: which example each key shows, integers ``[M]``; given with `query_index`.
        where: boolean, the keys to include; broadcasts to ``[B, M]`` or ``[V, B, M]``. With keys
            in views it may also be ``[B]``: the examples to include.
        block_size: anchors at a time: similarities are made, and made again for the gradient, in
            tiles of a million or, if that is more, of ``block_size ** 2``. None: all at once.

    Returns:
        `ContrastiveStatistics`; NaN where a positive is outside ``[0, M)``. In blocks there are
        gradients and second derivatives, `jax.hessian` too; `jax.jvp` of the value itself needs
        ``block_size=None``.

    Raises:
        ValueError: for shapes or dtypes that do not fit each other, a mask that is not boolean, a
            temperature that is not positive and finite, or arrays split over an Explicit mesh.

    Example:
        >>> z = jnp.eye(3)
        >>> contrastive_statistics(z, z, temperature=1.0).log_sum.tolist()
        [0.693, 0.693, 0.693]

    References:
        Gao and Zhang, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"
        (2021); Cheng et al., "Breaking the Memory Barrier" (2024), for sums over tiles.
    """
    batch_shape, key_shape, queries, keys = read_embeddings(queries, keys)
    temperature = read_temperature(temperature, batch_shape, computation_dtype(queries.dtype))
    pairs, invalid = read_pairs(batch_shape, key_shape, positives, query_index, key_index, where)
    block_size = read_block_size(block_size, queries)
    flat = temperature.reshape(-1)
    sums = _blocked.log_sums(queries, without_masked(keys, pairs), flat, pairs, block_size)
    positive = _tiles.positive_similarities(queries, keys, pairs.positive)
    positive = jnp.where(invalid, jnp.nan, positive)
    parts = [part.reshape(batch_shape) for part in (*sums, positive)]
    return ContrastiveStatistics(*parts, temperature)


def similarity_statistics(
    positive: Array, negatives: Array, *, temperature: ArrayLike, where: Array | None = None
) -> ContrastiveStatistics:
    """The same from similarities that exist already, as with MoCo's queue.

    Args:
        positive: similarity to the positive, ``[B]``, not divided by the temperature.
        negatives: similarities to the negatives, ``[B, M]``.
        temperature: above 0, a scalar or one per example, ``[B]``.
        where: boolean, the negatives to include; broadcasts to ``[B, M]``.

    Returns:
        `ContrastiveStatistics` for `info_nce_from_statistics`, `sogclr_from_statistics` and
        `isogclr_from_statistics`.

    Raises:
        ValueError: as `contrastive_statistics`.

    Example:
        >>> similarity_statistics(jnp.ones(1), jnp.zeros((1, 4)), temperature=1.0).log_sum.tolist()
        [1.386]
    """
    refuse_explicit_mesh(positive=positive, negatives=negatives, where=where)
    positive, negatives = jnp.asarray(positive), jnp.asarray(negatives)
    floating = jnp.issubdtype(positive.dtype, jnp.floating) and positive.dtype == negatives.dtype
    if negatives.ndim != 2 or positive.shape != negatives.shape[:1] or not floating:
        raise ValueError(
            f"positive must be [B] and negatives [B, M], floating of one dtype; got "
            f"{positive.dtype} of shape {positive.shape} and {negatives.dtype} of shape "
            f"{negatives.shape}."
        )
    dtype = computation_dtype(positive.dtype)
    temperature = read_temperature(temperature, positive.shape, dtype)
    where = True if where is None else where
    included = read_mask("where", where, negatives.shape, "Say which negatives to include.")
    sums = _blocked.sums_over(negatives.astype(dtype), included, temperature)
    sums = _blocked.Sums(sums.log_sum, *jax.lax.stop_gradient(tuple(sums[1:])))
    return ContrastiveStatistics(*sums, positive.astype(dtype), temperature)


def info_nce(
    queries: Array,
    keys: Array,
    *,
    temperature: ArrayLike,
    positives: Array | None = None,
    where: Array | None = None,
    query_index: Array | None = None,
    key_index: Array | None = None,
    block_size: int | None = None,
) -> Array:
    r"""InfoNCE: SimCLR's NT-Xent, MoCo's loss, one half of CLIP's.

    .. math::
        \ell_i = -\frac{s_i^+}{\tau_i}
        + \log \Big( e^{s_i^+ / \tau_i} + \sum_{j \in \mathcal{N}_i} e^{s_{ij} / \tau_i} \Big)

    CLIP's loss is ``0.5 * (info_nce(image, text, ...) + info_nce(text, image, ...))``; SimCLR's is
    that of views ``[2, B, d]`` as both arguments.

    Args:
        queries: anchors, ``[B, d]``, or views, ``[V, B, d]``, normalised by the caller.
        keys: ``[M, d]``, or views ``[V, B, d]``.
        temperature: above 0, a scalar or one per anchor, ``[B]``. Gradients flow to it. SimCLR
            takes 0.1 to 0.5, CLIP starts at 0.07.
        positives: index of each anchor's positive among the keys, integers ``[B]`` or ``[V, B]``.
        where: boolean, the keys to include as negatives; broadcasts to ``[B, M]``, or ``[B]``, the
            examples to include, for keys in views.
        query_index: which example each anchor shows, integers ``[B]``.
        key_index: which example each key shows, integers ``[M]``; the same example is no negative.
        block_size: anchors at a time, None for all at once; see `contrastive_statistics`.

    Returns:
        One loss per example, ``[B]``, the mean of its views, in the dtype of `queries`; 0 without
        negatives.

    Raises:
        ValueError: as `contrastive_statistics`.

    Example:
        >>> z = jnp.eye(3)
        >>> info_nce(z, z, temperature=1.0).tolist()
        [0.551, 0.551, 0.551]

    References:
        van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding"
        (2018), equation 4; Chen et al., "A Simple Framework for Contrastive Learning of Visual
        Representations" (ICML 2020), equation 1. A vector of temperatures belongs to the anchors,
        not, as in optax's `ntxent`, to the columns.
    """
    statistics = contrastive_statistics(
        queries,
        keys,
        temperature=temperature,
        positives=positives,
        query_index=query_index,
        key_index=key_index,
        where=where,
        block_size=block_size,
    )
    return info_nce_from_statistics(statistics).astype(jnp.asarray(queries).dtype)


def info_nce_from_statistics(statistics: ContrastiveStatistics) -> Array:
    """`info_nce` from statistics: of a queue, or of a ring of devices.

    Args:
        statistics: from `contrastive_statistics`, `similarity_statistics` or `ring_statistics`.

    Returns:
        One loss per example, ``[B]``, the mean of its views, in float32 at least; 0 without
        negatives.

    Example:
        >>> z = jnp.eye(3)
        >>> info_nce_from_statistics(contrastive_statistics(z, z, temperature=1.0)).tolist()
        [0.551, 0.551, 0.551]

    References:
        van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding"
        (2018), equation 4.
    """
    margin, some = _margin(statistics)
    return over_views(jnp.where(some, jax.nn.softplus(margin), 0))


def decoupled_contrastive(
    queries: Array,
    keys: Array,
    *,
    temperature: ArrayLike,
    positives: Array | None = None,
    where: Array | None = None,
    query_index: Array | None = None,
    key_index: Array | None = None,
    block_size: int | None = None,
) -> Array:
    r"""Decoupled contrastive loss (DCL): InfoNCE without the positive in the denominator.

    .. math::
        \ell_i = -\frac{s_i^+}{\tau_i} + \log \sum_{j \in \mathcal{N}_i} e^{s_{ij} / \tau_i}

    Args:
        queries: as in `info_nce`.
        keys: as in `info_nce`.
        temperature: as in `info_nce`.
        positives: as in `info_nce`.
        where: as in `info_nce`.
        query_index: as in `info_nce`.
        key_index: as in `info_nce`.
        block_size: as in `info_nce`.

    Returns:
        One loss per example, ``[B]``, the mean of its views, in the dtype of `queries`; 0 without
        negatives. It can be negative.

    Raises:
        ValueError: as `contrastive_statistics`.

    Example:
        >>> z = jnp.eye(3)
        >>> decoupled_contrastive(z, z, temperature=1.0).tolist()
        [-0.307, -0.307, -0.307]

    References:
        Yeh et al., "Decoupled Contrastive Learning" (ECCV 2022), equation 6.
    """
    statistics = contrastive_statistics(
        queries,
        keys,
        temperature=temperature,
        positives=positives,
        query_index=query_index,
        key_index=key_index,
        where=where,
        block_size=block_size,
    )
    margin, some = _margin(statistics)
    return over_views(jnp.where(some, margin, 0), jnp.asarray(queries).dtype)


def _margin(statistics: ContrastiveStatistics) -> tuple[Array, Array]:
    """How far the negatives are above the positive, finite, and where there are any."""
    some = ~(statistics.count == 0)
    log_sum = jnp.where(some, statistics.log_sum, 0)
    return log_sum - statistics.positive / statistics.temperature, some
