"""Jensen-Shannon divergences between a label and the predictions for one or several views."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import as_array
from lnl_jax.losses._checks import (
    Scores,
    along_classes,
    finish,
    label_distribution,
    read_array,
    read_hyperparameter,
    read_scores,
)
from lnl_jax.losses._probabilities import label_log_probability

# Stands for the logarithm of 0: finite, so that a difference of two is, and its exponential is 0.
LOG_ZERO = -1e30


def jensen_shannon(
    logits: Array,
    labels: Array,
    *,
    weight: ArrayLike,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Jensen-Shannon divergence between label and prediction, scaled.

    .. math::
        \ell = \frac{\pi \mathrm{KL}(y \,\|\, m) + (1 - \pi) \mathrm{KL}(p \,\|\, m)}
            {-(1 - \pi) \log(1 - \pi)}, \qquad m = \pi y + (1 - \pi) p, \quad
        p = \mathrm{softmax}(f)

    For a class it is cross-entropy as :math:`\pi` goes to 0, half the mean absolute error as it
    goes to 1, and throughout a function of :math:`p_y`, which is how it is computed. For a
    distribution it is a difference of nearly equal numbers where :math:`\pi` is small: below 0.001
    float32 is not precise.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        weight: :math:`0 < \pi < 1`, of the label, a scalar or one per example, ``[...]``. Our
            comparisons try 0.1, 0.5 and 0.9.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked; 0 where all classes are masked. Gradients flow to all three
        arguments; a class without mass in a soft label gets none (it would be infinite).

    Raises:
        ValueError: for labels that fit neither form, a weight out of range, or one that is neither
            a scalar nor one per example.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> jensen_shannon(logits, jnp.array([0, 1]), weight=0.5).tolist()
        [0.384, 1.731]

    References:
        Englesson and Azizpour, "Generalized Jensen-Shannon Divergence Loss for Learning with Noisy
        Labels" (NeurIPS 2021), JS. The official code keeps logarithms above that of 1e-7, which
        changes gradients by up to 2e-5 for scores of a scale of 3 and more; here it is exact.
    """
    scores = read_scores(logits, labels, axis, where)
    weight = read_hyperparameter("weight", weight, scores, above=0, below=1)
    if scores.soft:
        log_p = jax.nn.log_softmax(scores.logits, axis=scores.axis)
        divergence = _divergence([_log_labels(scores), log_p], [weight, 1 - weight], scores.axis)
    else:
        divergence = _divergence_from_class(label_log_probability(scores), weight)
    return finish(divergence / _scale(weight), scores)


def generalized_jensen_shannon(
    logits: Array,
    labels: Array,
    *,
    weights: ArrayLike,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Generalised Jensen-Shannon divergence between a label and the predictions for its views.

    .. math::
        \ell = \frac{H(\sum_i \pi_i p_i) - \sum_i \pi_i H(p_i)}{-(1 - \pi_1) \log(1 - \pi_1)},
        \qquad p_1 = y, \quad p_{1+v} = \mathrm{softmax}(f_v)

    with H the entropy: the views are drawn to the label and to each other. One view gives
    :func:`jensen_shannon`.

    Args:
        logits: scores :math:`f` of V views, shape ``[V, ..., K]``, with the classes along `axis` of
            a single view's ``[..., K]``.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        weights: :math:`\pi`, shape ``[1 + V]``, above 0 with sum 1 (checked unless it is a JAX
            array), the first that of the label; the same for all examples. For two views our
            comparisons try (0.1, 0.45, 0.45), (0.3, 0.35, 0.35) and (0.5, 0.25, 0.25).
        axis: the axis of the classes in a single view.
        where: boolean, the classes to include; broadcasts to a single view's logits.

    Returns:
        One loss per example, ``[...]``, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked; 0 where all classes are masked. Gradients flow to all three
        arguments; a class without mass in a soft label gets none (it would be infinite).

    Raises:
        ValueError: for logits without an axis of views, labels that fit neither form, or weights
            that are not ``[1 + V]``, above 0 and of sum 1.

    Example:
        >>> views = jnp.array([[[2.0, 1.0, 0.0]], [[1.0, 1.0, 0.0]]])
        >>> weights = jnp.array([0.5, 0.25, 0.25])
        >>> generalized_jensen_shannon(views, jnp.array([0]), weights=weights).tolist()
        [0.598]

    References:
        Englesson and Azizpour, "Generalized Jensen-Shannon Divergence Loss for Learning with Noisy
        Labels" (NeurIPS 2021), GJS.
    """
    logits = as_array("logits", logits)
    shape, dtype = getattr(labels, "shape", None), getattr(labels, "dtype", float)
    classes = not jnp.issubdtype(dtype, jnp.floating)
    one_view = shape == logits.shape or (classes and shape == logits.shape[:-1])
    if logits.ndim < 2 or not len(logits) or one_view:
        raise ValueError(
            f"logits must have a leading axis of views, [V, ..., K]; got shape {logits.shape}"
            f"{', that of a single view: logits[None]' * one_view}."
        )
    views = [read_scores(view, labels, axis, where) for view in logits]
    label, *others = _read_weights(weights, views)
    log_views = [jax.nn.log_softmax(view.logits, axis=view.axis) for view in views]
    logs = [_log_labels(views[0]), *log_views]
    divergence = _divergence(logs, [label, *others], views[0].axis)
    return finish(divergence / _scale(label), views[0])


def _scale(weight: Array) -> Array:
    return -(1 - weight) * jnp.log1p(-weight)


def _read_weights(weights: ArrayLike, views: Sequence[Scores]) -> Array:
    shape = (1 + len(views),)
    checked = read_array("weights", weights, shape, views[0], above=0, below=1)
    if not isinstance(weights, jax.Array) and abs(np.sum(weights) - 1) > 1e-3:
        raise ValueError(f"weights must have the sum 1, got {weights}.")
    return checked


def _log_labels(scores: Scores) -> Array:
    labels = label_distribution(scores)
    return jnp.where(labels > 0, jnp.log(jnp.where(labels > 0, labels, 1)), -jnp.inf)


def _divergence(log_distributions: Sequence[Array], weights: Sequence[Array], axis: int) -> Array:
    r""":math:`\sum_i \pi_i \mathrm{KL}(p_i \,\|\, \sum_j \pi_j p_j)`, per example."""
    logs = [jnp.where(log == -jnp.inf, LOG_ZERO, log) for log in log_distributions]
    weighted = [
        along_classes(jnp.log(weight), axis) + log
        for weight, log in zip(weights, logs, strict=True)
    ]
    log_mixture = functools.reduce(jnp.logaddexp, weighted)
    return sum(
        weight * (jnp.exp(log) * (log - log_mixture)).sum(axis)
        for weight, log in zip(weights, logs, strict=True)
    )


def _divergence_from_class(log_p: Array, weight: Array) -> Array:
    """The same between a class of log-probability `log_p` and the prediction."""
    log_mixture = jnp.logaddexp(jnp.log(weight), jnp.log1p(-weight) + log_p)
    # log m_y - log p_y, where its factor p_y is not 0 in floating point.
    excess = jnp.log1p(weight * jnp.expm1(jnp.minimum(-log_p, 80.0)))
    others = -jnp.expm1(log_p) * jnp.log1p(-weight)
    return -weight * log_mixture - (1 - weight) * (others + jnp.exp(log_p) * excess)
