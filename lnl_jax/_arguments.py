"""What several rooms check of JAX's arrays: floating scores, labels, ranges, counts, masks.

`_host_arguments.py` has what is checked of numbers on the host, with NumPy alone.

A message names the argument, what was given and what to do.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType
from jax.typing import ArrayLike

from lnl_jax._host_arguments import repair_of_classes, repair_of_labels


def as_array(name: str, values: ArrayLike) -> Array:
    """JAX's array of numbers.

    Raises:
        ValueError: for text, objects, rows of unlike lengths, and what is no array at all.
    """
    if isinstance(values, jax.Array):
        return values
    try:
        return jnp.asarray(values)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be an array of numbers, got {_brief(values)}.") from None


def as_checkable(name: str, values: ArrayLike) -> Array | np.ndarray:
    """An array of numbers that stays on the host if it is there, so that its range can be checked.

    Raises:
        ValueError: as `as_array`.
    """
    if isinstance(values, jax.Array):
        return values
    as_array(name, values)
    return np.asarray(values)


def _brief(value: object) -> str:
    """In one line, and not all of what is long."""
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def read_logits(logits: Array, axis: int) -> Array:
    logits = as_array("logits", logits)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(f"logits must be floating, got {logits.dtype}; cast them to float32.")
    if logits.ndim == 0:
        raise ValueError("logits must have a class axis, got a scalar.")
    if not isinstance(axis, int | np.integer) or not -logits.ndim <= axis < logits.ndim:
        raise ValueError(f"axis must be an axis of logits of shape {logits.shape}, got {axis}.")
    return logits


def read_labels(
    name: str, labels: ArrayLike, scores: str, shape: tuple[int, ...], axis: int = -1
) -> Array:
    """Labels of scores with this shape: a class for each example, or a distribution.

    Returns:
        Integers of at least 32 bits in the shape without `axis`, not compared with the number of
        classes; or a floating array of `shape`.

    Raises:
        ValueError: for labels of another shape or dtype; `scores` names what they belong to.
    """
    labels = _as_numbers(name, labels)
    axis %= len(shape)
    batch_shape = shape[:axis] + shape[axis + 1 :]
    kind = _kind(labels)
    if (kind == "integer" and labels.shape == batch_shape) or (
        kind == "floating" and labels.shape == shape
    ):
        return _at_least_32_bits(labels)
    repair = repair_of_labels(name, labels, batch_shape, axis - len(shape))
    if labels.shape == shape and kind in ("integer", "bool"):
        repair += f" or, as a distribution, {name}.astype({scores}.dtype)"
    raise ValueError(
        f"{name} must be integers of shape {batch_shape} or a floating distribution of shape "
        f"{shape}, as {scores} have; got {labels.dtype} of shape {labels.shape}{repair}."
    )


def read_classes(name: str, labels: ArrayLike, shape: tuple[int, ...]) -> Array:
    """A class for each example: integers of this shape and at least 32 bits.

    They are not compared with the number of classes.

    Raises:
        ValueError: for labels of another shape or dtype.
    """
    labels = _as_numbers(name, labels)
    if _kind(labels) == "integer" and labels.shape == shape:
        return _at_least_32_bits(labels)
    raise ValueError(
        f"{name} must be integers of shape {shape}; got {labels.dtype} of shape "
        f"{labels.shape}{repair_of_classes(name, labels, shape)}."
    )


def _as_numbers(name: str, labels: ArrayLike) -> Array | np.ndarray:
    """Not yet JAX's: text is none of its dtypes, and wide integers would wrap into classes."""
    try:
        return labels if isinstance(labels, jax.Array) else np.asarray(labels)
    except ValueError:
        raise ValueError(f"{name} must be an array of numbers, got {_brief(labels)}.") from None


def _kind(labels: Array | np.ndarray) -> str:
    # NumPy alone does not know bfloat16.
    for kind, dtype in (("integer", jnp.integer), ("floating", jnp.floating), ("bool", jnp.bool)):
        if jnp.issubdtype(labels.dtype, dtype):
            return kind
    return "other"


def _at_least_32_bits(labels: Array | np.ndarray) -> Array:
    if _kind(labels) == "floating":
        return jnp.asarray(labels)
    if isinstance(labels, np.ndarray) and labels.dtype.itemsize == 8:
        # What does not fit is no class; the ends of 32 bits are none either.
        limits = np.iinfo(np.int32)
        labels = np.clip(labels, 0 if labels.dtype.kind == "u" else limits.min, limits.max)
        return jnp.asarray(labels.astype(np.int32))
    # Wide enough to be compared with the number of classes.
    narrow = labels.dtype.itemsize < 4
    return jnp.asarray(labels.astype(jnp.int32) if narrow else labels)


def computation_dtype(dtype: np.dtype) -> np.dtype:
    """At least float32: half precision is for storage, not for sums and exponentials."""
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)


def in_range(name: str, value: ArrayLike, dtype: np.dtype, **bounds: float) -> Array:
    """The value in `dtype`, within the bounds of `check_range`.

    Python and NumPy numbers out of range raise; a JAX value cannot be looked at while it is
    traced, so it turns into NaN, which the loss then shows.
    """
    if not isinstance(value, jax.Array):
        check_range(name, value, **bounds)
        with np.errstate(over="ignore"):
            try:
                rounded = np.asarray(value).astype(dtype)
            except OverflowError:
                # A Python integer beyond every floating number.
                rounded = np.asarray(np.inf if value > 0 else -np.inf, dtype)
        # A number just within a bound may round to it.
        check_range(name, rounded, **bounds)
        return jnp.asarray(rounded)
    value = value.astype(dtype)
    return jnp.where(_within(value, **bounds), value, not_a_number(dtype))


def not_a_number(dtype: np.dtype) -> np.ndarray:
    """To mark what has no value.

    `jnp.nan` is cast first, by a computation that `jax_debug_nans` stops whether it is chosen or
    not.
    """
    return np.asarray(np.nan, dtype)


def check_range(name: str, value: ArrayLike, **bounds: float) -> None:
    """Raises ValueError unless the value is `above`, `at_least`, `at_most`, `below` the bounds.

    A traced value cannot be looked at.
    """
    if isinstance(value, jax.core.Tracer):
        return
    try:
        # Complex numbers are compared by their real parts first.
        within = not np.iscomplexobj(value) and _within(np.asarray(value), **bounds).all()
    except TypeError:
        within = False
    if not within:
        words = {"above": "above", "at_least": "at least", "at_most": "at most", "below": "below"}
        limits = [
            f"{words[kind]} {bound:g}" for kind, bound in bounds.items() if np.isfinite(bound)
        ]
        limits += ["finite"] * (not all(map(np.isfinite, bounds.values())))
        allowed = " and ".join(limits) or "a number"
        raise ValueError(f"{name} must be {allowed}, got {_brief(value)}.")


def finite(bounds: dict[str, float]) -> dict[str, float]:
    """The bounds, and that infinity is not within them."""
    above = {} if {"above", "at_least"} & set(bounds) else {"above": -math.inf}
    below = {} if {"below", "at_most"} & set(bounds) else {"below": math.inf}
    return above | bounds | below


def _within(
    value: Array | np.ndarray,
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    at_most: float = math.inf,
    below: float | None = None,
) -> Array | np.ndarray:
    within = (value > above) & (value >= at_least) & (value <= at_most)
    return within if below is None else within & (value < below)


def check_count(name: str, value: int, at_most: int | None = None) -> None:
    """Raises ValueError unless the value is a Python integer from 1 to `at_most`."""
    largest = math.inf if at_most is None else at_most
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
        to = "" if at_most is None else f" to the number of classes, {at_most}"
        raise ValueError(f"{name} must be an integer from 1{to or ' on'}; got {value}.")


def read_mask(name: str, mask: ArrayLike, shape: tuple[int, ...], repair: str) -> Array:
    """A boolean mask, broadcast to `shape`; `repair` says what to do about one that does not fit.

    Raises:
        ValueError: if the mask is not boolean or does not broadcast.
    """
    mask = as_array(name, mask)
    if mask.dtype != bool:
        raise ValueError(f"{name} must be boolean, got {mask.dtype}; compare it with 0.")
    try:
        return jnp.broadcast_to(mask, shape)
    except ValueError:
        raise ValueError(
            f"{name} must broadcast to the shape {shape}, got {mask.shape}. {repair}"
        ) from None


def read_example_mask(name: str, mask: ArrayLike, shape: tuple[int, ...]) -> Array:
    """A boolean mask with an entry for each example, of exactly this shape.

    Raises:
        ValueError: if the mask is not boolean or has another shape.
    """
    mask = as_array(name, mask)
    if mask.dtype != bool:
        raise ValueError(
            f"{name} must be boolean, got {mask.dtype}; compare it with 0, and multiply the losses "
            "where weights are meant."
        )
    if mask.shape != shape:
        raise ValueError(
            f"{name} must have one entry per example, shape {shape}; got {mask.shape}."
        )
    return mask


def refuse_explicit_mesh(**arrays: object) -> None:
    """Raises ValueError where an array is split over an Explicit axis of a mesh.

    There every lookup and sort has to say where its result lies, which is the caller's to know.
    """
    for name, tree in arrays.items():
        for leaf in jax.tree.leaves(tree):
            if not isinstance(leaf, jax.Array):
                continue
            sharding = jax.typeof(leaf).sharding
            split = any(part is not None for part in sharding.spec)
            if split and AxisType.Explicit in sharding.mesh.axis_types:
                raise ValueError(
                    f"{name} is split over a mesh with Explicit axes; make the mesh with "
                    "lnl_jax.train.data_mesh, or with axis_types=(jax.sharding.AxisType.Auto,)."
                )
