from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import train
from lnl_jax.train import Table, segment_log_mean_exp, segment_mean, tables

SIZE = 16


class Rows(NamedTuple):
    temperature: object
    log_u: object
    velocity: object


RULES = Rows(segment_mean, segment_log_mean_exp, segment_mean)
NEW = Rows(0.5, -np.inf, 0.0)


def table(rng, size=SIZE, **fields):
    values = rng.uniform(0.1, 1, (3, size)).astype(np.float32)
    values[1, : size // 2] = -np.inf
    return Table(Rows(*values), RULES, **fields)


def visit(state, batch):
    """What a training step does with rows: read, change, write."""
    rows = tables.gather(state, batch["index"])
    temperature = rows.temperature + 0.1 * batch["x"]
    log_u = jnp.logaddexp(rows.log_u - 1, batch["x"])
    new = Rows(temperature, log_u, 0.5 * rows.velocity + batch["x"])
    return tables.scatter(state, batch["index"], new, batch["mask"])


def batches(rng, count=3, size=8):
    """Batches with duplicates and with padding, whose index is beyond the table."""
    for _ in range(count):
        index = rng.integers(0, SIZE, size).astype(np.int32)
        index[1] = index[0]
        mask = np.arange(size) < size - 2
        index[~mask] = SIZE
        yield {"index": index, "mask": mask, "x": rng.normal(size=size).astype(np.float32)}


def expected_values(start, visits):
    """The same in NumPy, example by example."""
    values = [np.array(column, np.float64) for column in start]
    for batch in visits:
        proposed = {}
        for i, x in zip(batch["index"][batch["mask"]], batch["x"], strict=False):
            t, u, v = (column[i] for column in values)
            proposed.setdefault(i, []).append((t + 0.1 * x, np.logaddexp(u - 1, x), 0.5 * v + x))
        for i, rows in proposed.items():
            t, u, v = np.array(rows).T
            values[0][i], values[1][i], values[2][i] = t.mean(), np.log(np.exp(u).mean()), v.mean()
    return values


@pytest.mark.parametrize(
    "devices", [1, *(pytest.param(count, marks=pytest.mark.slow) for count in (2, 4)), 8]
)
def test_replicated_sharded_and_host_rows_hold_the_same_numbers(rng, devices):
    start, mesh = table(rng), train.data_mesh(devices)
    visits = list(batches(rng))
    step = jax.jit(visit)
    placed = {
        "replicated": train.replicate(start, mesh),
        "sharded": train.shard_tables(start, mesh),
    }
    for name, state in placed.items():
        for batch in visits:
            state = step(state, train.shard_batch(batch, mesh))
        placed[name] = state.values
    host = jax.tree.map(np.copy, start)
    for batch in visits:
        paged, place = train.page_in(host, batch["index"], batch["mask"])
        paged = train.replicate(paged, mesh)
        paged = step(paged, train.shard_batch(batch | {"index": place}, mesh))
        train.page_out(host, batch["index"], batch["mask"], paged)
    placed["host"] = host.values
    expected = expected_values(start.values, visits)
    for values in placed.values():
        for found, column in zip(values, expected, strict=True):
            np.testing.assert_allclose(found, column, rtol=1e-5)


def test_each_device_holds_its_part_of_sharded_rows(rng):
    sharded = train.shard_tables(table(rng), train.data_mesh(8))
    shards = sharded.values.log_u.addressable_shards
    assert [shard.data.shape for shard in shards] == [(2,)] * 8


def test_a_temperature_an_estimate_and_a_velocity_take_twelve_bytes(rng):
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(table(rng))) == 12 * SIZE


def test_log_mean_exp_has_no_overflow_and_knows_the_log_of_zero():
    rows = jnp.array([300.0, 300.0 + np.log(3), -np.inf, -np.inf, -np.inf, np.log(4)])
    found = segment_log_mean_exp(rows, jnp.array([0, 0, 1, 1, 2, 2]), 4)
    np.testing.assert_allclose(found, [300 + np.log(2), -np.inf, np.log(2), -np.inf], rtol=1e-6)


def test_remap_moves_drops_and_starts_rows(rng):
    old = table(rng, fingerprint="old")
    moved = train.remap(old, np.array([5, -1, 0, 15]), NEW, fingerprint="new")
    assert moved.fingerprint == "new"
    for found, column, new in zip(moved.values, old.values, NEW, strict=True):
        np.testing.assert_array_equal(found, np.float32([column[5], new, column[0], column[15]]))


def test_grow_keeps_the_rows_and_adds_new_ones(rng):
    old = table(rng)
    grown = train.grow(old, SIZE + 2, NEW)
    for found, column, new in zip(grown.values, old.values, NEW, strict=True):
        np.testing.assert_array_equal(found, np.float32([*column, new, new]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: train.remap(t, np.array([16]), NEW), "from 0 to 15, or -1"),
        (lambda t: train.remap(t, np.array([-2]), NEW), "from 0 to 15, or -1"),
        (lambda t: train.grow(t, 15, NEW), "has 16 rows, more than size = 15"),
        (
            lambda t: train.shard_tables(train.grow(t, 17, NEW), train.data_mesh(8)),
            "grow it to 24",
        ),
        (lambda t: train.page_in(t, np.array([0, 16]), np.ones(2, bool)), "from 0 to 15"),
        (lambda t: train.page_in(t, np.array([-1, 3]), np.ones(2, bool)), "from 0 to 15"),
        (lambda t: train.fingerprint(), "at least one column"),
        (lambda t: train.fingerprint(np.array([object()])), "Python objects"),
    ],
)
def test_what_does_not_fit_is_refused(rng, call, message):
    with pytest.raises(ValueError, match=message):
        call(table(rng))


def test_a_fingerprint_depends_on_values_order_and_type():
    labels = np.arange(5)
    names = np.array(["a", "b"])
    assert train.fingerprint(labels) == train.fingerprint(labels.copy())
    different = [labels[::-1], labels.astype(np.int32), labels[:4], labels.reshape(5, 1), names]
    assert len({train.fingerprint(column) for column in (labels, *different)}) == 6


@pytest.mark.parametrize(
    ("size", "fingerprint", "message"),
    [(SIZE, "other", "fingerprint is mine there and other here"), (SIZE + 1, "mine", r"\[17\]")],
)
def test_a_table_of_other_examples_is_not_restored(rng, tmp_path, size, fingerprint, message):
    with train.open_checkpoints(tmp_path) as manager:
        saved = table(rng, fingerprint="mine")
        train.save(manager, 1, saved, {})
        manager.wait_until_finished()
        step, restored, _ = train.restore_latest(manager, table(rng, fingerprint="mine"))
        jax.tree.map(np.testing.assert_array_equal, restored, saved)
        assert (step, restored.fingerprint) == (1, "mine")
        with pytest.raises(ValueError, match=message):
            train.restore_latest(manager, table(rng, size, fingerprint=fingerprint))
