"""Global contrastive losses: the normaliser of each anchor is a moving average over its visits."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax.losses._checks import in_range
from lnl_jax.losses._contrastive import (
    ContrastiveStatistics,
    contrastive_statistics,
    over_views,
)


class InnerEstimate(NamedTuple):
    r"""What an estimator makes of `ContrastiveStatistics`, all ``[B]`` or ``[V, B]``.

    Attributes:
        log_inner: :math:`\log g_i`, which the moving average takes in.
        offset: :math:`o_i`, what a similarity is compared with: :math:`(s_{ij} - o_i) / \tau_i`.
        count: the divisor n.

    Example:
        >>> InnerEstimate(jnp.zeros(2), jnp.zeros(2), jnp.full(2, 9.0)).count.tolist()
        [9.0, 9.0]
    """

    log_inner: Array
    offset: Array
    count: Array


Estimator = Callable[[ContrastiveStatistics], InnerEstimate]
FirstVisit = Callable[[Array, Array], Array]


def difference_to_positive(statistics: ContrastiveStatistics) -> InnerEstimate:
    r"""The paper's estimator, :math:`g_i = \frac{1}{n} \sum_j \exp((s_{ij} - s_i^+) / \tau_i)`.

    Args:
        statistics: from `contrastive_statistics`.

    Returns:
        `InnerEstimate`.

    Example:
        >>> z = jnp.eye(3)
        >>> difference_to_positive(contrastive_statistics(z, z, temperature=1.0)).log_inner.tolist()
        [-1.000, -1.000, -1.000]
    """
    offset = statistics.positive
    return InnerEstimate(_log_mean(statistics, offset, statistics.count), offset, statistics.count)


def raw_similarity(statistics: ContrastiveStatistics) -> InnerEstimate:
    r"""The official unimodal estimator, :math:`g_i = \frac{1}{n} \sum_j \exp(s_{ij} / \tau_i)`.

    The positive then enters the loss with weight 1 whatever the moving average says.

    Args:
        statistics: from `contrastive_statistics`.

    Returns:
        `InnerEstimate`.

    Example:
        >>> z = jnp.eye(3)
        >>> raw_similarity(contrastive_statistics(z, z, temperature=1.0)).log_inner.tolist()
        [0.000, 0.000, 0.000]
    """
    offset = jnp.zeros_like(statistics.positive)
    return InnerEstimate(_log_mean(statistics, offset, statistics.count), offset, statistics.count)


def difference_with_diagonal(statistics: ContrastiveStatistics) -> InnerEstimate:
    r"""The official bimodal estimator: the positive's own 1 is summed, the divisor stays n.

    .. math:: g_i = \frac{1}{n} \Big( 1 + \sum_j \exp((s_{ij} - s_i^+) / \tau_i) \Big)

    Args:
        statistics: from `contrastive_statistics`.

    Returns:
        `InnerEstimate`.

    Example:
        >>> z = jnp.eye(3)
        >>> statistics = contrastive_statistics(z, z, temperature=1.0)
        >>> difference_with_diagonal(statistics).log_inner.tolist()
        [-0.141, -0.141, -0.141]
    """
    return _with_positive(statistics, statistics.count)


def difference_with_positive(statistics: ContrastiveStatistics) -> InnerEstimate:
    r"""The official MoCo estimator: a mean over the positive and the negatives.

    .. math:: g_i = \frac{1}{1 + n} \Big( 1 + \sum_j \exp((s_{ij} - s_i^+) / \tau_i) \Big)

    Args:
        statistics: from `contrastive_statistics` or `similarity_statistics`.

    Returns:
        `InnerEstimate`.

    Example:
        >>> z = jnp.eye(3)
        >>> statistics = contrastive_statistics(z, z, temperature=1.0)
        >>> difference_with_positive(statistics).log_inner.tolist()
        [-0.547, -0.547, -0.547]
    """
    return _with_positive(statistics, statistics.count + 1)


def restart_example(log_u: Array, log_inner: Array) -> Array:
    """An example that was never visited starts from its own estimate.

    Args:
        log_u: the moving average before the visit, ``-inf`` for never.
        log_inner: the estimate of this visit, of the same shape.

    Returns:
        What the moving average goes on from.

    Example:
        >>> restart_example(jnp.array([-jnp.inf, 1.0]), jnp.array([2.0, 2.0])).tolist()
        [2.000, 1.000]
    """
    return jnp.where(log_u == -jnp.inf, log_inner, log_u)


def restart_batch(log_u: Array, log_inner: Array) -> Array:
    """LibAUC's rule: as `restart_example`, but only in a batch where all examples are new.

    Args:
        log_u: the moving average before the visit, ``-inf`` for never.
        log_inner: the estimate of this visit, of the same shape.

    Returns:
        What the moving average goes on from.

    Example:
        >>> restart_batch(jnp.array([-jnp.inf, 1.0]), jnp.array([2.0, 2.0])).tolist()
        [-inf, 1.000]
    """
    return jnp.where((log_u == -jnp.inf).all(), log_inner, log_u)


def start_from_zero(log_u: Array, log_inner: Array) -> Array:
    """The official code's rule: a first visit leaves ``gamma`` times its estimate.

    Args:
        log_u: the moving average before the visit, ``-inf`` for never.
        log_inner: the estimate of this visit, of the same shape.

    Returns:
        `log_u` as it is.

    Example:
        >>> start_from_zero(jnp.array([-jnp.inf]), jnp.array([2.0])).tolist()
        [-inf]
    """
    del log_inner
    return log_u


def sogclr(
    queries: Array,
    keys: Array,
    log_u: Array,
    *,
    temperature: ArrayLike,
    gamma: ArrayLike,
    positives: Array | None = None,
    where: Array | None = None,
    query_index: Array | None = None,
    key_index: Array | None = None,
    estimator: Estimator = difference_to_positive,
    first_visit: FirstVisit = restart_example,
    block_size: int | None = None,
) -> tuple[Array, Array, dict[str, Array]]:
    r"""SogCLR: the global contrastive loss, whose gradient small batches do not bias.

    .. math::
        u_i \leftarrow (1 - \gamma) u_i + \gamma g_i, \qquad
        \ell_i = \frac{1}{n} \sum_j \bar w_{ij} (s_{ij} - s_i^+), \qquad
        \bar w_{ij} = \frac{\exp((s_{ij} - s_i^+) / \tau)}{u_i}

    with :math:`\bar w` held. The gradient of :math:`\ell` estimates that of
    :math:`\tau \log \mathrm{E}_j \exp((s_{ij} - s_i^+) / \tau)` over all the data. Its value is
    only a device for that: a weighted mean of differences, it is negative as soon as the positives
    are the nearest, and can rise while the objective falls. Watch ``aux["objective"]``.

    Args:
        queries: anchors, ``[B, d]``, or views, ``[V, B, d]``, normalised by the caller.
        keys: ``[M, d]``, or views ``[V, B, d]``.
        log_u: :math:`\log u`, ``[B]``, after the last visit; ``-inf`` before the first.
        temperature: above 0, a scalar or one per example, ``[B]``.
        gamma: weight of this visit, in (0, 1], a scalar.
        positives: index of each anchor's positive among the keys, integers ``[B]`` or ``[V, B]``.
        where: boolean, the keys to include as negatives; broadcasts to ``[B, M]``.
        query_index: which example each anchor shows, integers ``[B]``.
        key_index: which example each key shows, integers ``[M]``; the same example is no negative.
        estimator: of the inner mean g: `difference_to_positive`, `raw_similarity` (official
            unimodal code), `difference_with_diagonal` (official bimodal code).
        first_visit: `restart_example`, `restart_batch` (LibAUC), `start_from_zero` (official code).
        block_size: anchors at a time, None for all at once; see `contrastive_statistics`.

    Returns:
        The losses, ``[B]``, the mean of the views (the official code takes the sum: twice this) in
        the dtype of `queries`; the new `log_u`, ``[B]``; and `aux`, a dict of ``[B]``:
        ``objective``, :math:`\tau \log u`; ``kl`` of the weights to uniform;
        ``effective_sample_size`` of the negatives. Without negatives the loss is 0 and `log_u`
        stays. No gradient flows to `temperature`, `log_u` and `gamma`.

    Raises:
        ValueError: as `contrastive_statistics`; for gamma out of range or a wrong shape of `log_u`.

    Example:
        >>> z = jnp.eye(3)
        >>> losses, log_u, aux = sogclr(z, z, jnp.full(3, -jnp.inf), temperature=1.0, gamma=0.9)
        >>> losses.tolist(), aux["objective"].tolist()
        ([-1.000, -1.000, -1.000], [-1.000, -1.000, -1.000])

    References:
        Yuan et al., "Provable Stochastic Optimization for Global Contrastive Learning: Small Batch
        Does Not Harm Performance" (ICML 2022), Algorithm 1.
    """
    statistics = contrastive_statistics(
        queries,
        keys,
        temperature=jax.lax.stop_gradient(temperature),
        positives=positives,
        query_index=query_index,
        key_index=key_index,
        where=where,
        block_size=block_size,
    )
    losses, log_u, aux = sogclr_of(
        statistics, log_u, gamma=gamma, estimator=estimator, first_visit=first_visit
    )
    return losses.astype(jnp.asarray(queries).dtype), log_u, aux


def sogclr_of(
    statistics: ContrastiveStatistics,
    log_u: Array,
    *,
    gamma: ArrayLike,
    estimator: Estimator = difference_to_positive,
    first_visit: FirstVisit = restart_example,
) -> tuple[Array, Array, dict[str, Array]]:
    r"""`sogclr` from statistics: of a queue, of a ring of devices, or of several losses at once.

    Args:
        statistics: from `contrastive_statistics` or `similarity_statistics`.
        log_u: :math:`\log u`, ``[B]``, after the last visit; ``-inf`` before the first.
        gamma: weight of this visit, in (0, 1], a scalar.
        estimator: as in `sogclr`.
        first_visit: as in `sogclr`.

    Returns:
        As `sogclr`, with ``aux["temperature_gradient"]``, the derivative of the objective by the
        temperature, :math:`\log u - \frac{1}{n} \sum_j w_{ij} r_{ij}`, besides.

    Raises:
        ValueError: for gamma out of range or a wrong shape of `log_u`.

    Example:
        >>> z = jnp.eye(3)
        >>> statistics = contrastive_statistics(z, z, temperature=1.0)
        >>> sogclr_of(statistics, jnp.zeros(3), gamma=1.0)[0].tolist()
        [-1.000, -1.000, -1.000]

    References:
        Yuan et al., "Provable Stochastic Optimization for Global Contrastive Learning: Small Batch
        Does Not Harm Performance" (ICML 2022), Algorithm 1.
    """
    log_u = jax.lax.stop_gradient(jnp.asarray(log_u))
    if log_u.shape != statistics.count.shape[-1:] or not jnp.issubdtype(log_u.dtype, jnp.floating):
        raise ValueError(
            f"log_u must be one floating number per example, shape {statistics.count.shape[-1:]}; "
            f"got {log_u.dtype} of shape {log_u.shape}."
        )
    dtype = statistics.count.dtype
    gamma = jax.lax.stop_gradient(in_range("gamma", gamma, dtype, above=0, at_most=1))
    if gamma.ndim:
        raise ValueError(f"gamma must be a scalar, got shape {gamma.shape}.")
    tau = jax.lax.stop_gradient(statistics.temperature)
    estimate = estimator(statistics)
    held, fixed = jax.lax.stop_gradient((estimate, statistics))
    some = ~(fixed.count == 0)

    before = jnp.broadcast_to(log_u.astype(dtype), fixed.count.shape)
    started = first_visit(before, held.log_inner)
    # Of each view; the table keeps the log of their mean.
    moved = jnp.logaddexp(jnp.log1p(-gamma) + started, jnp.log(gamma) + held.log_inner)
    combined = moved if moved.ndim == 1 else jax.nn.logsumexp(moved, 0) - math.log(len(moved))

    # What the weights of the negatives sum to: 1 where u is the estimate itself.
    finite = jnp.where(some, moved, 0)
    log_ratio = fixed.log_sum - held.offset / tau - jnp.log(jnp.maximum(held.count, 1)) - finite
    ratio = jnp.where(some, jnp.exp(jnp.where(some, log_ratio, 0)), 0)
    log_sum = jnp.where(some, statistics.log_sum, 0)
    value = ratio * (fixed.mean - held.offset) - (fixed.positive - held.offset)
    slope = ratio * tau * log_sum - ratio * estimate.offset
    slope -= statistics.positive - estimate.offset
    losses = jnp.where(some, jax.lax.stop_gradient(value - slope) + slope, 0)

    pull = finite - ratio * (fixed.mean - held.offset) / tau
    objective = tau * finite - (fixed.positive - held.offset)
    log_count = jnp.log(jnp.maximum(fixed.count, 1))
    aux = {
        "objective": jnp.where(some, objective, 0),
        "temperature_gradient": jnp.where(some, pull, 0),
        "kl": jnp.where(some, fixed.mean / tau - jnp.where(some, fixed.log_sum, 0) + log_count, 0),
        "effective_sample_size": jnp.where(some, jnp.exp(_log_sample_size(fixed, some)), 0),
    }
    aux = {name: over_views(values) for name, values in aux.items()}
    usable = some if some.ndim == 1 else some.all(0)
    return over_views(losses), jnp.where(usable, combined.astype(log_u.dtype), log_u), aux


def _log_sample_size(statistics: ContrastiveStatistics, some: Array) -> Array:
    return jnp.where(some, 2 * statistics.log_sum, 0) - jnp.where(
        some, statistics.log_sum_squares, 0
    )


def _log_mean(statistics: ContrastiveStatistics, offset: Array, count: Array) -> Array:
    shifted = statistics.log_sum - offset / statistics.temperature
    return shifted - jnp.log(jnp.maximum(count, 1))


def _with_positive(statistics: ContrastiveStatistics, count: Array) -> InnerEstimate:
    offset = statistics.positive
    log_inner = _log_mean(statistics, offset, count)
    own = -jnp.log(jnp.maximum(count, 1))
    return InnerEstimate(jnp.logaddexp(log_inner, own), offset, count)
