"""Labels by what a teacher gives the true class."""

import jax.numpy as jnp
from jax import Array

from lnl_jax._arguments import check_range
from lnl_jax.distill._checks import class_distributions


def ferkd_targets(
    probabilities: Array,
    labels: Array,
    *,
    thresholds: tuple[float, float, float] = (0.15, 0.5, 0.95),
    context_smoothing: float = 0.9,
    smoothing: float = 0.1,
) -> Array:
    r"""FerKD's calibration of crops by what the teacher gives the true class, :math:`p_y`.

    Below the first threshold the crop is context: the label smoothed strongly. Up to the second it
    is the label smoothed; up to the third the teacher's distribution; above it the label smoothed.

    Args:
        probabilities: of the teacher, floating, ``[..., K]``.
        labels: integers, ``[...]``.
        thresholds: ascending, from 0 to 1.
        context_smoothing: share that is spread over the classes for context, from 0 to 1.
        smoothing: likewise for the other labels.

    Returns:
        Distributions, ``[..., K]``; NaN where a label is outside ``[0, K)``.

    Raises:
        ValueError: if the labels do not fit, the thresholds do not ascend, or a number is out of
            range.

    References:
        Shen, "FerKD: Surgical Label Adaptation for Efficient Distillation" (ICCV 2023). Neither
        thresholds nor smoothing are published; these are ours.
    """
    if len(thresholds) != 3 or not 0 <= thresholds[0] <= thresholds[1] <= thresholds[2] <= 1:
        raise ValueError(f"thresholds must be three that ascend from 0 to 1, got {thresholds}.")
    for name, share in (("context_smoothing", context_smoothing), ("smoothing", smoothing)):
        check_range(name, share, at_least=0, at_most=1)
    low, middle, high = thresholds
    classes = probabilities.shape[-1]
    truth = class_distributions("labels", labels, probabilities.shape[:-1], classes)
    confidence = (truth * probabilities).sum(-1, keepdims=True)
    softened = (1 - smoothing) * truth + smoothing / classes
    context = (1 - context_smoothing) * truth + context_smoothing / classes
    kept = (confidence >= middle) & (confidence < high)
    found = jnp.where(confidence < low, context, jnp.where(kept, probabilities, softened))
    return jnp.where(jnp.isnan(truth), jnp.nan, found)
