"""Losses whose sum over all labels is (nearly) constant, and their mixture with cross-entropy."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax.losses._checks import (
    Scores,
    along_classes,
    finish,
    is_label,
    label_score,
    read_hyperparameter,
    read_scores,
)
from lnl_jax.losses._probabilities import (
    label_cross_entropy,
    other_probability,
    relative_scores,
    scaled,
)


def mean_absolute_error(
    logits: Array, labels: Array, *, axis: int = -1, where: Array | None = None
) -> Array:
    r"""Mean absolute error (MAE) between label and predicted distribution.

    .. math::
        \ell = \sum_k |y_k - p_k| = 2 (1 - p_y) \text{ for a class } y, \qquad
        p = \mathrm{softmax}(f)

    Symmetric: summed over all K labels it is :math:`2 (K - 1)` whatever the scores, which makes its
    minimiser immune to symmetric noise below :math:`1 - 1/K`. It trains slowly for the same reason:
    examples with an unlikely label hardly count. The sum, and not the mean, over the classes, as in
    the papers.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, from 0 to 2, in the dtype of `logits`. NaN where an integer
        label is outside ``[0, K)`` or masked; 0 where all classes are masked. Gradients flow to
        `logits` and `labels`; where :math:`y_k = p_k` the slope of the absolute value is 0.

    Raises:
        ValueError: for labels that fit neither form.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> mean_absolute_error(logits, jnp.array([0, 1])).tolist()
        [0.670, 1.909]

    References:
        Ghosh, Kumar and Sastry, "Robust Loss Functions under Label Noise for Deep Neural Networks"
        (AAAI 2017). The official code of Zhu et al. (ICML 2023) sums differences without their
        absolute value, which is 0 for all scores; here it is the paper's definition.
    """
    scores = read_scores(logits, labels, axis, where)
    if not scores.soft:
        return finish(2 * other_probability(scores), scores)
    errors = scores.labels - jax.nn.softmax(scores.logits, axis=scores.axis)
    # The slope of `jnp.abs` at 0 is 1.
    return finish(jnp.where(errors == 0, 0, jnp.abs(errors)).sum(scores.axis), scores)


def mean_squared_error(
    logits: Array, labels: Array, *, axis: int = -1, where: Array | None = None
) -> Array:
    r"""Squared error between label and predicted distribution, the Brier score.

    .. math::
        \ell = \sum_k (y_k - p_k)^2, \qquad p = \mathrm{softmax}(f)

    The sum, and not the mean, over the classes, as in the papers. Bounded by 2; summed over all
    labels it is between :math:`K - 1` and :math:`2 (K - 1)`.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, from 0 to 2, in the dtype of `logits`. NaN where an integer
        label is outside ``[0, K)`` or masked; 0 where all classes are masked. Gradients flow to
        `logits` and `labels`.

    Raises:
        ValueError: for labels that fit neither form.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> mean_squared_error(logits, jnp.array([0, 1])).tolist()
        [0.180, 1.741]

    References:
        Ghosh, Kumar and Sastry, "Robust Loss Functions under Label Noise for Deep Neural Networks"
        (AAAI 2017).
    """
    scores = read_scores(logits, labels, axis, where)
    if scores.soft:
        p = jax.nn.softmax(scores.logits, axis=scores.axis)
        return finish(((scores.labels - p) ** 2).sum(scores.axis), scores)
    # From the pass of the normaliser; the label apart, so that nothing cancels.
    top, gaps, log_normaliser = relative_scores(scores)
    squares = jnp.where(is_label(scores), 0, jnp.exp(gaps) ** 2).sum(scores.axis)
    other = -jnp.expm1(label_score(scores) - top - log_normaliser)
    return finish(squares * jnp.exp(-2 * log_normaliser) + other**2, scores)


def reverse_cross_entropy(
    logits: Array,
    labels: Array,
    *,
    log_zero: ArrayLike = -4.0,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Reverse cross-entropy (RCE): prediction and label change places.

    .. math::
        \ell = -\sum_k p_k \max(\log y_k, A) = -A (1 - p_y) \text{ for a class } y, \qquad
        p = \mathrm{softmax}(f)

    with A standing for the logarithm of 0. Symmetric, as half :math:`-A` times the mean absolute
    error.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        log_zero: :math:`A \le 0`, a scalar or one per example, ``[...]``. The paper's code uses
            :math:`\log 10^{-4}`.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, from 0 to -A, in the dtype of `logits`. NaN where an
        integer label is outside ``[0, K)`` or masked; 0 where all classes are masked. Gradients
        flow to all three arguments.

    Raises:
        ValueError: for labels that fit neither form, a positive `log_zero`, or one that is neither
            a scalar nor one per example.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> reverse_cross_entropy(logits, jnp.array([0, 1])).tolist()
        [1.339, 3.819]

    References:
        Wang et al., "Symmetric Cross Entropy for Robust Learning with Noisy Labels" (ICCV 2019).
        The official code also lifts every probability to 1e-7, which adds up to that times -A for
        each class.
    """
    scores = read_scores(logits, labels, axis, where)
    return finish(_reversed(scores, log_zero), scores)


def symmetric_cross_entropy(
    logits: Array,
    labels: Array,
    *,
    alpha: ArrayLike,
    beta: ArrayLike,
    log_zero: ArrayLike = -4.0,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Symmetric cross-entropy (SCE): cross-entropy plus reverse cross-entropy.

    .. math::
        \ell = -\alpha \sum_k y_k \log p_k - \beta \sum_k p_k \max(\log y_k, A), \qquad
        p = \mathrm{softmax}(f)

    Cross-entropy makes it converge, :func:`reverse_cross_entropy` makes it tolerate noise.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        alpha: :math:`\alpha \ge 0`, a scalar or one per example, ``[...]``. The paper takes 0.1 for
            CIFAR-10, 6 for CIFAR-100.
        beta: :math:`\beta \ge 0`, a scalar or one per example, ``[...]``. The paper takes 1, 0.1.
        log_zero: :math:`A \le 0`, a scalar or one per example, ``[...]``.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked; 0 where all classes are masked; ``inf`` where the label's own
        logit is ``-inf``, unless alpha is 0. Gradients flow to all arguments.

    Raises:
        ValueError: for labels that fit neither form, a hyperparameter out of range, or one that is
            neither a scalar nor one per example.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> symmetric_cross_entropy(logits, jnp.array([0, 1]), alpha=0.1, beta=1.0).tolist()
        [1.380, 4.128]

    References:
        Wang et al., "Symmetric Cross Entropy for Robust Learning with Noisy Labels" (ICCV 2019).
    """
    scores = read_scores(logits, labels, axis, where)
    alpha = read_hyperparameter("alpha", alpha, scores, at_least=0)
    beta = read_hyperparameter("beta", beta, scores, at_least=0)
    cross = scaled(alpha, label_cross_entropy(scores))
    return finish(cross + beta * _reversed(scores, log_zero), scores)


def robust_log_loss(
    logits: Array,
    labels: Array,
    *,
    alpha: ArrayLike,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Robust log loss (RLL): a cross-entropy that is bounded and symmetric.

    .. math::
        \ell = \log \frac{\alpha + 1}{\alpha} - \log(\alpha + p_y)
            + \frac{1}{K - 1} \sum_{k \ne y} \log(\alpha + p_k), \qquad p = \mathrm{softmax}(f)

    0 where the label has all the probability; the other logarithms balance the label's, so that the
    sum over all labels is constant. Soft labels average it: :math:`\sum_j y_j \ell(f, j)`.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        alpha: :math:`\alpha > 0`, a scalar or one per example, ``[...]``. The larger, the closer to
            a multiple of the mean absolute error. Our comparisons try 0.1, 1 and 10.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`. K counts these.

    Returns:
        One loss per example, ``[...]``, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked; 0 where all classes are masked. Gradients flow to all three
        arguments.

    Raises:
        ValueError: for labels that fit neither form, alpha out of range, or an alpha that is
            neither a scalar nor one per example.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> robust_log_loss(logits, jnp.array([0, 1]), alpha=0.1).tolist()
        [1.303, 3.367]

    References:
        Patel and Sastry, "Memorization in Deep Neural Networks: Does the Loss Function Matter?"
        (PAKDD 2021), the robust log loss. The official code of Zhu et al. (ICML 2023) takes
        exponentials of something else; here it is the paper's definition.
    """
    scores = read_scores(logits, labels, axis, where)
    alpha = read_hyperparameter("alpha", alpha, scores, above=0)
    top, gaps, log_normaliser = relative_scores(scores)
    # log(alpha + p) - log(alpha); the constants cancel between the label and the others. One
    # factor per example, as a whole array of probabilities would be kept for its gradient.
    factor = jnp.exp(-log_normaliser) / alpha
    logs = jnp.log1p(jnp.exp(gaps) * along_classes(factor, scores.axis))
    if scores.soft:
        own = (scores.labels * logs).sum(scores.axis)
    else:
        own = jnp.log1p(jnp.exp(label_score(scores) - top) * factor)
    others = (logs.sum(scores.axis) - own) / jnp.maximum(scores.count - 1, 1)
    return finish(jnp.log1p(1 / alpha) - own + others, scores)


def _reversed(scores: Scores, log_zero: ArrayLike) -> Array:
    log_zero = read_hyperparameter("log_zero", log_zero, scores, at_most=0)
    if not scores.soft:
        return -log_zero * other_probability(scores)
    # A label without mass must not meet the logarithm, whose gradient there is infinite.
    least = along_classes(log_zero, scores.axis)
    massive = scores.labels > jnp.exp(least)
    log_labels = jnp.where(massive, jnp.log(jnp.where(massive, scores.labels, 1)), least)
    return -(jax.nn.softmax(scores.logits, axis=scores.axis) * log_labels).sum(scores.axis)
