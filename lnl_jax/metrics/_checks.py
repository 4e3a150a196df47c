"""What every metric asks of its arguments."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import as_array, read_classes, read_example_mask


def read_scores(logits: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
    """Scores, and a class for each example as int32; -1 stands for what is no class.

    Raises:
        ValueError: unless the scores are floating and there is one integer per example.
    """
    logits = as_array("logits", logits)
    if not jnp.issubdtype(logits.dtype, jnp.floating) or not logits.ndim or not logits.shape[-1]:
        raise ValueError(
            "logits must be floating of shape [..., K], K at least 1; got "
            f"{logits.dtype} of shape {logits.shape}."
        )
    return logits, read_classes_below("labels", labels, logits.shape[:-1], logits.shape[-1])


def read_classes_below(
    name: str, labels: ArrayLike, shape: tuple[int, ...], num_classes: int
) -> Array:
    """One class per example as int32; -1 stands for what is no class.

    Raises:
        ValueError: unless there is one integer per example.
    """
    labels = read_classes(name, labels, shape)
    inside = (labels >= 0) & (labels < num_classes)
    return jnp.where(inside, labels, 0).astype(jnp.int32) - jnp.asarray(~inside, jnp.int32)


def read_where(where: Array | None, shape: tuple[int, ...]) -> Array:
    """The mask of the examples to count, all of them where there is none.

    Raises:
        ValueError: if it is not boolean or has another shape.
    """
    return jnp.ones(shape, bool) if where is None else read_example_mask("where", where, shape)


def read_matrix(name: str, values: ArrayLike) -> Array:
    """The values as a floating array ``[N, D]``, or ValueError."""
    values = as_array(name, values)
    if values.ndim != 2 or not jnp.issubdtype(values.dtype, jnp.floating):
        raise ValueError(
            f"{name} must have the shape [N, D] and be floating, got {values.dtype} of shape "
            f"{values.shape}."
        )
    return values
