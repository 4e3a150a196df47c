"""Rows with one number per class, and tables of the rows of all examples."""

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lnl_jax._arguments import as_array
from lnl_jax._host_arguments import check_integer
from lnl_jax.losses._checks import Scores

if TYPE_CHECKING:
    from lnl_jax.train import Table

# The standard deviation of the noise terms of SOP at the start: at 0 they would never move.
_START = 1e-8


class SopRows(NamedTuple):
    """What SOP keeps of an example: the roots of the noise that it assumes in the label.

    Attributes:
        u: of the part on the label's class, ``[...]``.
        v: of the part on the other classes, ``[..., K]``, the classes last.

    Example:
        >>> SopRows(jnp.zeros(2), jnp.zeros((2, 3))).v.shape
        (2, 3)
    """

    u: Array
    v: Array


def elr_table(n: int, num_classes: int, *, fingerprint: str = "") -> "Table":
    """A table of the targets for :func:`elr_step`: 0, as no example was visited yet.

    What a batch holds twice gets the mean of both targets.

    Args:
        n: examples of the training set.
        num_classes: K.
        fingerprint: as in `lnl_jax.train.Table`.

    Returns:
        A `lnl_jax.train.Table` of ``[n, K]`` in float32.

    Raises:
        ValueError: if `n` or `num_classes` is no integer of at least 1.

    Example:
        >>> elr_table(2, 3).values.shape
        (2, 3)
    """
    # Where a table is used, so is training; losses alone do not load it.
    from lnl_jax.train import Table, segment_mean

    check_integer("n", n)
    check_integer("num_classes", num_classes)
    return Table(jnp.zeros((n, num_classes)), segment_mean, fingerprint)


def sop_table(n: int, num_classes: int, key: Array, *, fingerprint: str = "") -> "Table":
    """A table of :class:`SopRows` for :func:`sop_step`: almost no noise.

    They start as normal noise with a standard deviation of 1e-8, because 0 is a point at which they
    would stay. What a batch holds twice gets both updates.

    Args:
        n: examples of the training set.
        num_classes: K.
        key: of the random start.
        fingerprint: as in `lnl_jax.train.Table`.

    Returns:
        A `lnl_jax.train.Table` of rows ``[n]`` and ``[n, K]`` in float32.

    Raises:
        ValueError: if `n` or `num_classes` is no integer of at least 1.

    Example:
        >>> table = sop_table(2, 3, jax.random.key(0))
        >>> table.values.u.shape, table.values.v.shape
        ((2,), (2, 3))
    """
    from lnl_jax.train import OfUpdates, Table

    check_integer("n", n)
    check_integer("num_classes", num_classes)
    start = _START * jax.random.normal(key, (n, 1 + num_classes))
    rows = SopRows(start[:, 0], start[:, 1:])
    return Table(rows, OfUpdates(jax.ops.segment_sum), fingerprint)


def scent_table(n: int, *, fingerprint: str = "") -> "Table":
    """A table of the log-normalisers for :func:`scent_step`: no example was visited yet.

    What a batch holds twice gets the logarithm of the mean of both normalisers.

    Args:
        n: examples of the training set.
        fingerprint: as in `lnl_jax.train.Table`.

    Returns:
        A `lnl_jax.train.Table` of ``[n]`` in float32, all ``-inf``.

    Raises:
        ValueError: if `n` is no integer of at least 1.

    Example:
        >>> scent_table(2).values.tolist()
        [-inf, -inf]
    """
    from lnl_jax.train import Table, segment_log_mean_exp

    check_integer("n", n)
    return Table(jnp.full(n, -jnp.inf, jnp.float32), segment_log_mean_exp, fingerprint)


def read_row(name: str, rows: Array, scores: Scores, *, of_classes: bool) -> Array:
    """Stored numbers, one per example or one per example and class, the classes last; held.

    Raises:
        ValueError: if they are not floating numbers of that shape.
    """
    rows = as_array(name, rows)
    shape = (*scores.batch_shape, scores.num_classes) if of_classes else scores.batch_shape
    if rows.shape != shape or not jnp.issubdtype(rows.dtype, jnp.floating):
        what = "one floating number per example" + " and class" * of_classes
        raise ValueError(
            f"{name} must be {what}, shape {shape}; got {rows.dtype} of shape {rows.shape}. Gather "
            "them by index from a table of these examples and classes."
        )
    return jax.lax.stop_gradient(jnp.asarray(rows))


def keep_unusable(new: Array, old: Array, scores: Scores) -> Array:
    """The new rows in the dtype of the old ones, which stay where the example has no loss."""
    unusable = scores.invalid if scores.empty is None else scores.invalid | scores.empty
    unusable = unusable.reshape(unusable.shape + (1,) * (old.ndim - unusable.ndim))
    return jnp.where(unusable, old, jax.lax.stop_gradient(new).astype(old.dtype))


def with_classes_at(rows: Array, scores: Scores) -> Array:
    """Rows with the classes last, ``[..., K]``, in the layout and dtype of the scores."""
    return jnp.moveaxis(rows, -1, scores.axis).astype(scores.logits.dtype)
