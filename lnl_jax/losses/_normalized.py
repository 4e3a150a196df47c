"""Normalised losses: a loss as a share of its sum over all labels, hence symmetric."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax.losses._checks import (
    Scores,
    along_classes,
    finish,
    label_score,
    read_hyperparameter,
    read_scores,
)
from lnl_jax.losses._probabilities import label_surprise, relative_scores


def normalized_cross_entropy(
    logits: Array, labels: Array, *, axis: int = -1, where: Array | None = None
) -> Array:
    r"""Normalised cross-entropy (NCE).

    .. math::
        \ell = \frac{\sum_k y_k \log p_k}{\sum_k \log p_k}, \qquad p = \mathrm{softmax}(f)

    Summed over all labels it is 1. That makes it robust, and an underfitting "active" loss; the
    caller adds a "passive" one, a weighted sum (APL): `reverse_cross_entropy`,
    `mean_absolute_error`, `asymmetric_generalized_cross_entropy` or `asymmetric_unhinged`.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, from 0 to 1, in the dtype of `logits`. NaN where an integer
        label is outside ``[0, K)`` or masked; 0 where all classes are masked. Where another class
        scores ``-inf`` it is 0, its limit; where the label does, 1. Gradients flow to
        `logits` and `labels`.

    Raises:
        ValueError: for labels that fit neither form.

    Example:
        >>> from lnl_jax.losses import reverse_cross_entropy
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> active = normalized_cross_entropy(logits, jnp.array([0, 1]))
        >>> active.tolist()
        [0.096, 0.492]
        >>> passive = reverse_cross_entropy(logits, jnp.array([0, 1]))
        >>> (1.0 * active + 0.1 * passive).tolist()
        [0.230, 0.874]

    References:
        Ma et al., "Normalized Loss Functions for Deep Learning with Noisy Labels" (ICML 2020), NCE
        and the active passive loss.
    """
    scores = read_scores(logits, labels, axis, where)
    # The sum of all logarithms in closed form, from the pass of the normaliser.
    _, gaps, log_normaliser = relative = relative_scores(scores)
    total = scores.count * log_normaliser - gaps.sum(scores.axis, where=scores.included)
    own = label_surprise(scores, relative)
    return finish(_share(own, total, total == jnp.inf, scores), scores)


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
        scores ``-inf`` it is 0, its limit; where the label does, 1. Gradients flow to all
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
    gamma = along_classes(read_hyperparameter("gamma", gamma, scores, at_least=0), scores.axis)

    def focal(surprise: Array) -> Array:
        # At p = 1 the logarithm of 1 - p is infinite; the product is 0 all the same.
        tiny = jnp.finfo(surprise.dtype).tiny
        return surprise * jnp.exp(gamma * jax.nn.log1mexp(jnp.maximum(surprise, tiny)))

    top, gaps, log_normaliser = relative_scores(scores)
    absent = scores.logits == -jnp.inf
    # The loss of no surprise is 0, which leaves out absent classes.
    by_label = focal(jnp.where(absent, 0, jnp.expand_dims(log_normaliser, scores.axis) - gaps))
    if scores.soft:
        own = (scores.labels * by_label).sum(scores.axis)
    else:
        own = jnp.where(scores.impossible, 0, log_normaliser - (label_score(scores) - top))
        own = focal(jnp.expand_dims(own, scores.axis)).squeeze(scores.axis)
    infinite = absent if scores.included is None else absent & scores.included
    return finish(_share(own, by_label.sum(scores.axis), infinite.any(scores.axis), scores), scores)


def _share(own: Array, total: Array, infinite: Array, scores: Scores) -> Array:
    """The label's part of the sum over all labels, which may be infinite."""
    # A single class has nothing to share.
    share = own / jnp.where(infinite | (total == 0), 1, total)
    if not scores.soft:
        return jnp.where(infinite, scores.impossible.astype(share.dtype), share)
    # A masked class has no mass in the label.
    impossible = jnp.where(scores.logits == -jnp.inf, scores.labels, 0).sum(scores.axis)
    return jnp.where(infinite, impossible, share)
