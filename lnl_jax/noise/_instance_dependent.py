"""Noise that depends on what the example looks like."""

import math

import numpy as np

from lnl_jax._host_arguments import check_generator, host_array, read_class_numbers
from lnl_jax.noise._checks import check_num_classes, check_rate

# How much the rates of the examples differ, as in the paper.
_RATE_DEVIATION = 0.1


def instance_dependent(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    rate: float,
    rng: np.random.Generator,
) -> np.ndarray:
    r"""Noise in which examples that look alike are mistaken alike: one row per example.

    .. math::
        T_n = q_n \, \mathrm{softmax}_{j \ne y_n}(x_n^\top W_{y_n}) \ \text{off the label}, \qquad
        T_{n, y_n} = 1 - q_n

    with rates :math:`q_n` from the normal distribution of mean `rate` and deviation 0.1, truncated
    to [0, 1], and a matrix :math:`W_c`, ``[D, K]``, of standard normal entries for each class.

    The truncation moves the mean of the rates inwards: by less than 0.006 for a `rate` from 0.2 to
    0.8, to 0.129 for 0.1 and to 0.080 for 0, which is not clean. Features are taken as they are.
    The scores :math:`x^\top W` grow with the norm of the features, and for pixels from 0 to 255,
    or even for many of size 1, the softmax is all on one class, much the same one for a whole
    class whose features have a large mean: scale the features first, say to mean 0 and a norm of
    about 1. (Code of others passes anything from pixels in [0, 1] to standardised ones.)

    Args:
        features: :math:`x`, numbers of shape ``[N, ...]``, flattened to ``[N, D]``.
        labels: the clean labels :math:`y`, integers of shape ``[N]``.
        num_classes: K, at least 2.
        rate: the mean fraction of false labels, from 0 to 1.
        rng: the generator to draw from: the matrices of all classes, which thus do not depend on
            `rate`, `labels` or N, then the rates.

    Returns:
        The row of each example's own label, the distribution of its noisy one, ``[N, K]``, float64;
        for `corrupt` (which takes N = K rows for those of the classes). Rows sum to 1.

    Raises:
        ValueError: if `rate` or `num_classes` is out of range, the labels are not N integers from 0
            to K - 1, the features are not N arrays of finite numbers, or `rng` is no
            generator.

    Example:
        >>> features = np.array([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]])
        >>> labels = np.array([0, 0, 0])
        >>> rows = instance_dependent(features, labels, 3, 0.4, np.random.default_rng(0))
        >>> (rows[:, 1:] / rows[:, 1:].sum(1, keepdims=True)).round(2).tolist()
        [[0.32, 0.68], [0.3, 0.7], [0.68, 0.32]]

    References:
        Xia et al., "Part-dependent Label Noise: Towards Instance-dependent Label Noise" (NeurIPS
        2020), Algorithm 2.
    """
    features, labels = host_array("features", features), host_array("labels", labels)
    check_num_classes(num_classes)
    check_rate(rate)
    check_generator("rng", rng)
    labels = read_class_numbers(labels, num_classes)
    features = _flatten(features, labels)
    rows = np.zeros((len(labels), num_classes))
    for label in range(num_classes):
        weights = rng.standard_normal((features.shape[1], num_classes))
        members = np.flatnonzero(labels == label)
        rows[members] = _softmax_without(features[members] @ weights, label)
    rates = _truncated_normal(rate, len(labels), rng)
    rows *= rates[:, None]
    rows[np.arange(len(labels)), labels] = 1 - rates
    return rows


def _softmax_without(scores: np.ndarray, label: int) -> np.ndarray:
    """The softmax over the other classes, 0 at the label."""
    scores[:, label] = -np.inf
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def _truncated_normal(mean: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draws again what falls outside [0, 1]: at least half of the numbers do not."""
    values = rng.normal(mean, _RATE_DEVIATION, size)
    while (outside := np.flatnonzero((values < 0) | (values > 1))).size:
        values[outside] = rng.normal(mean, _RATE_DEVIATION, outside.size)
    return values


def _flatten(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """``[N, D]``, or says what is wrong with the features."""
    if features.ndim == 0 or len(features) != len(labels) or features.dtype.kind not in "biuf":
        raise ValueError(
            f"features must be real numbers of shape [{len(labels)}, ...], a row for each label; "
            f"got {features.dtype} of shape {features.shape}."
        )
    # Not -1 for the last axis, which is unknown where there are no examples.
    features = features.reshape(len(labels), math.prod(features.shape[1:]))
    wrong = np.flatnonzero(~np.isfinite(features).all(1))
    if wrong.size:
        raise ValueError(
            f"features must be finite; {wrong.size} of {len(labels)} rows are not, the first is "
            f"row {wrong[0]}."
        )
    return features
