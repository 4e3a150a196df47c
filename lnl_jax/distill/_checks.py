"""How the objectives of distillation read their arguments: as the losses do."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import (
    check_range,
    computation_dtype,
    in_range,
    read_classes,
    read_labels,
    read_logits,
)
from lnl_jax._host_arguments import check_integer


def read_logits_and_targets(logits: Array, targets: Array) -> tuple[Array, Array, np.dtype]:
    """Both in the dtype of the computation, no gradient through the second; the logits' dtype.

    Raises:
        ValueError: if one of them is not floating, or their shapes differ.
    """
    logits, targets = read_logits(logits, -1), jnp.asarray(targets)
    if targets.shape != logits.shape or not jnp.issubdtype(targets.dtype, jnp.floating):
        raise ValueError(
            f"targets must be floating of shape {logits.shape}, as logits have; got "
            f"{targets.dtype} of shape {targets.shape}."
        )
    wide = computation_dtype(logits.dtype)
    return logits.astype(wide), jax.lax.stop_gradient(targets.astype(wide)), logits.dtype


def read_number(name: str, value: ArrayLike, logits: Array, **bounds: float) -> Array:
    """A finite scalar, or one number per example, as ``[..., 1]``, in the dtype of the logits.

    Raises:
        ValueError: if it has another shape, or is a number out of range.
    """
    if np.shape(value) not in ((), logits.shape[:-1]):
        raise ValueError(
            f"{name} must be a scalar or have one value per example, shape {logits.shape[:-1]}; "
            f"got shape {np.shape(value)}."
        )
    found = in_range(name, value, logits.dtype, **{"below": jnp.inf} | bounds)
    return jnp.broadcast_to(found, logits.shape[:-1])[..., None]


def log_probabilities(logits: Array, temperature: Array | None = None) -> Array:
    """The logarithms of ``softmax(logits / temperature)``; minus infinity stays what it is."""
    largest = jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    # A score that is NaN counts as possible, and makes all of them NaN.
    possible = logits != -jnp.inf
    # The differences are exact for scores that are close, whatever their size. What is impossible
    # is kept out of the division, whose slope in the temperature would be NaN there.
    gaps = jnp.where(possible, logits, largest) - largest
    gaps = gaps if temperature is None else gaps / temperature
    gaps = jnp.where(possible, gaps, -jnp.inf)
    return gaps - jax.nn.logsumexp(gaps, -1, keepdims=True)


def expected_gap(weights: Array, first: Array | float, second: Array) -> Array:
    """``sum(weights * (first - second))``; what has no weight adds nothing, also at infinity."""
    counts = weights != 0
    gaps = jnp.where(counts, first, 0) - jnp.where(counts, second, 0)
    return jnp.where(counts, weights * gaps, 0).sum(-1)


def cross_entropy(logits: Array, labels: ArrayLike) -> Array:
    """Cross-entropy with classes ``[...]`` or distributions ``[..., K]``; NaN for no class.

    Raises:
        ValueError: if the labels fit neither form.
    """
    labels = read_labels("labels", labels, "logits", logits.shape)
    found = log_probabilities(logits)
    if labels.ndim == logits.ndim:
        return expected_gap(labels.astype(found.dtype), jnp.zeros_like(found), found)
    return class_cross_entropy(found, labels)


def class_cross_entropy(found: Array, labels: Array) -> Array:
    outside = (labels < 0) | (labels >= found.shape[-1])
    index = jnp.where(outside, 0, labels).astype(jnp.int32)
    return jnp.where(outside, jnp.nan, -jnp.take_along_axis(found, index[..., None], -1)[..., 0])


def class_distributions(
    name: str, labels: ArrayLike, shape: tuple[int, ...], num_classes: int
) -> Array:
    """One-hot distributions ``[..., K]``, float32; NaN for what is no class.

    Raises:
        ValueError: unless the labels are integers of this shape.
    """
    labels = read_classes(name, labels, shape)
    outside = (labels < 0) | (labels >= num_classes)
    index = jnp.where(outside, 0, labels).astype(jnp.int32)
    return jnp.where(outside[..., None], jnp.nan, jax.nn.one_hot(index, num_classes))


def check_seed(seed: int | Array) -> None:
    """Raises ValueError for a seed that a generator would cut to 32 bits; a traced one passes."""
    if not isinstance(seed, jax.Array):
        check_integer("seed", seed, at_least=0, at_most=2**32 - 1)


def check_step(step: int | Array) -> None:
    """Raises ValueError for a step before the first; a traced one passes."""
    if not isinstance(step, jax.Array):
        check_integer("step", step, at_least=0)


def read_numbers(name: str, values: np.ndarray, **bounds: float) -> np.ndarray:
    """A finite number for each example, float64."""
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"{name} must have one number per example, got the shape {values.shape}.")
    check_range(name, values, **{"below": np.inf, "above": -np.inf} | bounds)
    return values
