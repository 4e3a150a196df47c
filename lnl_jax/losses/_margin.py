"""Margin losses: the hinges of several classes, and margins that depend on a class's frequency."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import check_range, in_range
from lnl_jax.losses._checks import (
    Scores,
    along_classes,
    finish,
    label_distribution,
    label_score,
    read_array,
    read_hyperparameter,
    read_scores,
    score_of,
)
from lnl_jax.losses._ldr import label_gaps
from lnl_jax.losses._probabilities import centred, label_cross_entropy


def crammer_singer(
    logits: Array,
    labels: Array,
    *,
    margin: ArrayLike = 1.0,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Crammer-Singer loss: the largest margin violation.

    .. math::
        \ell = \max_j \max(0, \delta_j), \qquad \delta_j = f_j - \langle y, f \rangle + m (1 - y_j)

    It is :func:`ldr_kl` as the temperature goes to 0. The label's own :math:`\delta_y` is 0 (a
    distribution's mean :math:`\langle y, \delta \rangle` is not negative), so that the largest one
    never is.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        margin: :math:`m \ge 0`, a scalar or one per example, ``[...]``.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked; 0 where all classes are masked; ``inf`` where the label's own
        logit is ``-inf``. Gradients flow to all three arguments; of equal maxima the
        first is meant.

    Raises:
        ValueError: for labels that fit neither form, a negative margin, or a margin that is neither
            a scalar nor one per example.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> crammer_singer(logits, jnp.array([0, 1]), margin=1.5).tolist()
        [0.5, 4.5]

    References:
        Crammer and Singer, "On the Algorithmic Implementation of Multiclass Kernel-based Vector
        Machines" (JMLR 2001). Soft labels as in the LDR losses of Zhu et al. (ICML 2023).
    """
    scores = centred(read_scores(logits, labels, axis, where))
    margin = read_hyperparameter("margin", margin, scores, at_least=0)
    off_label = 1 - label_distribution(scores)
    # Found by index: the gradient of a maximum is two more passes.
    raised = jax.lax.stop_gradient(scores.logits + along_classes(margin, scores.axis) * off_label)
    worst = jax.lax.argmax(raised, scores.axis % raised.ndim, jnp.int32)
    if scores.soft:
        chosen = jnp.expand_dims(worst, scores.axis)
        at_worst = 1 - jnp.take_along_axis(scores.labels, chosen, scores.axis).squeeze(scores.axis)
    else:
        at_worst = (worst != scores.labels).astype(margin.dtype)
    own = jnp.where(scores.impossible, 0, label_score(scores))
    losses = score_of(worst, scores) - own + margin * at_worst
    return finish(jnp.where(scores.impossible, jnp.inf, losses), scores)


def weston_watkins(
    logits: Array,
    labels: Array,
    *,
    margin: ArrayLike = 1.0,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Weston-Watkins loss: the mean margin violation of all classes.

    .. math::
        \ell = \frac{1}{K} \sum_j \max(0, \delta_j), \qquad
        \delta_j = f_j - \langle y, f \rangle + m (1 - y_j)

    The label's own violation is 0 and counts in the mean.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        margin: :math:`m \ge 0`, a scalar or one per example, ``[...]``.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`. K counts these.

    Returns:
        One loss per example, ``[...]``, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked; 0 where all classes are masked; ``inf`` where the label's own
        logit is ``-inf``. Gradients flow to all three arguments; a violation of exactly 0 has none.

    Raises:
        ValueError: for labels that fit neither form, a negative margin, or a margin that is neither
            a scalar nor one per example.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> weston_watkins(logits, jnp.array([0, 1]), margin=1.5).tolist()
        [0.167, 2.000]

    References:
        Weston and Watkins, "Support Vector Machines for Multi-Class Pattern Recognition" (ESANN
        1999), with a mean in place of the sum, as in the official code of Zhu et al. (ICML 2023).
    """
    scores = centred(read_scores(logits, labels, axis, where))
    gaps = label_gaps(scores, margin)
    shift = along_classes(jnp.where(scores.impossible, 0, gaps.shift), scores.axis)
    # A class that is masked or scores -inf violates nothing.
    losses = jax.nn.relu(gaps.values + shift).sum(scores.axis) / scores.count
    return finish(jnp.where(scores.impossible, jnp.inf, losses), scores)


def ldam(
    logits: Array,
    labels: Array,
    *,
    class_counts: ArrayLike,
    max_margin: ArrayLike = 0.5,
    scale: ArrayLike = 30.0,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Label-distribution-aware margin loss (LDAM): the rarer the class, the larger its margin.

    .. math::
        \ell = -\sum_k y_k \log \mathrm{softmax}(s g)_k, \qquad g_k = f_k - m_k y_k, \qquad
        m_k = m_{\max} \Big(\frac{\min_j n_j}{n_k}\Big)^{1/4}

    with :math:`n_k` the number of training examples of class k. The scores are those of a cosine
    classifier, in ``[-1, 1]``. Deferred re-weighting (DRW) multiplies, in the last part of the
    training, each loss by the weight of its label, from `class_balanced_weights`, and divides by
    the sum of the weights.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        class_counts: :math:`n > 0`, shape ``[K]``, the same for all examples.
        max_margin: :math:`m_{\max} \ge 0`, the margin of the rarest included class, a scalar or one
            per example, ``[...]``.
        scale: :math:`s > 0`, a scalar or one per example, ``[...]``.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked; 0 where all classes are masked; ``inf`` where the label's own
        logit is ``-inf``. Gradients flow to all arguments.

    Raises:
        ValueError: for labels that fit neither form, counts that are not ``[K]`` and above 0, or a
            hyperparameter out of range or of another shape.

    Example:
        >>> logits = jnp.array([[0.9, 0.1, -0.2], [0.3, 0.2, 0.8]])
        >>> labels, class_counts = jnp.array([0, 1]), jnp.array([1000, 100, 10])
        >>> values = ldam(logits, labels, class_counts=class_counts)
        >>> values.tolist()
        [0.000, 26.435]
        >>> weights = class_balanced_weights(class_counts)[labels]
        >>> float((weights * values).sum() / weights.sum())
        23.933

    References:
        Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss"
        (NeurIPS 2019), the LDAM loss with the margins rescaled to a largest one, as in the official
        code. Soft labels are ours.
    """
    scores = centred(read_scores(logits, labels, axis, where))
    max_margin = read_hyperparameter("max_margin", max_margin, scores, at_least=0)
    scale = along_classes(read_hyperparameter("scale", scale, scores, above=0), scores.axis)
    margins = along_classes(max_margin, scores.axis) * _relative_margins(class_counts, scores)
    # -inf times a scale is -inf, but its gradient would be NaN.
    absent = scores.logits == -jnp.inf
    enforced = jnp.where(absent, 0, scores.logits) - margins * label_distribution(scores)
    scaled = jnp.where(absent, -jnp.inf, scale * enforced)
    return finish(label_cross_entropy(dataclasses.replace(scores, logits=scaled)), scores)


def _relative_margins(class_counts: ArrayLike, scores: Scores) -> Array:
    """From 0 to 1, for the rarest of the included classes, ``[..., K]``."""
    shape = (scores.num_classes,)
    counts = read_array("class_counts", class_counts, shape, scores, above=0)
    counts = counts.reshape(-1, *(1,) * (-scores.axis - 1))
    counts = jnp.broadcast_to(counts, scores.logits.shape)
    rarest = counts.min(scores.axis, keepdims=True, where=scores.included, initial=jnp.inf)
    return (rarest / counts) ** 0.25


def class_balanced_weights(class_counts: ArrayLike, *, beta: ArrayLike = 0.9999) -> Array:
    r"""Weights of the classes by their effective number of examples, with mean 1.

    .. math::
        w_k \propto \frac{1 - \beta}{1 - \beta^{n_k}}, \qquad \sum_k w_k = K

    All equal for :math:`\beta = 0`; inversely proportional to the counts as :math:`\beta` goes to
    1. In a loss: ``weights[labels] * losses``; from a late epoch on (0.8 of the training in the
    paper) that is deferred re-weighting.

    Args:
        class_counts: :math:`n > 0`, training examples of each class, shape ``[K]``.
        beta: :math:`0 \le \beta < 1`, a scalar.

    Returns:
        :math:`w`, shape ``[K]``, float32 or the dtype of floating counts.

    Raises:
        ValueError: for counts or a beta out of range, or counts that are not ``[K]``.

    Example:
        >>> class_balanced_weights(jnp.array([1000, 100, 10]), beta=0.9).tolist()
        [0.849, 0.849, 1.303]

    References:
        Cui et al., "Class-Balanced Loss Based on Effective Number of Samples" (CVPR 2019); deferred
        in Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss"
        (NeurIPS 2019).
    """
    class_counts = class_counts if isinstance(class_counts, jax.Array) else np.asarray(class_counts)
    if class_counts.ndim != 1:
        raise ValueError(f"class_counts must have shape [K], got {class_counts.shape}.")
    if np.ndim(beta):
        raise ValueError(f"beta must be a scalar, got shape {np.shape(beta)}.")
    floating = jnp.issubdtype(class_counts.dtype, jnp.floating)
    dtype = jax.dtypes.canonicalize_dtype(class_counts.dtype if floating else jnp.float32)
    counts = in_range("class_counts", class_counts, dtype, above=0, below=math.inf)
    # The logarithm of a number on the host, where it does not round to 1 in float32.
    if isinstance(beta, jax.Array):
        log_beta = jnp.log(in_range("beta", beta, dtype, at_least=0, below=1))
    else:
        check_range("beta", beta, at_least=0, below=1)
        log_beta = math.log(beta) if beta > 0 else -math.inf
    weights = -1 / jnp.expm1(counts * log_beta)
    return weights * (weights.shape[0] / weights.sum())
