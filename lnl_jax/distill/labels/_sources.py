"""Where a student's labels come from: functions ``labels(batch) -> logits``, all of one signature.

A batch is a dict: `images`, the augmented ones ``[B, H, W, C]``; `mixed`, their classes, mixed by
area, ``[B, K]``; and `step`, its number, which only some sources look at.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lnl_jax._arguments import check_range
from lnl_jax._host_arguments import check_integer
from lnl_jax.distill._checks import check_step
from lnl_jax.distill.labels._top import as_logits

LabelSource = Callable[[Mapping[str, Any]], Array]


def hard_labels(*, smoothing: float = 0.0) -> LabelSource:
    """The classes of the distilled images, mixed by area, smoothed if wanted.

    Args:
        smoothing: the share that is spread over all classes, from 0 to 1.

    Returns:
        A source whose logits are logarithms of probabilities, for cross-entropy, or a temperature
        of 1. Where they are minus infinity no squared error exists.

    Raises:
        ValueError: if `smoothing` is out of range.

    Example:
        >>> source = hard_labels(smoothing=0.5)
        >>> jnp.exp(source({"mixed": jnp.array([[1.0, 0.0]])})).tolist()
        [[0.75, 0.25]]
    """
    check_range("smoothing", smoothing, at_least=0, at_most=1)

    def source(batch: Mapping[str, Any]) -> Array:
        mixed = jnp.asarray(batch["mixed"])
        return as_logits((1 - smoothing) * mixed + smoothing / mixed.shape[-1])

    return source


def stored_labels(logits: Array | np.ndarray) -> LabelSource:
    """Labels made earlier on the same batches, such as those of a file.

    Args:
        logits: of every step, ``[steps, B, K]``, any floating dtype; where the step is no traced
            number, NumPy's, memory maps too, are read step by step.

    Returns:
        A source that looks at the number of the step alone, which may be traced; NaN where a traced
        one has no labels.

    Raises:
        ValueError: if the logits have another shape or are not floating; when asked, if the step
            has no labels.

    Example:
        >>> source = stored_labels(np.arange(4, dtype=np.float16).reshape(2, 1, 2))
        >>> source({"step": 1}).tolist()
        [[2.0, 3.0]]
    """
    if logits.ndim != 3 or not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(
            f"logits must be floating of shape [steps, B, K], got {logits.dtype} of shape "
            f"{logits.shape}."
        )

    def source(batch: Mapping[str, Any]) -> Array:
        step = batch["step"]
        if not isinstance(step, jax.Array):
            check_integer("step", step, at_least=0, at_most=len(logits) - 1)
            return jnp.asarray(logits[step], jnp.float32)
        # The nearest step would be taken for one beyond the ends.
        there = (step >= 0) & (step < len(logits))
        found = jax.lax.dynamic_index_in_dim(jnp.asarray(logits), step, keepdims=False)
        return jnp.where(there, found.astype(jnp.float32), jnp.nan)

    return source


def model_labels(predict: Callable[[Array], Array]) -> LabelSource:
    """Labels made online: by a teacher, or by a projector.

    Args:
        predict: images ``[B, H, W, C]`` to logits ``[B, K]``.

    Returns:
        A source that looks at the augmented images alone; no gradient flows through it.

    Example:
        >>> source = model_labels(lambda images: 2 * images)
        >>> source({"images": jnp.ones(3)}).tolist()
        [2.0, 2.0, 2.0]
    """

    def source(batch: Mapping[str, Any]) -> Array:
        return jax.lax.stop_gradient(predict(batch["images"])).astype(jnp.float32)

    return source


def scheduled_labels(
    first: LabelSource, middle: LabelSource, last: LabelSource, *, soft: int, total: int
) -> LabelSource:
    """Soft, then hard, then soft labels: the curriculum of HALD.

    Args:
        first: of the first half of the soft steps, rounded down.
        middle: of the steps between.
        last: of the other half.
        soft: how many steps have soft labels, at most `total`.
        total: steps of the training.

    Returns:
        A source that is one of the three; the number of the step may be traced.

    Raises:
        ValueError: if `soft` or `total` is out of range.

    Example:
        >>> one, other = hard_labels(), hard_labels(smoothing=1.0)
        >>> source = scheduled_labels(one, other, one, soft=2, total=3)
        >>> mixed = jnp.array([[1.0, 0.0]])
        >>> [jnp.exp(source({"mixed": mixed, "step": step})).tolist() for step in range(3)]
        [[[1.0, 0.0]], [[0.5, 0.5]], [[1.0, 0.0]]]

    References:
        "Hard Labels In! Rethinking the Role of Hard Labels in Mitigating Local Semantic Drift"
        (HALD, arXiv 2512.15647, 2025).
    """
    check_integer("total", total)
    check_integer("soft", soft, at_least=0, at_most=total)

    def source(batch: Mapping[str, Any]) -> Array:
        check_step(batch["step"])
        begin, end = soft // 2, soft // 2 + total - soft
        stage = jnp.int32(batch["step"] >= begin) + jnp.int32(batch["step"] >= end)
        return jax.lax.switch(stage, (first, middle, last), batch)

    return source


def labels_ahead(
    labels: LabelSource, batches: Iterable[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Batches with their labels, which are asked for one batch before they are needed.

    JAX hands out arrays before they are computed. So the labels of the next batch are on their way
    while the student's step on this one runs, as long as nobody waits: `labels` should compute by
    compiled functions whose results stay on the device, such as `model_labels` of a `jax.jit`.

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
