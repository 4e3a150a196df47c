"""Normalisations of the logits that the caller applies before a loss, differentiated through."""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import computation_dtype, in_range, read_logits


def softplus_mean_normalize(logits: Array, *, axis: int = -1) -> Array:
    r"""Positive scores with mean 1: :math:`\mathrm{softplus}(f) / \mathrm{mean}_k f`.

    .. math::
        g_j = \frac{\log(1 + e^{f_j})}{\frac{1}{K} \sum_k \log(1 + e^{f_k})}

    Differences between such scores lie in ``[-K, K]`` whatever the network's scale, which gives a
    temperature the same meaning throughout training. Where every softplus would underflow they are
    the exponentials of the scores above the largest one, :math:`K\,\mathrm{softmax}(f)`, which is
    the limit.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        axis: the axis of the classes.

    Returns:
        :math:`g`, in the shape and dtype of `logits`. A score of ``-inf`` among others gives 0;
        NaN where all of them are ``-inf``, and for one of ``inf``, beside which the others are 0.

    Raises:
        ValueError: if `logits` is not floating or has no such axis.

    Example:
        >>> softplus_mean_normalize(jnp.array([[2.0, 0.0, -2.0]])).tolist()
        [[2.165, 0.706, 0.129]]

    References:
        Zhu, Ying and Yang, "Label Distributionally Robust Losses for Multi-class Classification:
        Consistency, Robustness and Adaptivity" (ICML 2023); the official code of LDR-KL.
    """
    scores = _widened(logits, axis)
    positive = _scaled_softplus(scores, axis)
    # Divided before they are added: the sum of scores near the largest number would overflow.
    mean = (positive / scores.shape[axis]).sum(axis, keepdims=True)
    return (positive / mean).astype(logits.dtype)


def l1_mean_normalize(logits: Array, *, axis: int = -1) -> Array:
    r"""Scores with mean absolute value 1: :math:`f / \mathrm{mean}_k |f_k|`.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        axis: the axis of the classes.

    Returns:
        The normalised scores, in the shape and dtype of `logits`; scores that are all 0 stay so,
        and their gradient is that of the identity. A score of 0 among others does not change the
        mean: of the slopes of :math:`|f_k|` there, from -1 to 1, the gradient takes 0. NaN where a
        score is infinite, ``-inf`` too.

    Raises:
        ValueError: if `logits` is not floating or has no such axis.

    Example:
        >>> l1_mean_normalize(jnp.array([[2.0, 0.0, -4.0]])).tolist()
        [[1.0, 0.0, -2.0]]

    References:
        Zhu, Ying and Yang, "Label Distributionally Robust Losses for Multi-class Classification:
        Consistency, Robustness and Adaptivity" (ICML 2023); the official code of ALDR-KL.
    """
    scores, zero = _largest_one(_widened(logits, axis), axis)
    # The slope of `jnp.abs` at 0 is 1.
    absolute = jnp.where(scores == 0, 0, jnp.abs(scores))
    mean = jnp.where(zero, 1, absolute.mean(axis, keepdims=True))
    return (scores / mean).astype(logits.dtype)


def logit_normalize(logits: Array, *, temperature: ArrayLike, axis: int = -1) -> Array:
    r"""Scores of Euclidean norm :math:`1 / \tau`: :math:`f / (\tau \|f\|_2)`.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        temperature: :math:`\tau > 0`, a scalar.
        axis: the axis of the classes.

    Returns:
        The normalised scores, in the shape and dtype of `logits`; scores that are all 0 stay so,
        and their gradient is that of :math:`f / \tau`.

    Raises:
        ValueError: if `logits` is not floating or has no such axis, or `temperature` is not a
            positive scalar.

    Example:
        >>> logit_normalize(jnp.array([[3.0, 0.0, -4.0]]), temperature=0.1).tolist()
        [[6.00, 0.00, -8.00]]

    References:
        Wei et al., "Mitigating Neural Network Overconfidence with Logit Normalization" (ICML 2022),
        the LogitNorm loss.
    """
    scores = _widened(logits, axis)
    if jnp.shape(temperature):
        raise ValueError(f"temperature must be a scalar, got shape {jnp.shape(temperature)}.")
    temperature = in_range("temperature", temperature, scores.dtype, above=0, below=math.inf)
    scores, zero = _largest_one(scores, axis)
    norm = jnp.sqrt(jnp.where(zero, 1, (scores**2).sum(axis, keepdims=True)))
    return (scores / norm / temperature).astype(logits.dtype)


def logit_clip(logits: Array, *, threshold: ArrayLike, axis: int = -1) -> Array:
    r"""Scores of a Euclidean norm of at most :math:`\tau`, longer ones shortened to it.

    .. math::
        g = f \min\left(1, \frac{\tau}{\|f\|_2}\right)

    It bounds every loss of the scores; the gradient of a longer vector has no part along it.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        threshold: :math:`\tau > 0`, a scalar. The paper takes about 0.5 to 2.5.
        axis: the axis of the classes.

    Returns:
        :math:`g`, in the shape and dtype of `logits`.

    Raises:
        ValueError: if `logits` is not floating or has no such axis, or `threshold` is not a
            positive scalar.

    Example:
        >>> logit_clip(jnp.array([[3.0, 0.0, -4.0], [0.3, 0.0, -0.4]]), threshold=1.0).tolist()
        [[0.60, 0.00, -0.80], [0.30, 0.00, -0.40]]

    References:
        Wei et al., "Mitigating Memorization of Noisy Labels by Clipping the Model Prediction"
        (ICML 2023), LogitClip with p = 2. The official code divides longer vectors by their norm
        times its temperature, which jumps at the threshold; this is the paper's form.
    """
    scores = _widened(logits, axis)
    if jnp.shape(threshold):
        raise ValueError(f"threshold must be a scalar, got shape {jnp.shape(threshold)}.")
    threshold = in_range("threshold", threshold, scores.dtype, above=0, below=math.inf)
    relative, zero = _largest_one(scores, axis)
    largest = jax.lax.stop_gradient(jnp.abs(scores).max(axis, keepdims=True))
    norm = jnp.sqrt(jnp.where(zero, 1, (relative**2).sum(axis, keepdims=True)))
    # Compared as quotients, so that the norm of large scores does not overflow.
    longer = norm > threshold / jnp.where(zero, 1, largest)
    clipped = jnp.where(longer, relative / norm * threshold, scores)
    return clipped.astype(logits.dtype)


def _widened(logits: Array, axis: int) -> Array:
    logits = read_logits(logits, axis)
    return logits.astype(computation_dtype(logits.dtype))


def _scaled_softplus(scores: Array, axis: int) -> Array:
    """Softplus, or exponentials relative to the largest one where all scores are very negative.

    Softplus is the exponential there, and what is divided by its mean keeps no scale. One
    exponential serves both.
    """
    top = jax.lax.stop_gradient(scores.max(axis, keepdims=True))
    low = top < -50
    # Both parts choose the same side at 0, where softplus has the slope 1/2; `jnp.abs` and
    # `jnp.maximum` would not, and their slopes there would cancel.
    positive = scores > 0
    below = jnp.where(positive, -scores, scores)
    small = jnp.exp(jnp.where(low, scores - jnp.where(low, top, 0), below))
    return jnp.where(low, small, jnp.where(positive, scores, 0) + jnp.log1p(small))


def _largest_one(scores: Array, axis: int) -> tuple[Array, Array]:
    """Scores divided by the largest absolute one, held, and where all are 0.

    What does not depend on their scale keeps its value and gradient, and no square overflows.
    """
    largest = jax.lax.stop_gradient(jnp.abs(scores).max(axis, keepdims=True))
    zero = largest == 0
    return scores / jnp.where(zero, 1, largest), zero
