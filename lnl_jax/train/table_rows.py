"""Which training examples the tables have rows for, and where the rows are.

Where they are is the caller's choice, and the numbers do not depend on it: on every device
(`replicate`), split over the devices (`shard_tables`), or on the host, from where the rows of one
batch at a time visit the device (`page_in`, `page_out`).
"""

import dataclasses
import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from lnl_jax._host_arguments import check_integer
from lnl_jax.train.sharding import split_rows
from lnl_jax.train.tables import Table, is_table, num_rows

PyTree = Any


def fingerprint(*columns: np.ndarray) -> str:
    """Names a training set, so that the rows of one are not taken for those of another.

    Args:
        *columns: arrays on the host with a row per example, in the order of the index: labels,
            file names, or the examples themselves.

    Returns:
        16 hexadecimal digits that depend on every value, its order, shape and dtype.

    Raises:
        ValueError: if there is no column, or one of Python objects.

    Example:
        >>> fingerprint(np.array([3, 1])) == fingerprint(np.array([1, 3]))
        False
    """
    if not columns:
        raise ValueError("fingerprint needs at least one column, such as the labels.")
    digest = hashlib.sha256()
    for column in columns:
        column = np.ascontiguousarray(column)
        if column.dtype.hasobject:
            raise ValueError("a column holds Python objects; give numbers or fixed-width strings.")
        digest.update(f"{column.dtype.str}{column.shape}".encode())
        digest.update(column.tobytes())
    return digest.hexdigest()[:16]


def remap(tables: PyTree, source: np.ndarray, new: PyTree, *, fingerprint: str = "") -> PyTree:
    """The tables of another training set: rows that move, rows that go and rows that are new.

    Args:
        tables: a pytree of `Table`.
        source: for each row of the new tables which old row it is, or -1 for a new example;
            integers of shape ``[M]``, on the host.
        new: the row of a new example, as `gather` gives rows but without the leading axis.
        fingerprint: of the new training set.

    Returns:
        The tables, of M rows.

    Raises:
        ValueError: if `source` is not integer or names a row that a table does not have.

    Example:
        >>> remap(Table(jnp.array([5.0, 6.0, 7.0])), np.array([2, -1, 0]), 1.0).values.tolist()
        [7.0, 1.0, 5.0]
    """
    source = np.asarray(source)
    if source.dtype.kind not in "iu" and source.size:
        raise ValueError(f"source must be integers, rows of the tables, got {source.dtype}.")
    source = source.astype(np.int64)

    def move(table: Table, row: PyTree) -> Table:
        size = num_rows(table)
        if source.ndim != 1 or (len(source) and not -1 <= source.min() <= source.max() < size):
            raise ValueError(
                f"source must be a vector of rows from 0 to {size - 1}, or -1 for a new example; "
                f"got shape {source.shape}"
                + (f" from {source.min()} to {source.max()}." if source.size else ".")
            )
        old = np.clip(source, 0, None)

        def values_of(values: Array, fill: Any) -> Array:
            moved = jnp.asarray(values)[old]
            is_new = (source < 0).reshape(-1, *(1,) * (moved.ndim - 1))
            return jnp.where(is_new, jnp.asarray(fill, moved.dtype)[None], moved)

        values = jax.tree.map(values_of, table.values, row)
        return dataclasses.replace(table, values=values, fingerprint=fingerprint)

    return jax.tree.map(move, tables, new, is_leaf=is_table)


def grow(tables: PyTree, size: int, new: PyTree, *, fingerprint: str = "") -> PyTree:
    """The tables with rows for new examples at the end.

    Also what makes the number of rows a multiple of the devices, for `shard_tables`.

    Args:
        tables: a pytree of `Table` with the same number of rows.
        size: rows in the end, at least as many as there are.
        new: the row of a new example, as `gather` gives rows but without the leading axis.
        fingerprint: of the larger training set.

    Returns:
        The tables, of `size` rows.

    Raises:
        ValueError: if they have more rows already, or `size` is no number of rows.

    Example:
        >>> grow(Table(jnp.array([5.0, 6.0])), 3, 1.0).values.tolist()
        [5.0, 6.0, 1.0]
    """
    check_integer("size", size, at_least=0)
    for table in jax.tree.leaves(tables, is_leaf=is_table):
        if num_rows(table) > size:
            raise ValueError(
                f"the table has {num_rows(table)} rows, more than size = {size}; use remap to "
                "drop some."
            )

    def extended(table: Table, row: PyTree) -> Table:
        source = np.full(size, -1)
        source[: num_rows(table)] = np.arange(num_rows(table))
        return remap(table, source, row, fingerprint=fingerprint)

    return jax.tree.map(extended, tables, new, is_leaf=is_table)


# As many rows for any number of devices that divides it, so that a checkpoint of split tables goes
# on over another one.
SHARES = 256


def with_spare_rows(state: PyTree) -> PyTree:
    """A state whose tables have a multiple of 256 rows, for `shard_tables` over that many devices.

    Args:
        state: a pytree with tables in it.

    Returns:
        The same one, each table with copies of its last row, which no example has, at its end.

    Example:
        >>> with_spare_rows(Table(jnp.arange(3.0))).values.shape
        (256,)
    """

    def lengthen(values: Array) -> Array:
        spare = jnp.broadcast_to(values[-1:], (-len(values) % SHARES, *values.shape[1:]))
        return jnp.concatenate([values, spare])

    def of_node(node: Any) -> Any:
        if not is_table(node):
            return node
        return dataclasses.replace(node, values=jax.tree.map(lengthen, node.values))

    return jax.tree.map(of_node, state, is_leaf=is_table)


def without_spare_rows(state: PyTree, form: PyTree) -> PyTree:
    """A state whose tables have the rows of examples alone.

    Args:
        state: of `with_spare_rows`.
        form: the state before, or shapes of it.

    Returns:
        The state in that form.
    """
    return jax.tree.map(
        lambda leaf, own: leaf if leaf.shape == own.shape else leaf[: len(own)], state, form
    )


def shard_tables(tables: PyTree, mesh: Mesh) -> PyTree:
    """Splits the rows over the devices: each holds N / devices of them.

    `gather` and `scatter` then work under `jax.jit`, where the compiler moves the rows.

    Args:
        tables: a pytree of `Table`.
        mesh: from `data_mesh`.

    Returns:
        The same tables, split.

    Raises:
        ValueError: if the number of rows is not a multiple of the number of devices.
    """
    for table in jax.tree.leaves(tables, is_leaf=is_table):
        if num_rows(table) % mesh.size:
            raise ValueError(
                f"the table has {num_rows(table)} rows, not a multiple of {mesh.size} devices; "
                f"grow it to {-(-num_rows(table) // mesh.size) * mesh.size}."
            )
    return split_rows(tables, mesh)


def page_in(tables: PyTree, index: np.ndarray, mask: np.ndarray) -> tuple[PyTree, np.ndarray]:
    """The part of tables on the host that one batch needs, as small tables for the device.

    The step is given the small tables and, as its index, the places there; what it does with
    duplicates and padding is what it does with whole tables.

    Args:
        tables: a pytree of `Table` of NumPy arrays.
        index: rows of the training set, integers of shape ``[B]``, on the host.
        mask: boolean, ``[B]``, false for padding.

    Returns:
        Tables of B rows, and the place of each example in them, int32, ``[B]``.

    Raises:
        ValueError: if an example that is no padding is outside a table, the mask is not boolean, or
            the index is not integer.

    Example:
        >>> from lnl_jax.train.tables import gather, scatter
        >>> whole = Table(np.array([5.0, 6.0, 7.0], np.float32))
        >>> index, mask = np.array([2, 2, 0]), np.ones(3, bool)
        >>> paged, place = page_in(whole, index, mask)
        >>> paged = scatter(paged, place, gather(paged, place) + 1, mask)
        >>> page_out(whole, index, mask, paged)
        >>> whole.values.tolist()
        [6.0, 6.0, 8.0]
    """
    rows, place = _pages(index, mask)

    def read(table: Table) -> Table:
        if len(rows) and not 0 <= rows[0] <= rows[-1] < num_rows(table):
            raise ValueError(
                f"index must be from 0 to {num_rows(table) - 1}, the rows of the table, got "
                f"{rows[0]} to {rows[-1]}."
            )
        padded = np.concatenate([rows, np.zeros(len(index) - len(rows), rows.dtype)])
        return jax.tree.map(lambda values: jnp.asarray(values[padded]), table)

    return jax.tree.map(read, tables, is_leaf=is_table), place


def page_out(tables: PyTree, index: np.ndarray, mask: np.ndarray, paged: PyTree) -> None:
    """Writes the rows of a batch back into the tables on the host, in place.

    Args:
        tables: a pytree of `Table` of NumPy arrays.
        index: as `page_in` was given.
        mask: likewise.
        paged: the small tables after the step.

    Raises:
        ValueError: if the mask is not boolean or the index is not integer.
    """
    rows, _ = _pages(index, mask)

    def write(values: np.ndarray, new: Array) -> None:
        values[rows] = np.asarray(new)[: len(rows)]

    jax.tree.map(write, tables, paged)


def _pages(index: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the examples that count, each once and in order; where each example is there."""
    index, mask = np.asarray(index), np.asarray(mask)
    if index.dtype.kind not in "iu" or index.ndim != 1:
        raise ValueError(
            f"index must be integers of shape [B], got {index.dtype} of shape {index.shape}."
        )
    if mask.dtype != bool or mask.shape != index.shape:
        raise ValueError(
            f"mask must be boolean of shape {index.shape}, false for padding; got {mask.dtype} of "
            f"shape {mask.shape}."
        )
    rows = np.unique(index[mask])
    place = np.searchsorted(rows, index)
    return rows, np.where(mask, place, 0).astype(np.int32)
