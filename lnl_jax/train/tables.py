"""State per training example: tables with a row for each, gathered and scattered by index.

Which examples have rows, and on which device or host they are: `lnl_jax.train.table_rows`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from lnl_jax._arguments import read_example_mask, refuse_explicit_mesh

PyTree = Any
Combine = Callable[[Array, Array, int], Array]


def segment_mean(rows: Array, segments: Array, num_segments: int) -> Array:
    """The mean of the rows of each segment: a rule for examples drawn twice in one batch.

    Args:
        rows: ``[B, ...]``.
        segments: the segment of each row, integers of shape ``[B]``.
        num_segments: how many there are.

    Returns:
        ``[num_segments, ...]``; 0 where a segment has no rows.

    Example:
        >>> segment_mean(jnp.array([1.0, 3.0, 5.0]), jnp.array([0, 0, 1]), 2).tolist()
        [2.0, 5.0]
    """
    count = jax.ops.segment_sum(jnp.ones(len(segments), rows.dtype), segments, num_segments)
    total = jax.ops.segment_sum(rows, segments, num_segments)
    return total / jnp.maximum(count, 1).reshape(count.shape + (1,) * (rows.ndim - 1))


def segment_last(rows: Array, segments: Array, num_segments: int) -> Array:
    """The last row of each segment in the order of the batch: a later visit replaces an earlier.

    Args:
        rows: ``[B, ...]``.
        segments: the segment of each row, integers of shape ``[B]``.
        num_segments: how many there are.

    Returns:
        ``[num_segments, ...]``; arbitrary where a segment has no rows.

    Example:
        >>> segment_last(jnp.array([1.0, 3.0, 5.0]), jnp.array([0, 0, 1]), 2).tolist()
        [3.0, 5.0]
    """
    last = jax.ops.segment_max(jnp.arange(len(segments)), segments, num_segments)
    return rows[jnp.clip(last, 0)]


def segment_log_mean_exp(rows: Array, segments: Array, num_segments: int) -> Array:
    r"""The log of the mean of the exponentials of each segment: the mean of what is kept as a log.

    .. math::
        \log \frac{1}{|S|} \sum_{i \in S} e^{r_i}

    Args:
        rows: floating point, ``[B, ...]``; ``-inf`` is the logarithm of 0.
        segments: the segment of each row, integers of shape ``[B]``.
        num_segments: how many there are.

    Returns:
        ``[num_segments, ...]``; ``-inf`` where a segment has no rows or all are ``-inf``.

    Example:
        >>> rows = jnp.log(jnp.array([1.0, 3.0, 5.0]))
        >>> jnp.exp(segment_log_mean_exp(rows, jnp.array([0, 0, 1]), 2)).tolist()
        [2.0, 5.0]
    """
    largest = jax.ops.segment_max(rows, segments, num_segments)
    # Nothing is subtracted from rows that are all -inf, which would make NaN of them.
    shift = jnp.where(jnp.isfinite(largest), largest, 0)
    return jnp.log(segment_mean(jnp.exp(rows - shift[segments]), segments, num_segments)) + shift


@dataclasses.dataclass(frozen=True)
class OfUpdates:
    """A rule for examples drawn twice that is about how far their rows moved, not where to.

    Attributes:
        rule: ``(updates, segments, num_segments) -> updates``; `jax.ops.segment_sum` gives an
            example both of its steps of gradient descent.

    Example:
        >>> table = Table(jnp.full(4, 10.0), OfUpdates(jax.ops.segment_sum))
        >>> rows, mask = jnp.array([11.0, 12.0]), jnp.array([True, True])
        >>> new = scatter(table, jnp.array([1, 1]), rows, mask)
        >>> new.values.tolist()
        [10.0, 13.0, 10.0, 10.0]
    """

    rule: Combine


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Table:
    """One row per training example, and what becomes of an example that a batch holds twice.

    Attributes:
        values: a pytree of arrays ``[N, ...]``, row i for the example whose ``index`` is i.
        combine: the rule for duplicates, ``(rows, segments, num_segments) -> rows`` like
            `jax.ops.segment_max`; rows of one example share a segment. `OfUpdates` of such a rule
            is about the changes of the rows. One for all arrays, or one for each in the structure
            of `values`, which must be hashable then: a named tuple. None where no batch holds an
            example twice, which nobody checks: it saves the sorting of the indices.
        fingerprint: of the training set, from `fingerprint`; a checkpoint is only restored into a
            table that has the same. Empty means that nobody checks.

    Example:
        >>> table = Table(jnp.full(4, 10.0))
        >>> new = scatter(table, jnp.array([1, 1]), jnp.array([2.0, 4.0]), jnp.array([True, True]))
        >>> new.values.tolist()
        [10.0, 3.0, 10.0, 10.0]
    """

    values: PyTree
    combine: Combine | Any = dataclasses.field(default=segment_mean, metadata={"static": True})
    fingerprint: str = dataclasses.field(default="", metadata={"static": True})


def gather(tables: PyTree, index: Array) -> PyTree:
    """The rows of these examples, in the place of each `Table` of a pytree.

    Args:
        tables: a pytree of `Table`.
        index: rows of the training set, integers of shape ``[B]``. One outside a table gives NaN.

    Returns:
        The pytree with ``[B, ...]`` arrays, as the table's values are structured.

    Raises:
        ValueError: if the arrays are split over an Explicit axis of a mesh.
    """
    refuse_explicit_mesh(tables=tables, index=index)

    def read(table: Table) -> PyTree:
        place = _places(table, index)

        def rows(values: Array) -> Array:
            return values.at[place].get(mode="fill")

        return jax.tree.map(rows, table.values)

    return jax.tree.map(read, tables, is_leaf=is_table)


def scatter(tables: PyTree, index: Array, rows: PyTree, mask: Array) -> PyTree:
    """The tables with these examples' rows replaced.

    Args:
        tables: a pytree of `Table`.
        index: rows of the training set, integers of shape ``[B]``.
        rows: what `gather` gave, with new values.
        mask: boolean, ``[B]``; padding is dropped.

    Returns:
        The new tables; examples that occur more than once have their rows combined.

    Raises:
        ValueError: if the mask is not boolean, or the arrays are split over an Explicit axis of a
            mesh.
    """
    refuse_explicit_mesh(tables=tables, index=index, rows=rows, mask=mask)
    mask = read_example_mask("mask", mask, index.shape)

    def write(table: Table, new: PyTree) -> Table:
        size = num_rows(table)
        # Padding shares one index beyond the table, where the write is dropped.
        kept = jnp.where(mask, _places(table, index), size)
        if table.combine is None:
            replaced = jax.tree.map(
                lambda values, rows: values.at[kept].set(rows.astype(values.dtype), mode="drop"),
                table.values,
                new,
            )
            return dataclasses.replace(table, values=replaced)
        unique, segments = jnp.unique(kept, size=len(index), fill_value=size, return_inverse=True)

        def put(combine: Combine | OfUpdates, values: Array, rows: Array) -> Array:
            rows = rows.astype(values.dtype)
            if isinstance(combine, OfUpdates):
                before = values.at[kept].get(mode="fill", fill_value=0)
                moved = combine.rule(rows - before, segments, len(index))
                return values.at[unique].add(moved.astype(values.dtype), mode="drop")
            combined = combine(rows, segments, len(index))
            return values.at[unique].set(combined.astype(values.dtype), mode="drop")

        rules = table.combine
        if callable(rules) or isinstance(rules, OfUpdates):
            rules = jax.tree.map(lambda _: table.combine, table.values)
        return dataclasses.replace(table, values=jax.tree.map(put, rules, table.values, new))

    return jax.tree.map(write, tables, rows, is_leaf=is_table)


def outside(tables: PyTree, index: Array) -> Array:
    """Which indices are no row of one of the tables, ``[B]``."""
    leaves = jax.tree.leaves(tables, is_leaf=is_table)
    beyond = (_places(table, index) == num_rows(table) for table in leaves)
    return functools.reduce(jnp.logical_or, beyond)


def _places(table: Table, index: Array) -> Array:
    """The rows as int32; N, which is none, for what is beyond the table."""
    # Compared before it is cut to 32 bits, where a wide one might become a row.
    index = index.astype(jnp.int32) if index.dtype.itemsize < 4 else index
    size = num_rows(table)
    return jnp.where((index < 0) | (index >= size), size, index).astype(jnp.int32)


def num_rows(table: Table) -> int:
    """N."""
    return len(jax.tree.leaves(table.values)[0])


def is_table(node: Any) -> bool:
    """Whether a node of a pytree is a `Table`."""
    return isinstance(node, Table)
