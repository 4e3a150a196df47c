"""Whether probabilities mean what they say."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lnl_jax._arguments import check_count
from lnl_jax.metrics._average import Average, average, group_sums
from lnl_jax.metrics._checks import read_scores


class CalibrationBins(NamedTuple):
    """Examples by the confidence of their prediction, as sums that `merge` adds over batches.

    Attributes:
        count: how many fall into each bin, ``[num_bins]``, float32.
        confidence: the sum of their confidences, ``[num_bins]``, float32.
        correct: how many of them are predicted right, ``[num_bins]``, float32.
    """

    count: Array
    confidence: Array
    correct: Array


def calibration_bins(
    logits: Array, labels: Array, *, num_bins: int = 15, where: Array | None = None
) -> CalibrationBins:
    r"""Sorts the examples into bins of equal width by the confidence of their prediction.

    The confidence is :math:`\max_k \mathrm{softmax}(f)_k`. Bin b holds what is above
    :math:`b / B` and at most :math:`(b + 1) / B`; confidence 0 is in the first.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``.
        labels: classes, integers of shape ``[...]``.
        num_bins: :math:`B`, a Python integer, at least 1.
        where: boolean, the examples to count, ``[...]``; None counts all.

    Returns:
        `CalibrationBins`, for `merge` and `expected_calibration_error`; divided by the counts they
        are the reliability diagram. A label outside ``[0, K)`` counts as wrong, and NaN scores make
        the confidences of a bin NaN.

    Raises:
        ValueError: if `labels` or `where` have another shape or type, or `num_bins` is below 1.

    Example:
        >>> logits = jnp.log(jnp.array([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6]]))
        >>> bins = calibration_bins(logits, jnp.array([0, 1, 1]), num_bins=4)
        >>> bins.count.tolist(), bins.correct.tolist()
        ([0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 1.0, 1.0])

    References:
        Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), Section 2.
    """
    logits, labels = read_scores(logits, labels)
    check_count("num_bins", num_bins)
    confidence = jax.nn.softmax(logits.astype(jnp.float32), -1).max(-1)
    correct = logits.argmax(-1) == labels
    edges = jnp.arange(1, num_bins, dtype=jnp.float32) / num_bins
    # As many as there are edges below: one that equals an edge belongs to the bin under it.
    bins = jnp.searchsorted(edges, confidence, method="compare_all").astype(jnp.int32)
    return CalibrationBins(
        *(
            group_sums(values, bins, num_bins, where)
            for values in (jnp.ones_like(confidence), confidence, correct)
        )
    )


def expected_calibration_error(bins: CalibrationBins) -> Array:
    r"""How far accuracy and confidence are apart, on average.

    .. math::
        \mathrm{ECE} = \sum_b \frac{n_b}{n} \big| \mathrm{acc}_b - \mathrm{conf}_b \big|

    It does not add up over batches, which is why it takes the bins: merge them first.

    Args:
        bins: from `calibration_bins`.

    Returns:
        A scalar from 0 to 1, float32; NaN where nothing was counted.

    Example:
        >>> logits = jnp.log(jnp.array([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6]]))
        >>> bins = calibration_bins(logits, jnp.array([0, 1, 1]), num_bins=4)
        >>> round(float(expected_calibration_error(bins)), 3)
        0.133

    References:
        Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), equation 3.
    """
    # The count of a bin cancels, so that an empty one needs no care.
    return Average(jnp.abs(bins.correct - bins.confidence).sum(-1), bins.count.sum(-1)).value


def brier_score(logits: Array, labels: Array, *, where: Array | None = None) -> Average:
    r"""Mean squared distance of the probabilities from the label.

    .. math::
        \sum_k (p_k - y_k)^2, \qquad p = \mathrm{softmax}(f)

    From 0 to 2. (For two classes some count one of the two terms only, which is half of this.)

    Args:
        logits: scores :math:`f`, shape ``[..., K]``.
        labels: classes, integers of shape ``[...]``; :math:`y` is 1 at the label.
        where: boolean, the examples to count, ``[...]``; None counts all.

    Returns:
        The `Average` over the counted examples; its value is NaN if a label is outside ``[0, K)``.

    Raises:
        ValueError: if `labels` or `where` have another shape or type.

    Example:
        >>> round(float(brier_score(jnp.zeros((1, 2)), jnp.array([1])).value), 3)
        0.5

    References:
        Brier, "Verification of Forecasts Expressed in Terms of Probability" (Monthly Weather Review
        1950), equation 2.
    """
    logits, labels = read_scores(logits, labels)
    probabilities = jax.nn.softmax(logits.astype(jnp.float32), -1)
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=jnp.float32)
    distances = jnp.square(probabilities - targets).sum(-1)
    return average(jnp.where(labels >= 0, distances, jnp.nan), where)
