"""Runs spread over devices: what is split and what is said, and one device's numbers for each loop.

The families are those of `test_transfers`: a robust loss with rows and batch statistics, iSogCLR
with its tables, a projector; each alone with its batches split, and many at once.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import data, train
from lnl_jax.distill.training import train_in_turn
from tests.train import test_transfers as families
from tests.train.problems import EXAMPLES, assert_close, classification
from tests.train.test_transfers import BATCH

STEPS, FIFTY = EXAMPLES // BATCH, 50


def squared_gap(logits, batch):
    """Cross-entropies leave the offset of all scores alone: Adam then makes steps of rounding."""
    return jnp.square(logits - batch["targets"]).mean(-1)


FAMILIES = families.FAMILIES | {
    "projector": functools.partial(families.projector, FIFTY, squared_gap)
}


@pytest.mark.parametrize(
    ("count", "batch_size", "or_one", "size", "line"),
    [
        (None, 256, False, 8, "batches of 256 over 8 devices, 32 examples on each"),
        (None, 248, False, 1, "batches of 248 on one of 8 devices, where each would get 31 exampl"),
        (None, 260, False, 1, "batches of 260 on one of 8 devices, which do not divide it"),
        (2, 16, False, 2, "batches of 16 over 2 devices, 8 examples on each"),
        (4, 10, True, 1, "batches of 10 on one of 4 devices, which do not divide it"),
        (1, 256, False, 1, ""),
    ],
)
def test_batches_are_split_where_each_device_gets_enough(count, batch_size, or_one, size, line):
    lines = []
    with train.over_devices(count, say=lines.append):
        meshes = [train.batch_mesh(batch_size, or_one=or_one) for _ in range(2)]
    assert [1 if mesh is None else mesh.size for mesh in meshes] == [size] * 2
    assert len(lines) == bool(line), "Each line is said once."
    assert "".join(lines).startswith(line)


@pytest.mark.parametrize(
    ("count", "lanes", "size"), [(None, 5, 5), (None, 16, 8), (None, 9, 3), (4, 6, 3), (1, 8, 1)]
)
def test_trainings_at_once_are_split_over_the_most_devices_that_divide_them(count, lanes, size):
    lines = []
    with train.over_devices(count, say=lines.append):
        assert train.lanes_mesh(lanes).size == size
        assert train.mesh_at_hand().size == (count or 8)
    said = f"{lanes} data sets at once over {size} of {count or 8} devices, {lanes // size} on each"
    assert lines[:1] == [said] * (count != 1)


def test_outside_nothing_is_split_and_nothing_stays_behind():
    assert train.batch_mesh(256) is None
    assert train.lanes_mesh(8).size == 1
    with pytest.raises(RuntimeError), train.over_devices(2):
        raise RuntimeError
    assert train.batch_mesh(256) is None


@pytest.mark.parametrize("count", [0, 9])
def test_devices_that_are_not_there_are_refused(count):
    text = f"devices must be from 1 to the 8 that are here, got {count}"
    with pytest.raises(train.DevicesError, match=text), train.over_devices(count):
        pass


def test_a_batch_that_does_not_split_over_the_given_devices_is_refused():
    text = r"devices must divide the batch of 50 examples \(batch_size\), got 4"
    with train.over_devices(4), pytest.raises(train.DevicesError, match=text):
        train.batch_mesh(50)


def test_split_tables_need_devices_that_divide_their_shares():
    text = "devices must divide 256 where tables are split by their rows, got 3"
    lines = []
    with train.over_devices(3, say=lines.append):
        with pytest.raises(train.DevicesError, match=text):
            train.batch_mesh(48, split_tables=True)
        assert train.batch_mesh(48, split_tables=True, or_one=True) is None
        assert lines == [
            "batches of 48 on one of 3 devices, which do not divide 256, as split tables need it"
        ]
        assert train.batch_mesh(48).size == 3
    with pytest.raises(ValueError, match="mesh must have a number of devices that divides 256"):
        train.in_turn(
            trainer_of("robust"),
            np.zeros(1, np.float32),
            [{"train": examples(0), "seed": np.int32(0)}],
            mesh=train.data_mesh(3),
            split_tables=True,
        )


def in_dtype(tree):
    """Floating leaves in the dtype of today."""
    dtype = jnp.float64 if jax.config.read("jax_enable_x64") else jnp.float32

    def cast(leaf):
        floating = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(dtype) if floating else leaf

    return jax.tree.map(cast, tree)


def trainer_of(family):
    step, state = FAMILIES[family]()
    step, state = in_dtype(step), in_dtype(state)

    def start(setting, data_set):
        return state._replace(key=jax.random.key(data_set["seed"]))

    def take(setting, data_set, state, batch):
        return step(state, batch)

    def measure(setting, data_set, state):
        tables = [jnp.asarray(leaf) for leaf in jax.tree.leaves(state.tables)]
        return {"rows": sum(jnp.nansum(leaf) for leaf in tables), "step": state.step}

    return train.Trainer(start, take, measure)


def examples(seed):
    return in_dtype(jax.tree.map(jnp.asarray, classification(np.random.default_rng(seed))))


def one_after_the_other(family, steps, devices, *, split_tables=False, seeds=(0,)):
    """State, metrics and measures of a training whose batches are split."""
    with train.over_devices(devices):
        runs = train.in_turn(
            trainer_of(family),
            np.zeros(1, np.float32),
            [{"train": examples(seed), "seed": np.int32(seed)} for seed in seeds],
            mesh=train.batch_mesh(BATCH),
            split_tables=split_tables,
        )
        return carried_out(runs, steps, seeds)


def at_once(family, steps, devices, *, seeds=range(8)):
    """Of trainings whose data sets are split."""
    parts = jax.tree.map(lambda *each: jnp.stack(each), *map(examples, seeds))
    with train.over_devices(devices):
        runs = train.in_lanes(
            trainer_of(family), np.zeros(1, np.float32), {"train": parts, "seed": np.array(seeds)}
        )
        return carried_out(runs, steps, seeds)


def carried_out(runs, steps, seeds):
    plan = data.epoch_plans(EXAMPLES, BATCH, seeds)
    rows = [plan(epoch) for epoch in range(-(-steps // STEPS))]
    rows = jax.tree.map(lambda *each: np.concatenate(each)[:steps], *rows)
    state, metrics = runs.run_steps(runs.state, rows)
    return state, jax.device_get(metrics), runs.measure(state)


def streamed(family, steps, devices):
    """Of a training of soft labels."""
    assert family == "projector"
    step, state = FAMILIES[family]()
    step, state, part = in_dtype(step), in_dtype(state), examples(0)
    inner, targets = step.args
    epochs = range(-(-steps // STEPS))
    plan = [data.epoch_plan(EXAMPLES, BATCH, np.random.default_rng(n)) for n in epochs]
    batches = [
        {
            "images": part["x"][rows],
            "classes": part["label"][rows],
            "targets": targets,
            "mask": np.ones(BATCH, bool),
        }
        for epoch in plan
        for rows in epoch["position"]
    ][:steps]
    with train.over_devices(devices):
        ((end,),) = train_in_turn(inner, [state], batches, keep=[len(batches)])
    return end


split_tables = functools.partial(one_after_the_other, split_tables=True)
FAST = [
    (one_after_the_other, "robust"),
    (split_tables, "isogclr"),
    (at_once, "isogclr"),
    (streamed, "projector"),
]
SLOW = [
    (split_tables, "robust"),
    (one_after_the_other, "isogclr"),
    (at_once, "robust"),
    (at_once, "projector"),
]


def without_spares(found):
    """Tables as on one device: without the rows of no example."""

    def cut(table):
        return jax.tree.map(lambda values: values[:, :, :EXAMPLES], table.values)

    state, *others = found
    tables = jax.tree.map(cut, state.tables, is_leaf=lambda node: isinstance(node, train.Table))
    return state._replace(tables=tables), *others


def check_float64(run, family, *counts):
    expected = run(family, FIFTY, 1)
    for devices in counts:
        found = run(family, FIFTY, devices)
        leaves = jax.tree.leaves(found.params if run is streamed else found[0])
        assert {len(leaf.sharding.device_set) for leaf in leaves} == {devices}, "It was not split."
        one = expected
        if run is split_tables:
            one, found = without_spares(expected), without_spares(found)
        assert_close(found, one, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("run", "family"), FAST)
def test_eight_devices_give_the_numbers_of_one_after_fifty_steps(run, family, float64):
    check_float64(run, family, 8)


@pytest.mark.slow
@pytest.mark.parametrize(("run", "family"), FAST)
def test_so_do_two_and_four(run, family, float64):
    check_float64(run, family, 2, 4)


@pytest.mark.slow
@pytest.mark.parametrize(("run", "family"), SLOW)
def test_so_do_the_other_families(run, family, float64):
    check_float64(run, family, 8)


@pytest.mark.parametrize(("run", "family"), FAST[:1] + FAST[-1:])
def test_in_float32_the_first_step_is_the_same_to_rounding(run, family):
    expected, found = run(family, 1, 1), run(family, 1, 8)
    assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_split_tables_have_spare_rows_and_each_device_its_share(rng):
    mesh = train.data_mesh(4)
    state, _, measured = split_tables("robust", STEPS, 4)
    for leaf in jax.tree.leaves(state.tables):
        assert leaf.shape == (1, 1, 256)
        assert {shard.data.shape for shard in leaf.addressable_shards} == {(1, 1, 256 // mesh.size)}
    assert state.params["kernel"].sharding.is_fully_replicated
    # Nothing is measured of rows that no example has.
    expected = one_after_the_other("robust", STEPS, 4)[2]
    np.testing.assert_allclose(measured["rows"], expected["rows"], rtol=1e-5)
