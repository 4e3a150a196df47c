"""Normalised losses: a loss as a share of its sum over all labels, hence symmetric."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax.losses._checks import (
    Scores,
    along_classes,
    finish,
    label_distribution,
    read_hyperparameter,
    read_scores,
)
from lnl_jax.losses._probabilities import label_cross_entropy


def normalized_cross_entropy(
    logits: Array, labels: Array, *, axis: int = -1, where: Array | None = None
) -> Array:
    r"""Normalised cross-entropy (NCE).

    .. math::
        \ell = \frac{\sum_k y_k \log p_k}{\sum_k \log p_k}, \qquad p = \mathrm{softmax}(f)

    Summed over all labels it is 1. That makes it robust, and an underfitting "active" loss; the
    caller adds a "passive" one, a weighted sum (APL)::

        loss = alpha * losses.normalized_cross_entropy(logits, labels)
        loss = loss + beta * losses.reverse_cross_entropy(logits, labels)

    with `mean_absolute_error`, `asymmetric_generalized_cross_entropy` or `asymmetric_unhinged` in
    place of the second.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, from 0 to 1, in the dtype of `logits`. NaN where an integer
        label is outside ``[0, K)`` or masked; 0 where all classes are masked. Where another class
        scores ``-inf`` it is 0, its limit; where the label alone does, 1. Gradients flow to
        `logits` and `labels`.

    Raises:
        ValueError: for labels that fit neither form.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> normalized_cross_entropy(logits, jnp.array([0, 1])).tolist()
        [0.096, 0.492]

    References:
        Ma et al., "Normalized Loss Functions for Deep Learning with Noisy Labels" (ICML 2020), NCE
        and the active passive loss.
    """
    scores = read_scores(logits, labels, axis, where)
    return finish(_share(lambda surprise: surprise, scores), scores)


def normalized_focal(
    logits: Array,
    labels: Array,
    *,
    gamma: ArrayLike,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Normalised focal loss (NFL).

    .. math::
        \ell = \frac{\sum_k y_k (1 - p_k)^\gamma \log p_k}{\sum_k (1 - p_k)^\gamma \log p_k},
        \qquad p = \mathrm{softmax}(f)

    Summed over all labels it is 1; :func:`normalized_cross_entropy` for :math:`\gamma = 0`. An
    "active" loss: see there how a "passive" one is added.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        gamma: :math:`\gamma \ge 0`, a scalar or one per example, ``[...]``. The paper takes 0.5.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, from 0 to 1, in the dtype of `logits`. NaN where an integer
        label is outside ``[0, K)`` or masked; 0 where all classes are masked. Where another class
        scores ``-inf`` it is 0, its limit; where the label alone does, 1. Gradients flow to all
        three arguments.

    Raises:
        ValueError: for labels that fit neither form, a negative gamma, or a gamma that is neither a
            scalar nor one per example.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> normalized_focal(logits, jnp.array([0, 1]), gamma=0.5).tolist()
        [0.062, 0.497]

    References:
        Ma et al., "Normalized Loss Functions for Deep Learning with Noisy Labels" (ICML 2020), the
        normalised focal loss.
    """
    scores = read_scores(logits, labels, axis, where)
    gamma = along_classes(read_hyperparameter("gamma", gamma, scores, at_least=0))

    def focal(surprise: Array) -> Array:
        # At p = 1 the logarithm of 1 - p is infinite; the product is 0 all the same.
        tiny = jnp.finfo(surprise.dtype).tiny
        return surprise * jnp.exp(gamma * jax.nn.log1mexp(jnp.maximum(surprise, tiny)))

    return finish(_share(focal, scores), scores)


def _share(weigh: Callable[[Array], Array], scores: Scores) -> Array:
    r"""The label's part of the sum over all labels, per example, ``[...]``.

    `weigh` maps :math:`-\log p`, ``[..., n]``, to a loss of a class of that probability.
    """
    surprise = -jax.nn.log_softmax(scores.logits, axis=-1)
    infinite = surprise == jnp.inf
    by_label = jnp.where(infinite, 0, weigh(jnp.where(infinite, 0, surprise)))
    if scores.soft:
        own = (scores.labels * by_label).sum(-1)
    else:
        own = jnp.where(scores.impossible, 0, label_cross_entropy(scores))
        own = weigh(own[..., None])[..., 0]
    total = by_label.sum(-1)
    if scores.included is not None:
        infinite &= scores.included
    # A single class has nothing to share.
    share = own / jnp.where(total == 0, 1, total)
    # In the limit the infinite ones share alone, and equally.
    count = infinite.sum(-1).astype(share.dtype)
    limit = jnp.where(infinite, label_distribution(scores), 0).sum(-1) / jnp.maximum(count, 1)
    return jnp.where(count > 0, limit, share)
