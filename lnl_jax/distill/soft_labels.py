"""Soft labels in little space: the largest classes, fewer bits, and how they are read again."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class TopLabels(NamedTuple):
    """The k largest entries of each row.

    Attributes:
        values: in descending order, ``[..., k]``.
        classes: theirs, in the smallest unsigned type that holds them, ``[..., k]``.
    """

    values: Array
    classes: Array


class QuantizedLabels(NamedTuple):
    """Logits in 256 steps between the extremes of each row.

    Attributes:
        codes: uint8, ``[..., K]``.
        ranges: smallest value and width of a step, float16, ``[..., 2]``.
    """

    codes: Array
    ranges: Array


def keep_top(values: Array, k: int) -> TopLabels:
    """Keeps the k largest entries of each row.

    Args:
        values: logits or probabilities, ``[..., K]``.
        k: how many, from 1 to K.

    Returns:
        Them and their classes, in the dtype of `values` and uint8, uint16 or uint32.

    Raises:
        ValueError: if k is out of range.

    Example:
        >>> top = keep_top(jnp.array([0.1, 0.7, 0.2]), 2)
        >>> top.values.tolist(), top.classes.tolist(), str(top.classes.dtype)
        ([0.7, 0.2], [1, 2], 'uint8')
    """
    classes = values.shape[-1]
    if not 1 <= k <= classes:
        raise ValueError(f"k must be from 1 to the {classes} classes, got {k}.")
    found, places = jax.lax.top_k(values, k)
    return TopLabels(found, places.astype(index_dtype(classes)))


def index_dtype(num_classes: int) -> type:
    """The smallest unsigned integer that holds every class.

    Args:
        num_classes: K.

    Returns:
        The type.
    """
    return jnp.uint8 if num_classes <= 256 else jnp.uint16 if num_classes <= 65536 else jnp.uint32


def recover_hard(top: TopLabels, *, num_classes: int) -> Array:
    """FKD's rule for one stored class: all of the probability.

    Args:
        top: of probabilities; only the largest is used.
        num_classes: K.

    Returns:
        Distributions, ``[..., K]``.

    References:
        Shen and Xing, "A Fast Knowledge Distillation Framework for Visual Recognition" (FKD, ECCV
        2022), section on label quantisation, as are the next three.
    """
    return jax.nn.one_hot(top.classes[..., 0], num_classes)


def recover_smoothing(top: TopLabels, *, num_classes: int) -> Array:
    """FKD's rule for one stored probability: the rest is shared equally.

    Args:
        top: of probabilities; only the largest is used.
        num_classes: K.

    Returns:
        Distributions, ``[..., K]``.
    """
    first = TopLabels(top.values[..., :1], top.classes[..., :1])
    return recover_marginal_smoothing(first, num_classes=num_classes)


def recover_marginal_smoothing(top: TopLabels, *, num_classes: int) -> Array:
    """FKD's rule for k stored probabilities: the others share what is left equally.

    Args:
        top: of probabilities.
        num_classes: K.

    Returns:
        Distributions, ``[..., K]``.

    Example:
        >>> top = keep_top(jnp.array([0.1, 0.7, 0.1, 0.1]), 1)
        >>> recover_marginal_smoothing(top, num_classes=4).tolist()
        [0.1, 0.7, 0.1, 0.1]
    """
    values = top.values.astype(jnp.float32)
    k = values.shape[-1]
    left = jnp.maximum(1 - values.sum(-1, keepdims=True), 0)
    return _scatter(top.classes, values, left / max(num_classes - k, 1), num_classes)


def recover_marginal_renorm(top: TopLabels, *, num_classes: int) -> Array:
    """FKD's rule for k stored probabilities: divided by their sum, the others 0.

    Args:
        top: of probabilities.
        num_classes: K.

    Returns:
        Distributions, ``[..., K]``.
    """
    values = top.values.astype(jnp.float32)
    share = values / values.sum(-1, keepdims=True)
    return _scatter(top.classes, share, jnp.zeros_like(share[..., :1]), num_classes)


def recover_logit_renorm(top: TopLabels, *, num_classes: int) -> Array:
    """LPQLD's MR-k: softmax over the k stored logits, the others minus infinity.

    Args:
        top: of logits.
        num_classes: K.

    Returns:
        Logits, ``[..., K]``.

    References:
        Xiao et al., "Are Large-scale Soft Labels Necessary for Large-scale Dataset Distillation?"
        (LPLD, NeurIPS 2024), and the quantisation of its sequel LPQLD, as is the next.
    """
    values = top.values.astype(jnp.float32)
    return _scatter(top.classes, values, jnp.full_like(values[..., :1], -jnp.inf), num_classes)


def recover_logit_fill(top: TopLabels, *, num_classes: int) -> Array:
    """LPQLD's MRS: the others have the smallest of the stored logits.

    Args:
        top: of logits.
        num_classes: K.

    Returns:
        Logits, ``[..., K]``.
    """
    values = top.values.astype(jnp.float32)
    return _scatter(top.classes, values, values.min(-1, keepdims=True), num_classes)


def as_logits(probabilities: Array) -> Array:
    """Logits of a distribution, minus infinity for 0; LPQLD's MS is this of stored probabilities.

    Args:
        probabilities: ``[..., K]``.

    Returns:
        The same shape.
    """
    positive = probabilities > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, probabilities, 1)), -jnp.inf)


def quantize(logits: Array) -> QuantizedLabels:
    """Logits as bytes: the extremes of each row are kept, what is between is rounded.

    Args:
        logits: finite, ``[..., K]``.

    Returns:
        ``K + 4`` bytes per row.

    Example:
        >>> labels = quantize(jnp.array([-1.0, 0.0, 4.1]))
        >>> labels.codes.tolist()
        [0, 50, 255]
    """
    low = logits.min(-1, keepdims=True)
    ranges = jnp.concatenate([low, (logits.max(-1, keepdims=True) - low) / 255], -1)
    ranges = ranges.astype(jnp.float16)
    start, width = jnp.split(ranges.astype(jnp.float32), 2, -1)
    steps = (logits - start) / jnp.where(width > 0, width, 1)
    return QuantizedLabels(jnp.clip(jnp.round(steps), 0, 255).astype(jnp.uint8), ranges)


def dequantize(labels: QuantizedLabels) -> Array:
    """The logits again; off by at most half a step and the rounding of float16.

    Args:
        labels: of `quantize`.

    Returns:
        float32, ``[..., K]``.
    """
    start, width = jnp.split(labels.ranges.astype(jnp.float32), 2, -1)
    return start + width * labels.codes.astype(jnp.float32)


def pool_steps(steps: int, keep: int) -> int:
    """How many steps' labels LPLD stores: the first part of the run.

    Args:
        steps: of the student's training.
        keep: one in so many is stored, at least 1.

    Returns:
        At least 1.

    Raises:
        ValueError: if `keep` is less than 1.

    References:
        Xiao et al., "Are Large-scale Soft Labels Necessary for Large-scale Dataset Distillation?"
        (LPLD, NeurIPS 2024): a random pool, drawn from with replacement. The geometry is random
        already, so the first steps are a random pool, and only their labels are ever made.
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}.")
    return max(steps // keep, 1)


def pooled_step(seed: int, step: Array | int, pool: int) -> Array:
    """Which stored step a step of a pruned run takes: uniform, with replacement.

    Args:
        seed: of the draws.
        step: number of the student's step; may be traced.
        pool: stored steps, of `pool_steps`.

    Returns:
        An integer from 0 to pool - 1.
    """
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), step)
    return jax.random.randint(key, (), 0, pool)


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
        probabilities: of the teacher, ``[B, K]``.
        labels: integers, ``[B]``.
        thresholds: ascending.
        context_smoothing: share that is spread over the classes for context.
        smoothing: likewise for the other labels.

    Returns:
        Distributions, ``[B, K]``.

    Raises:
        ValueError: if the thresholds do not ascend.

    References:
        Shen, "FerKD: Surgical Label Adaptation for Efficient Distillation" (ICCV 2023). Neither
        thresholds nor smoothing are published; these are ours.
    """
    if list(thresholds) != sorted(thresholds):
        raise ValueError(f"thresholds must ascend, got {thresholds}.")
    low, middle, high = thresholds
    classes = probabilities.shape[-1]
    truth = jax.nn.one_hot(labels, classes)
    confidence = (truth * probabilities).sum(-1, keepdims=True)
    softened = (1 - smoothing) * truth + smoothing / classes
    context = (1 - context_smoothing) * truth + context_smoothing / classes
    kept = (confidence >= middle) & (confidence < high)
    return jnp.where(confidence < low, context, jnp.where(kept, probabilities, softened))


def _scatter(classes: Array, values: Array, rest: Array, num_classes: int) -> Array:
    """Rows of `rest` with the values at their classes."""
    row = jnp.broadcast_to(rest, (*values.shape[:-1], num_classes))
    return jnp.put_along_axis(row, classes.astype(jnp.int32), values, -1, inplace=False)
