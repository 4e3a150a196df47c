"""What every classification loss does first and last: read its arguments, mark what has no loss.

Shapes in this folder: ``[...]`` is the batch shape, ``K`` the number of classes.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import (
    as_checkable,
    computation_dtype,
    finite,
    in_range,
    not_a_number,
    read_labels,
    read_logits,
    read_mask,
)

# Up to so many, all classes are compared with the label; beyond, the label's is looked up.
FEW_CLASSES = 128


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scores:
    """The arguments of a loss in the dtype of the computation.

    Nothing is transposed: what is written ``[..., K]`` has the classes along `axis`.

    Attributes:
        logits: ``[..., K]``, float32 or wider; masked classes hold ``-inf``.
        labels: integers ``[...]``, or distributions ``[..., K]``.
        included: classes that take part, ``[..., K]``, or None where all do.
        count: how many take part, ``[...]``, or the scalar ``K``.
        invalid: where the label is no class, or a masked one, ``[...]``.
        impossible: where the label has mass on a class that scores ``-inf``, ``[...]``.
        empty: where every class is masked, ``[...]``, or None.
        axis: of the classes, counted from the end.
        dtype: the dtype of the caller's logits.
    """

    logits: Array
    labels: Array
    included: Array | None
    count: Array
    invalid: Array
    impossible: Array
    empty: Array | None
    axis: int = dataclasses.field(metadata={"static": True})
    dtype: np.dtype = dataclasses.field(metadata={"static": True})

    @property
    def num_classes(self) -> int:
        return self.logits.shape[self.axis]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return _without_axis(self.logits.shape, self.axis)

    @property
    def soft(self) -> bool:
        return self.labels.ndim == self.logits.ndim

    @property
    def log_count(self) -> Array:
        return jnp.log(self.count)


def read_scores(logits: Array, labels: Array, axis: int, where: Array | None) -> Scores:
    """Checks `logits`, `labels` and `where` and brings them into one form.

    Raises:
        ValueError: if an argument has a shape or a dtype that fits no form of call.
    """
    logits = read_logits(logits, axis)
    if not logits.shape[axis]:
        raise ValueError(f"logits must have at least one class, got shape {logits.shape}.")
    labels = read_labels("labels", labels, "logits", logits.shape, axis)
    where = _read_mask(where, logits.shape)
    axis = axis if axis < 0 else axis - logits.ndim
    dtype = logits.dtype
    logits = logits.astype(computation_dtype(dtype))
    if labels.ndim == logits.ndim:
        labels = labels.astype(logits.dtype)
    included, empty = None, None
    count = jnp.asarray(logits.shape[axis], logits.dtype)
    if where is not None:
        empty = ~where.any(axis)
        # An empty row goes on as if all of it were there, so that nothing in it divides by zero.
        included = where | along_classes(empty, axis)
        count = included.sum(axis).astype(logits.dtype)
        kept = jnp.where(where, logits, -jnp.inf)
        logits = jnp.where(along_classes(empty, axis), 0, kept)
    labels, invalid, impossible = _inspect_labels(labels, logits, where, axis)
    if empty is not None:
        # Its loss is 0 whatever the label.
        invalid = invalid & ~empty
    return Scores(logits, labels, included, count, invalid, impossible, empty, axis, dtype)


def classes_last(scores: Scores) -> Scores:
    """The same with the classes along the last axis, for products with matrices of classes."""

    def last(array: Array | None) -> Array | None:
        return None if array is None else jnp.moveaxis(array, scores.axis, -1)

    labels = last(scores.labels) if scores.soft else scores.labels
    return dataclasses.replace(
        scores, logits=last(scores.logits), labels=labels, included=last(scores.included), axis=-1
    )


def _inspect_labels(
    labels: Array, logits: Array, where: Array | None, axis: int
) -> tuple[Array, Array, Array]:
    """Labels that are safe to index and multiply with; which are no label; which score -inf."""
    if labels.ndim == logits.ndim:
        impossible = ((labels > 0) & (logits == -jnp.inf)).any(axis)
        if where is None:
            return labels, jnp.zeros_like(impossible), impossible
        invalid = ((labels > 0) & ~where).any(axis)
        return jnp.where(where, labels, 0), invalid, impossible
    invalid = (labels < 0) | (labels >= logits.shape[axis])
    labels = jnp.where(invalid, 0, labels).astype(jnp.int32)
    impossible = _at_class(logits, labels, axis) == -jnp.inf
    if where is not None:
        invalid |= ~_at_class(where, labels, axis)
    return labels, invalid, impossible


def finish(losses: Array, scores: Scores) -> Array:
    """NaN where the label is no class, 0 where every class is masked, in the caller's dtype."""
    losses = jnp.where(scores.invalid, not_a_number(losses.dtype), losses)
    if scores.empty is not None:
        losses = jnp.where(scores.empty, 0, losses)
    return losses.astype(scores.dtype)


def _read_mask(where: Array | None, shape: tuple[int, ...]) -> Array | None:
    if where is None:
        return None
    repair = "It masks classes, as logits have them: to leave out examples, mask the reduction."
    return read_mask("where", where, shape, repair)


def _without_axis(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    axis %= len(shape)
    return shape[:axis] + shape[axis + 1 :]


def read_hyperparameter(
    name: str,
    value: ArrayLike,
    scores: Scores,
    **bounds: float,
) -> Array:
    """A finite scalar, or one per example, ``[...]``, in the dtype of the computation.

    Raises:
        ValueError: for a number out of range (see `in_range`) or a shape that is neither of the
            two.
    """
    if np.shape(value) not in ((), scores.batch_shape):
        raise ValueError(
            f"{name} must be a scalar or have one value per example, shape {scores.batch_shape}; "
            f"got shape {np.shape(value)}."
        )
    return in_range(name, value, scores.logits.dtype, **finite(bounds))


def read_array(
    name: str, value: ArrayLike, shape: tuple[int, ...], scores: Scores, **bounds: float
) -> Array:
    """An array that belongs to the classes or views, not to the examples.

    Raises:
        ValueError: for a number out of range (see `in_range`) or another shape.
    """
    value = as_checkable(name, value)
    if np.shape(value) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {np.shape(value)}.")
    return in_range(name, value, scores.logits.dtype, **finite(bounds))


def along_classes(per_example: Array, axis: int) -> Array:
    """Makes a scalar or ``[...]`` broadcast against ``[..., K]`` with the classes along `axis`."""
    return per_example if per_example.ndim == 0 else jnp.expand_dims(per_example, axis)


def label_score(scores: Scores) -> Array:
    r"""``<y, f>`` per example, ``[...]``, without a one-hot array."""
    if not scores.soft:
        return score_of(scores.labels, scores)
    # A class without mass may score -inf, and 0 * -inf is NaN.
    absent = scores.logits == -jnp.inf
    return (scores.labels * jnp.where(absent, 0, scores.logits)).sum(scores.axis)


def score_of(classes: Array, scores: Scores) -> Array:
    """``f_k`` for one class per example, ``[...]``."""
    return _at_class(scores.logits, classes, scores.axis)


def _at_class(values: Array, classes: Array, axis: int) -> Array:
    """One of ``[..., K]`` per example, ``[...]``."""
    look = _picked if values.shape[axis] <= FEW_CLASSES else _looked_up
    if values.dtype == bool:
        # Nothing moves it.
        return look(values.astype(jnp.float32), classes, axis) > 0
    return look(values, classes, axis)


def _picked(values: Array, classes: Array, axis: int) -> Array:
    return jnp.where(_is_class(values.shape, classes, axis), values, 0).sum(axis)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _looked_up(values: Array, classes: Array, axis: int) -> Array:
    """`_picked` for many classes.

    The gradient of a gather is a scatter into an array of its own, in float32 for scores in half
    precision too; a comparison is fused into the loop that writes the rest of the gradient.
    """
    return jnp.take_along_axis(values, jnp.expand_dims(classes, axis), axis).squeeze(axis)


@_looked_up.defjvp
def _looked_up_moves(axis: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (values, classes), (moves, _) = primals, tangents
    return _looked_up(values, classes, axis), _picked(moves, classes, axis)


def label_distribution(scores: Scores) -> Array:
    """``y``, ``[..., K]``."""
    return scores.labels if scores.soft else is_label(scores).astype(scores.logits.dtype)


def is_label(scores: Scores) -> Array:
    """Which class is the integer label, ``[..., K]``: XLA fuses it into the sum that uses it."""
    return _is_class(scores.logits.shape, scores.labels, scores.axis)


def _is_class(shape: tuple[int, ...], classes: Array, axis: int) -> Array:
    numbers = jax.lax.broadcasted_iota(jnp.int32, shape, axis % len(shape))
    return numbers == jnp.expand_dims(classes, axis)
