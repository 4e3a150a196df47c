"""What every metric asks of its arguments."""

import jax.numpy as jnp
from jax import Array


def check_labels(logits: Array, labels: Array) -> None:
    """Raises ValueError unless there is one integer per example."""
    if labels.shape != logits.shape[:-1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels must be integers of shape {logits.shape[:-1]}, as logits have; got "
            f"{labels.dtype} of shape {labels.shape}."
        )


def check_count(name: str, value: int, at_most: int | None = None) -> None:
    """Raises ValueError unless the value is a Python integer from 1 to `at_most`."""
    integer = isinstance(value, int) and not isinstance(value, bool)
    if not integer or value < 1 or (at_most is not None and value > at_most):
        to = " on" if at_most is None else f" to the number of classes, {at_most}"
        raise ValueError(f"{name} must be an integer from 1{to}; got {value}.")


def is_class(labels: Array, logits: Array) -> Array:
    """Where a label, int32, is one of the classes."""
    return (labels >= 0) & (labels < logits.shape[-1])
