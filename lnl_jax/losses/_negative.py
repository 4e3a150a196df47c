"""Normalised negative losses: what is left of a loss on all the other classes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax.losses._checks import (
    Scores,
    along_classes,
    finish,
    read_hyperparameter,
    read_scores,
)
from lnl_jax.losses._probabilities import label_surprise, relative_scores


def normalized_negative_cross_entropy(
    logits: Array,
    labels: Array,
    *,
    floor: ArrayLike = 1e-7,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Normalised negative cross-entropy (NNCE), a passive loss made of cross-entropy.

    .. math::
        \ell = 1 - \frac{\sum_k y_k a_k}{\sum_k a_k}, \qquad
        a_k = \log \max(p_k, c) - \log c, \qquad p = \mathrm{softmax}(f)

    Summed over all labels it is K - 1, so that it is robust to symmetric noise. It pushes the other
    classes down rather than the label's up; active negative losses (ANL) are the caller's weighted
    sum with an active one, :func:`normalized_cross_entropy`.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        floor: :math:`c`, above 0 and at most 1/K, a scalar or one per example, ``[...]``. A class
            with a smaller probability has no gradient.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, from 0 to 1, in the dtype of `logits`. NaN where an integer
        label is outside ``[0, K)`` or masked, or c is above 1/K; 0 where all classes are masked.

    Raises:
        ValueError: for labels that fit neither form, or a floor out of range or of another shape.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> normalized_negative_cross_entropy(logits, jnp.array([0, 1])).tolist()
        [0.644, 0.690]

    References:
        Ye et al., "Active Negative Loss Functions for Learning with Noisy Labels" (NeurIPS 2023),
        the normalised negative loss of cross-entropy; c is the official code's minimal probability.
    """
    scores = read_scores(logits, labels, axis, where)
    floor = _read_floor(floor, scores)

    def above(surprise: Array, floor: Array) -> Array:
        return jnp.maximum(-surprise - jnp.log(floor), 0)

    return finish(_remainder(above, floor, scores), scores)


def normalized_negative_focal(
    logits: Array,
    labels: Array,
    *,
    gamma: ArrayLike = 0.5,
    floor: ArrayLike = 1e-7,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Normalised negative focal loss (NNFL), a passive loss made of the focal loss.

    .. math::
        \ell = 1 - \frac{\sum_k y_k a_k}{\sum_k a_k}, \qquad a_k = F(c) - F(\max(p_k, c)), \qquad
        F(u) = -(1 - u)^\gamma \log u, \quad p = \mathrm{softmax}(f)

    The factor :math:`(1 - u)^\gamma` is held in all derivatives.
    :func:`normalized_negative_cross_entropy` for :math:`\gamma = 0`; see there what it is used for.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        gamma: :math:`\gamma \ge 0`, a scalar or one per example, ``[...]``.
        floor: :math:`c`, above 0 and at most 1/K, a scalar or one per example, ``[...]``. A class
            with a smaller probability has no gradient.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, from 0 to 1, in the dtype of `logits`. NaN where an integer
        label is outside ``[0, K)`` or masked, or c is above 1/K; 0 where all classes are masked.

    Raises:
        ValueError: for labels that fit neither form, or a hyperparameter out of range or of another
            shape.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> normalized_negative_focal(logits, jnp.array([0, 1])).tolist()
        [0.644, 0.690]

    References:
        Ye et al., "Active Negative Loss Functions for Learning with Noisy Labels" (NeurIPS 2023),
        the normalised negative loss of the focal loss, differentiated as in the official code.
    """
    scores = read_scores(logits, labels, axis, where)
    floor = _read_floor(floor, scores)
    gamma = read_hyperparameter("gamma", gamma, scores, at_least=0)

    def above(surprise: Array, floor: Array, gamma: Array) -> Array:
        surprise = jnp.minimum(surprise, -jnp.log(floor))
        # At p = 1 the logarithm of 1 - p is infinite; the product is 0 all the same.
        tiny = jnp.finfo(surprise.dtype).tiny
        log_others = jax.nn.log1mexp(jnp.maximum(jax.lax.stop_gradient(surprise), tiny))
        focal = jnp.exp(jax.lax.stop_gradient(gamma) * log_others) * surprise
        return -jnp.exp(gamma * jnp.log1p(-floor)) * jnp.log(floor) - focal

    return finish(_remainder(above, floor, scores, gamma), scores)


def _read_floor(floor: ArrayLike, scores: Scores) -> Array:
    floor = read_hyperparameter("floor", floor, scores, above=0, below=1)
    # No class may be above a floor that all of them have.
    return jnp.where(floor * scores.count <= 1, floor, jnp.nan)


def _remainder(above: Callable[..., Array], floor: Array, scores: Scores, *others: Array) -> Array:
    """One less the label's share of what all classes have above the floor.

    `above` takes minus the logarithm of a probability, the floor, and other hyperparameters.
    """
    _, gaps, log_normaliser = relative = relative_scores(scores)
    # A class that scores -inf has the probability of the floor.
    least = jnp.finfo(gaps.dtype).min / 4
    surprise = jnp.expand_dims(log_normaliser, scores.axis) - jnp.maximum(gaps, least)
    by_class = above(surprise, *(along_classes(each, scores.axis) for each in (floor, *others)))
    if scores.included is not None:
        by_class = jnp.where(scores.included, by_class, 0)
    if scores.soft:
        own = (scores.labels * by_class).sum(scores.axis)
    else:
        own = above(label_surprise(scores, relative), floor, *others)
        own = jnp.where(scores.impossible, 0, own)
    total = by_class.sum(scores.axis)
    # One class alone has all of it, also where that is nothing.
    share = jnp.where(total == 0, 1, own / jnp.where(total == 0, 1, total))
    return 1 - share
