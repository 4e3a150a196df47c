"""What global contrastive losses are handed: estimates of the inner mean, rules of first visits."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from lnl_jax.contrastive._info_nce import ContrastiveStatistics


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
        >>> from lnl_jax.contrastive import contrastive_statistics
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
        >>> from lnl_jax.contrastive import contrastive_statistics
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
        >>> from lnl_jax.contrastive import contrastive_statistics
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
        >>> from lnl_jax.contrastive import contrastive_statistics
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
        log_u: as in `restart_example`.
        log_inner: as in `restart_example`.

    Returns:
        As `restart_example`.

    Example:
        >>> restart_batch(jnp.array([-jnp.inf, 1.0]), jnp.array([2.0, 2.0])).tolist()
        [-inf, 1.000]
    """
    return jnp.where((log_u == -jnp.inf).all(), log_inner, log_u)


def start_from_zero(log_u: Array, log_inner: Array) -> Array:
    """The official code's rule: a first visit leaves ``gamma`` times its estimate.

    Args:
        log_u: as in `restart_example`.
        log_inner: as in `restart_example`.

    Returns:
        `log_u` as it is.

    Example:
        >>> start_from_zero(jnp.array([-jnp.inf]), jnp.array([2.0])).tolist()
        [-inf]
    """
    del log_inner
    return log_u


def _log_mean(statistics: ContrastiveStatistics, offset: Array, count: Array) -> Array:
    shifted = statistics.log_sum - offset / statistics.temperature
    return shifted - jnp.log(jnp.maximum(count, 1))


def _with_positive(statistics: ContrastiveStatistics, count: Array) -> InnerEstimate:
    offset = statistics.positive
    log_inner = _log_mean(statistics, offset, count)
    own = -jnp.log(jnp.maximum(count, 1))
    return InnerEstimate(jnp.logaddexp(log_inner, own), offset, count)
