"""Features before they are compared: of unit norm, or standardised; examples of equal classes."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lnl_jax._arguments import as_array, computation_dtype, read_classes
from lnl_jax._host_arguments import check_integer


def unit_rows(features: Array) -> Array:
    """Rows of length 1; a row of zeros has no direction: it stays what it is, with gradient 0.

    Args:
        features: floating, ``[..., D]``.

    Returns:
        The same shape and dtype.

    Raises:
        ValueError: if they are not floating, or a single number.

    Example:
        >>> unit_rows(jnp.array([[3.0, 4.0], [3e-30, 4e-30], [0.0, 0.0]])).tolist()
        [[0.6, 0.8], [0.6, 0.8], [0.0, 0.0]]
    """
    features = as_array("features", features)
    if not features.ndim or not jnp.issubdtype(features.dtype, jnp.floating):
        raise ValueError(
            f"features must be floating of shape [..., D], got {features.dtype} of shape "
            f"{features.shape}."
        )
    values = features.astype(computation_dtype(features.dtype))
    # The squares of very small or large rows would be 0 or infinite.
    size = jax.lax.stop_gradient(jnp.abs(values).max(-1, keepdims=True))
    nothing = size == 0
    values = values / jnp.where(nothing, 1, size)
    squares = jnp.where(nothing, 1, jnp.square(values).sum(-1, keepdims=True))
    return jnp.where(nothing, 0, values * jax.lax.rsqrt(squares)).astype(features.dtype)


def standardize(features: Array, reference: Array) -> Array:
    """Takes the mean and deviation of a reference out of features, column by column.

    A column that is constant in the reference keeps its scale.

    Args:
        features: floating, ``[N, D]``.
        reference: such as those of the training set, ``[M, D]``.

    Returns:
        The shape of `features`.

    Raises:
        ValueError: if these are no two tables of the same columns.

    Example:
        >>> reference = jnp.array([[1.0, 5.0], [3.0, 5.0]])
        >>> standardize(jnp.array([[4.0, 6.0]]), reference).tolist()
        [[2.0, 1.0]]
    """
    features, reference = as_array("features", features), as_array("reference", reference)
    for name, values in (("features", features), ("reference", reference)):
        if not jnp.issubdtype(values.dtype, jnp.floating):
            raise ValueError(f"{name} must be floating, got {values.dtype}; cast them to float32.")
    shapes = np.shape(features), np.shape(reference)
    if any(len(shape) != 2 for shape in shapes) or shapes[0][1] != shapes[1][1] or not shapes[1][0]:
        raise ValueError(
            "features and reference must have the shapes [N, D] and [M, D], got "
            f"{shapes[0]} and {shapes[1]}."
        )
    mean, deviation = reference.mean(0), reference.std(0)
    return (features - mean[None]) / jnp.where(deviation > 1e-6, deviation, 1)[None]


def balanced_weights(labels: Array, *, num_classes: int) -> Array:
    """Weights of examples that give every class the same share: for `fit_linear_probe`.

    Args:
        labels: integers from 0 to K - 1, ``[N]``.
        num_classes: K.

    Returns:
        One over the size of the class, float32, ``[N]``.

    Raises:
        ValueError: for labels that are no integers, ``[N]``, or `num_classes` out of range.

    Example:
        >>> balanced_weights(jnp.array([0, 0, 1]), num_classes=2).tolist()
        [0.5, 0.5, 1.0]
    """
    labels = read_classes("labels", labels, np.shape(labels)[:1])
    check_integer("num_classes", num_classes)
    counts = jnp.zeros(num_classes).at[labels].add(1.0)
    return 1 / counts[labels]
