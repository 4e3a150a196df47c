from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax.train import Table, segment_last, segment_mean, tables

ROWS = 6
# Compiled whole, which takes less time than operation by operation.
gather, scatter = jax.jit(tables.gather), jax.jit(tables.scatter)


class Moments(NamedTuple):
    mean: jax.Array
    square: jax.Array


def table(combine=segment_mean, dtype=jnp.float32):
    return Table(np.arange(ROWS).astype(dtype), combine)


def write(index, rows, mask=None, *, into=None):
    """The values of a table 0, 1, 2, ... after a write, in NumPy."""
    into = table() if into is None else into
    mask = np.ones(len(index), bool) if mask is None else np.array(mask)
    rows = np.asarray(rows, into.values.dtype)
    return np.array(scatter(into, np.asarray(index), rows, mask).values)


def test_what_is_scattered_is_gathered_also_uncompiled(rng):
    index, rows = rng.permutation(ROWS)[:4], rng.normal(size=4).astype(np.float32)
    before = jax.tree.map(jnp.asarray, table())
    new = tables.scatter(before, index, rows, np.ones(4, bool))
    np.testing.assert_array_equal(tables.gather(new, index), rows)


def test_writing_back_what_was_read_changes_nothing_even_for_duplicates(rng):
    before = Table(np.float32(rng.normal(size=(ROWS, 3))), segment_last)
    index = np.array([1, 4, 1, 1, 0])
    after = scatter(before, index, gather(before, index), np.ones(5, bool))
    np.testing.assert_array_equal(after.values, before.values)


def test_rows_of_other_examples_stay_bitwise(rng):
    values = rng.normal(size=ROWS).astype(np.float32)
    values[[0, 1]] = np.nan, -0.0
    after = write([3, 5, 3], [7.0, 8.0, 9.0], into=Table(values))
    assert after[[0, 1, 2, 4]].tobytes() == values[[0, 1, 2, 4]].tobytes()
    assert after[[3, 5]].tolist() == [8, 8]


def test_padding_is_dropped_whatever_its_index_and_row():
    found = write(
        [2, 2, 0, ROWS, -1], [7.0, 100.0, np.nan, 1.0, 1.0], [True, False, False, False, False]
    )
    assert found.tolist() == [0, 1, 7, 3, 4, 5]


def test_a_batch_of_padding_alone_changes_nothing():
    assert write([0, 1], [7.0, 7.0], [False, False]).tolist() == list(range(ROWS))


@pytest.mark.parametrize(
    ("combine", "expected"),
    [
        (segment_mean, [0, 6, 2, 5, 4, 5]),
        (segment_last, [0, 8, 2, 5, 4, 5]),
        (jax.ops.segment_max, [0, 9, 2, 5, 4, 5]),
        (jax.ops.segment_sum, [0, 18, 2, 5, 4, 5]),
    ],
)
def test_duplicates_are_combined_by_the_rule_of_the_table(combine, expected):
    mask = [True, True, False, True, True]
    found = write([1, 3, 1, 1, 1], [9.0, 5.0, 99.0, 1.0, 8.0], mask, into=table(combine))
    assert found.tolist() == expected


def test_without_a_rule_rows_are_written_as_they_are_and_padding_is_dropped():
    mask = [True, False, True, False]
    found = write([4, 0, 1, -1], [7.0, 8.0, 9.0, 6.0], mask, into=table(None))
    assert found.tolist() == [0, 9, 2, 3, 7, 5]


@pytest.mark.parametrize("combine", [segment_mean, segment_last])
def test_rules_combine_whole_rows(combine):
    rows = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    found = jax.jit(combine, static_argnums=2)(rows, np.array([2, 0, 2]), 3)
    expected = (rows[0] + rows[2]) / 2 if combine is segment_mean else rows[2]
    np.testing.assert_array_equal(np.asarray(found)[[2, 0]], [expected, rows[1]])


def test_the_mean_of_no_rows_is_zero():
    mean = jax.jit(segment_mean, static_argnums=2)
    assert mean(np.ones(2, np.float32), np.array([0, 2]), 4).tolist() == [1, 0, 1, 0]


def test_tables_of_any_structure_with_rules_of_their_own(rng):
    moments = Moments(np.zeros(ROWS, np.float32), np.zeros((ROWS, 2), np.float32))
    nested = Table(np.zeros(3, np.float32), jax.ops.segment_max)
    before = {"u": Table(moments), "nested": [nested]}
    index = np.array([0, 2, 0])
    rows = gather(before, index)
    assert jax.tree.map(jnp.shape, rows) == {"u": Moments((3,), (3, 2)), "nested": [(3,)]}
    numbers = np.float32([1, 2, 3])
    new = Moments(numbers, np.arange(6, dtype=np.float32).reshape(3, 2))
    after = scatter(before, index, {"u": new, "nested": [numbers]}, np.ones(3, bool))
    assert jax.tree.structure(after) == jax.tree.structure(before)
    assert after["u"].values.mean.tolist() == [2, 0, 2, 0, 0, 0]
    assert np.asarray(after["u"].values.square)[:3].tolist() == [[2, 3], [0, 0], [2, 3]]
    assert after["nested"][0].values.tolist() == [3, 0, 2]


@pytest.mark.parametrize("combine", [segment_mean, segment_last])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32])
def test_a_table_keeps_its_dtype(combine, dtype):
    before = table(combine, dtype)
    assert gather(before, np.array([3])).dtype == dtype
    rows = np.array([8, 9]).astype(dtype)
    after = scatter(before, np.array([3, 1]), rows, np.ones(2, bool)).values
    assert (after.dtype, after.tolist()) == (dtype, [0, 9, 2, 8, 4, 5])


@pytest.mark.parametrize("beyond", [ROWS, ROWS + 7, -1])
def test_an_index_beyond_the_table_reads_nan_and_writes_nothing(beyond):
    np.testing.assert_array_equal(gather(table(), np.array([2, beyond])), [2, np.nan])
    assert write([2, beyond], [9.0, 8.0]).tolist() == [0, 1, 9, 3, 4, 5]


@pytest.mark.parametrize(("dtype", "size"), [(np.uint8, 256), (np.int8, 128), (np.uint32, 6)])
def test_an_index_may_have_any_integer_dtype_that_holds_the_rows(dtype, size):
    index = np.array([size - 1, 1, 0], dtype)
    mask = np.array([True, True, False])
    before = Table(np.zeros(size, np.float32))
    after = np.asarray(scatter(before, index, np.float32([1, 2, 3]), mask).values)
    assert (after[-1], after[1], after.sum()) == (1, 2, 3)


def test_jit_scan_and_vmap_write_as_a_loop_does(rng):
    indices = rng.integers(ROWS, size=(4, 5))
    rows = rng.normal(size=(4, 5)).astype(np.float32)
    masks = rng.uniform(size=(4, 5)) < 0.8

    def visit(table, batch):
        index, new, mask = batch
        return scatter(table, index, gather(table, index) + new, mask), None

    looped, compiled = table(), jax.jit(visit)
    for batch in zip(indices, rows, masks, strict=True):
        looped, _ = compiled(looped, batch)
    scanned, _ = jax.jit(lambda *args: jax.lax.scan(visit, *args))(table(), (indices, rows, masks))
    np.testing.assert_allclose(scanned.values, looped.values, rtol=1e-6)

    # Every run has a table of its own.
    tables = Table(np.stack([table().values] * 4))
    together, _ = jax.jit(jax.vmap(visit))(tables, (indices, rows, masks))
    for run, batch in enumerate(zip(indices, rows, masks, strict=True)):
        alone, _ = compiled(table(), batch)
        np.testing.assert_allclose(np.asarray(together.values)[run], alone.values, rtol=1e-6)


def test_the_rule_is_no_leaf_and_survives_a_map():
    doubled = jax.tree.map(lambda values: 2 * values, table(jax.ops.segment_max))
    assert doubled.combine is jax.ops.segment_max
    assert len(jax.tree.leaves(doubled)) == 1
