"""What every metric asks of its arguments."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import read_example_mask


def read_scores(logits: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
    """Scores, and a class for each example as int32; -1 stands for what is no class.

    Raises:
        ValueError: unless the scores are floating and there is one integer per example.
    """
    logits = jnp.asarray(logits)
    if not jnp.issubdtype(logits.dtype, jnp.floating) or not logits.ndim or not logits.shape[-1]:
        raise ValueError(
            "logits must be floating of shape [..., K], K at least 1; got "
            f"{logits.dtype} of shape {logits.shape}."
        )
    return logits, read_classes("labels", labels, logits.shape[:-1], logits.shape[-1])


def read_classes(name: str, labels: ArrayLike, shape: tuple[int, ...], num_classes: int) -> Array:
    """One class per example as int32; -1 stands for what is no class.

    Raises:
        ValueError: unless there is one integer per example.
    """
    # A wide integer of NumPy would be cut to 32 bits, and so might become a class.
    labels = labels if hasattr(labels, "dtype") else np.asarray(labels)
    if np.shape(labels) != shape or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"{name} must be integers of shape {shape}, one class per example; got {labels.dtype} "
            f"of shape {np.shape(labels)}.{_repair(name, labels, shape)}"
        )
    # Compared in the labels' own type, which holds the number of classes or is below it anyway.
    most = min(num_classes - 1, jnp.iinfo(labels.dtype).max)
    inside = (labels >= 0) & (labels <= most)
    where = np.where if isinstance(labels, np.ndarray) else jnp.where
    return jnp.asarray(where(inside, labels, 0)).astype(jnp.int32) - jnp.asarray(~inside, jnp.int32)


def _repair(name: str, labels: Array, shape: tuple[int, ...]) -> str:
    if labels.shape == (*shape, 1):
        return f" Drop the last axis: {name}[..., 0]."
    if labels.ndim == len(shape) + 1:
        return f" Take the class of a distribution: {name}.argmax(-1)."
    if labels.shape == shape:
        return f" Cast class numbers: {name}.astype(int)."
    return ""


def read_where(where: Array | None, shape: tuple[int, ...]) -> Array:
    """The mask of the examples to count, all of them where there is none.

    Raises:
        ValueError: if it is not boolean or has another shape.
    """
    return jnp.ones(shape, bool) if where is None else read_example_mask("where", where, shape)


def check_matrix(name: str, values: Array) -> None:
    """Raises ValueError unless the values are floating of shape ``[N, D]``."""
    if values.ndim != 2 or not jnp.issubdtype(values.dtype, jnp.floating):
        raise ValueError(
            f"{name} must have the shape [N, D] and be floating, got {values.dtype} of shape "
            f"{values.shape}."
        )
