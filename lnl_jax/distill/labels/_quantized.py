"""Logits as bytes."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


class QuantizedLabels(NamedTuple):
    """Logits in 256 steps between the extremes of each row.

    Attributes:
        codes: uint8, ``[..., K]``.
        ranges: smallest value and width of a step, float16, ``[..., 2]``.
    """

    codes: Array
    ranges: Array


def quantize(logits: Array) -> QuantizedLabels:
    """Logits as bytes: the extremes of each row are kept, what is between is rounded.

    Args:
        logits: floating, finite and at least -65504, which float16 holds, ``[..., K]``; a row with
            another entry comes back as NaN.

    Returns:
        ``K + 4`` bytes per row.

    Raises:
        ValueError: if the logits are not floating.

    Example:
        >>> labels = quantize(jnp.array([-1.0, 0.0, 4.1]))
        >>> labels.codes.tolist()
        [0, 50, 255]
    """
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(f"logits must be floating, got {logits.dtype}; cast them to float32.")
    logits = logits.astype(jnp.float32)
    low = logits.min(-1, keepdims=True)
    ranges = jnp.concatenate([low, (logits.max(-1, keepdims=True) - low) / 255], -1)
    ranges = ranges.astype(jnp.float16)
    ranges = jnp.where(jnp.isfinite(ranges).all(-1, keepdims=True), ranges, jnp.nan)
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
