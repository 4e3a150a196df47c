"""Where a student's labels come from: functions ``labels(key, images, geometry) -> logits``.

All have this one signature, so that a step of the student takes any of them: `images` are the
augmented ones ``[B, H, W, C]``, `geometry` says how they came about. `stored_labels` needs the
number of the step besides, and is made for it inside the step.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from lnl_jax._arguments import check_integer, check_range
from lnl_jax.distill._checks import check_step
from lnl_jax.distill.labels._geometry import Geometry, mixed_labels
from lnl_jax.distill.labels._top import as_logits

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
        ValueError: if a number is out of range.
    """
    check_range("smoothing", smoothing, at_least=0, at_most=1)
    check_integer("num_classes", num_classes)

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
        A source that looks at neither images nor geometry; NaN for a traced step that has no
        labels.

    Raises:
        ValueError: if the logits have another shape or are not floating, or the step has no labels.
    """
    if logits.ndim != 3 or not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(
            f"logits must be floating of shape [steps, B, K], got {logits.dtype} of shape "
            f"{logits.shape}."
        )
    if not isinstance(step, jax.Array):
        check_integer("step", step, at_least=0, at_most=len(logits) - 1)

    def source(key: Array, images: Array, geometry: Geometry) -> Array:
        # The nearest step would be taken for one beyond the ends.
        there = (step >= 0) & (step < len(logits))
        found = jax.lax.dynamic_index_in_dim(logits, step, keepdims=False)
        return jnp.where(there, found.astype(jnp.float32), jnp.nan)

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
        ValueError: if `soft` or `total` is out of range.

    References:
        "Hard Labels In! Rethinking the Role of Hard Labels in Mitigating Local Semantic Drift"
        (HALD, arXiv 2512.15647, 2025).
    """
    check_integer("total", total)
    check_integer("soft", soft, at_least=0, at_most=total)
    check_step(step)

    def source(key: Array, images: Array, geometry: Geometry) -> Array:
        begin, end = soft // 2, soft // 2 + total - soft
        stage = jnp.int32(step >= begin) + jnp.int32(step >= end)
        return jax.lax.switch(stage, (first, middle, last), key, images, geometry)

    return source


def labels_ahead(
    labels: Callable[[Mapping[str, Any]], Array], batches: Iterable[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Batches with their labels, which are asked for one batch before they are needed.

    JAX hands out arrays before they are computed. So the labels of the next batch are on their way
    while the student's step on this one runs, as long as nobody waits: `labels` should be a
    compiled function whose result stays on the device, such as ``jax.jit`` of a label source.

    Args:
        labels: a batch to logits ``[B, K]``.
        batches: dicts of arrays, one for each step.

    Yields:
        Each batch with the result of `labels` as ``targets``.

    Example:
        >>> asked = []
        >>> batches = [{"step": 0}, {"step": 1}, {"step": 2}]
        >>> labelled = labels_ahead(lambda batch: asked.append(batch["step"]), batches)
        >>> next(labelled), asked
        ({'step': 0, 'targets': None}, [0, 1])
    """
    waiting: dict[str, Any] | None = None
    for batch in batches:
        labelled = dict(batch) | {"targets": labels(batch)}
        if waiting is not None:
            yield waiting
        waiting = labelled
    if waiting is not None:
        yield waiting
