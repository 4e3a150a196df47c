"""Where a student's labels come from: functions ``labels(key, images, geometry) -> logits``.

All have this one signature, so that a step of the student takes any of them: `images` are the
augmented ones ``[B, H, W, C]``, `geometry` says how they came about. `stored_labels` needs the
number of the step besides, and is made for it inside the step.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from lnl_jax.distill.geometry import Geometry, mixed_labels
from lnl_jax.distill.soft_labels import as_logits

LabelSource = Callable[[Array, Array, Geometry], Array]


def hard_labels(labels: Array, *, num_classes: int, smoothing: float = 0.0) -> LabelSource:
    """The classes of the distilled images, mixed by area, smoothed if wanted.

    Args:
        labels: integers, ``[N]``.
        num_classes: K.
        smoothing: the share that is spread over all classes, from 0 to 1.

    Returns:
        A source whose logits are logarithms of probabilities: for cross-entropy, or a temperature
        of 1. Where they are minus infinity no squared error exists.

    Raises:
        ValueError: if `smoothing` is out of range.
    """
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing must be from 0 to 1, got {smoothing}.")

    def source(key: Array, images: Array, geometry: Geometry) -> Array:
        mixed = mixed_labels(labels, geometry, num_classes=num_classes)
        return as_logits((1 - smoothing) * mixed + smoothing / num_classes)

    return source


def stored_labels(logits: Array, step: Array | int) -> LabelSource:
    """Labels made earlier with the same geometry, such as those of a file.

    Args:
        logits: of every step, ``[steps, B, K]``, any floating dtype.
        step: which one, may be traced.

    Returns:
        A source that looks at neither images nor geometry.
    """

    def source(key: Array, images: Array, geometry: Geometry) -> Array:
        return jax.lax.dynamic_index_in_dim(logits, step, keepdims=False).astype(jnp.float32)

    return source


def model_labels(predict: Callable[[Array], Array]) -> LabelSource:
    """Labels made online: by a teacher, or by a projector.

    Args:
        predict: images ``[B, H, W, C]`` to logits ``[B, K]``.

    Returns:
        A source that looks at the augmented images alone; no gradient flows through it.
    """

    def source(key: Array, images: Array, geometry: Geometry) -> Array:
        return jax.lax.stop_gradient(predict(images)).astype(jnp.float32)

    return source


def scheduled_labels(
    first: LabelSource,
    middle: LabelSource,
    last: LabelSource,
    *,
    step: Array,
    soft: int,
    total: int,
) -> LabelSource:
    """Soft, then hard, then soft labels: the curriculum of HALD.

    Args:
        first: of the first half of the soft steps, rounded down.
        middle: of the steps between.
        last: of the other half.
        step: number of the step.
        soft: how many steps have soft labels, at most `total`.
        total: steps of the training.

    Returns:
        A source that is one of the three.

    Raises:
        ValueError: if `soft` is out of range.

    References:
        "Hard Labels In! Rethinking the Role of Hard Labels in Mitigating Local Semantic Drift"
        (HALD, arXiv 2512.15647, 2025).
    """
    if not 0 <= soft <= total:
        raise ValueError(f"soft must be from 0 to the {total} steps, got {soft}.")

    def source(key: Array, images: Array, geometry: Geometry) -> Array:
        begin, end = soft // 2, soft // 2 + total - soft
        stage = jnp.int32(step >= begin) + jnp.int32(step >= end)
        return jax.lax.switch(stage, (first, middle, last), key, images, geometry)

    return source
