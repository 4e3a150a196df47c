"""Metrics as sums and counts, which add up exactly over batches, devices and hosts.

How well scores find the mislabelled examples is the exception: `auroc` and `average_precision`
compare every example with every other, and are taken once, over all of them. So are
`effective_rank` and `uniformity` of embeddings. What an accuracy says of the true labels, where
some test labels are wrong, is said of such sums: `accuracy_bounds` and its relatives.
"""

from lnl_jax.metrics._average import Average, merge
from lnl_jax.metrics._calibration import (
    CalibrationBins,
    brier_score,
    calibration_bins,
    expected_calibration_error,
)
from lnl_jax.metrics._classification import (
    accuracy,
    class_mean,
    memorization,
    negative_log_likelihood,
    per_class_accuracy,
    top_k_accuracy,
)
from lnl_jax.metrics._detection import auroc, average_precision
from lnl_jax.metrics._label_noise import (
    AccuracyBounds,
    accuracy_bounds,
    crossing_prevalence,
    noise_corrected_accuracy,
)
from lnl_jax.metrics._representation import alignment, class_average, effective_rank, uniformity

__all__ = [
    "AccuracyBounds",
    "Average",
    "CalibrationBins",
    "accuracy",
    "accuracy_bounds",
    "alignment",
    "auroc",
    "average_precision",
    "brier_score",
    "calibration_bins",
    "class_average",
    "class_mean",
    "crossing_prevalence",
    "effective_rank",
    "expected_calibration_error",
    "memorization",
    "merge",
    "negative_log_likelihood",
    "noise_corrected_accuracy",
    "per_class_accuracy",
    "top_k_accuracy",
    "uniformity",
]
