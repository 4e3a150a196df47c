"""What training is asked for that makes no sense: each is refused at once, with what to do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from lnl_jax import metrics, train
from lnl_jax.train.tables import gather, scatter
from tests.train.problems import FEATURES, assert_close, regression, squared_error

TX = optax.sgd(0.1)
BATCH = regression(np.random.default_rng(0)) | {"index": np.arange(6), "mask": np.ones(6, bool)}


def state(**parts):
    return train.init_state(jnp.ones(FEATURES), TX, key=jax.random.key(0), **parts)


def step(loss_fn=squared_error, changes=None, without=(), **parts):
    """Traces a step; nothing is computed."""
    batch = {name: v for name, v in (BATCH | (changes or {})).items() if name not in without}
    return jax.eval_shape(train.make_train_step(loss_fn, TX), state(**parts), batch)


def with_table(size=6):
    return {"tables": train.Table(jnp.zeros(size))}


def returns(change):
    """A loss function whose result is spoiled."""

    def loss_fn(*arguments):
        losses, (extra, rows, found) = squared_error(*arguments)
        return change(losses, extra, rows, found)

    return loss_fn


def fit(batches, size=6, steps=1, epochs=1, **settings):
    run = train.scan_steps(train.make_train_step(visited, TX))
    settings = {"epochs": epochs, "steps_per_epoch": steps} | settings
    return next(train.fit(run, state(**with_table(size)), batches, **settings))


def visited(params, extra, rows, batch, key):
    losses, (extra, _, found) = squared_error(params, extra, rows, batch, key)
    return losses + 0 * rows, (extra, rows + 1, found)


def epoch_of(**changes):
    return lambda epoch: jax.tree.map(lambda v: np.asarray(v)[None], BATCH | changes)


def evaluated(metric, batches=(BATCH,)):
    eval_step = train.make_eval_step(lambda params, extra, batch: metric(batch["x"] @ params))
    return train.evaluate(eval_step, state(), batches)


TRAINER = train.Trainer(lambda *_: jnp.zeros(()), lambda s, d, state, b: (state, {}), lambda *_: {})


def sweep(plan=None, data_sets=None, **changes):
    rows = {"position": np.zeros((1, 2, 2), int), "mask": np.ones((1, 2, 2), bool)}
    data_sets = {"train": {"x": np.zeros((2, 2))}} if data_sets is None else data_sets
    settings = {"epochs": 1, "chunk": 2, "mesh": train.data_mesh(2)} | changes
    runs = train.in_chunks(
        TRAINER, np.zeros(1), data_sets, lambda _: rows | (plan or {}), **settings
    )
    return next(runs)


ROW = train.Table(np.zeros(4, np.float32))
SIZES = {"memory": 1e9, "devices": 2}
REFUSED = {
    "a mask of weights": (
        lambda: step(changes={"mask": 0.5 * np.ones(6)}),
        r'batch\["mask"\] must be boolean, got float32; compare it with 0',
    ),
    "a mask of integers": (lambda: step(changes={"mask": np.ones(6, np.int32)}), "must be boolean"),
    "a column as mask": (lambda: step(changes={"mask": np.ones((6, 1), bool)}), r"\(6, 1\)"),
    "a mask of weights for rows": (
        lambda: scatter(train.Table(jnp.zeros(4)), jnp.arange(2), jnp.ones(2), jnp.ones(2)),
        "mask must be boolean",
    ),
    "a mask of weights for pages": (
        lambda: train.page_in(ROW, np.arange(2), np.ones(2, int)),
        r"mask must be boolean of shape \(2,\), false for padding; got int64",
    ),
    "a mask of weights for a sweep": (
        lambda: sweep({"mask": np.ones((1, 2, 2))}),
        "rows must be a dict of position, integers, and mask, boolean",
    ),
    "positions that are no integers": (
        lambda: sweep({"position": np.zeros((1, 2, 2))}),
        "rows must be a dict of position, integers, .*'position': 'float64'",
    ),
    "a position that is no example": (
        lambda: sweep({"position": np.full((1, 2, 2), 2)}),
        "rows: position must be from 0 to 1, the training examples, got 2 to 2",
    ),
    "a position before the first": (
        lambda: sweep({"position": np.full((1, 2, 2), -1)}),
        "rows: position must be from 0 to 1",
    ),
    "examples of two lengths": (
        lambda: sweep(data_sets={"train": {"x": np.zeros((2, 2)), "y": np.zeros((2, 3))}}),
        r"train must hold arrays of as many examples each, got \[2, 3\]",
    ),
    "training examples without their axis": (
        lambda: sweep(data_sets={"train": {"x": np.zeros(2)}}),
        r"train must hold arrays with an axis of examples, got shape \(2,\)",
    ),
    "a scalar among data sets": (
        lambda: sweep(data_sets={"train": {"x": np.zeros((2, 2))}, "rate": 0.1}),
        "data_sets must hold arrays with a leading axis, got a scalar",
    ),
    "one setting without its axis": (
        lambda: train.in_turn(TRAINER, 0.1, [{"train": {"x": np.zeros(2)}}]),
        "settings must hold arrays with a leading axis, got a scalar",
    ),
    "data sets of two lengths": (
        lambda: sweep(data_sets={"train": {"x": np.zeros((2, 2)), "y": np.zeros((3, 2))}}),
        r"data_sets must have one leading axis, got lengths \[2, 3\]",
    ),
    "a mesh of another axis": (
        lambda: train.shard_batch({"x": np.zeros(2)}, jax.make_mesh((2,), ("model",))),
        r"mesh must have the one axis 'data', got \('model',\); make it with .*train\.data_mesh",
    ),
    "a sweep over another axis": (
        lambda: sweep(mesh=jax.make_mesh((2,), ("model",))),
        "mesh must have the one axis 'data'",
    ),
    "half a chunk": (lambda: sweep(chunk=0.5), "chunk must be an integer from 1"),
    "no epochs together": (
        lambda: next(train.fit_together([], [], None, epochs=0)),
        "epochs must be an integer from 1",
    ),
    "states of other runs": (
        lambda: next(train.fit_together([], [1], None, epochs=1)),
        "states must be one for each of the 0 sets of runs, got 1",
    ),
    "an index of floats for pages": (
        lambda: train.page_in(ROW, np.zeros(2), np.ones(2, bool)),
        "index must be integers",
    ),
    "no arrays": (lambda: step(without=BATCH), "batch must hold arrays"),
    "tables without index": (
        lambda: step(without=["index"], **with_table()),
        r'batch must hold "index", the row of each example in the tables; got \'mask\'',
    ),
    "an index of floats": (
        lambda: step(changes={"index": np.ones(6)}, **with_table()),
        r'batch\["index"\] must be integers of shape \(6,\).*float32',
    ),
    "a row that is not there": (
        lambda: fit(epoch_of(index=np.arange(6)), size=4),
        r'batch\["index"\] holds 2 rows that the tables do not have, at batch 1 of epoch 1',
    ),
    "a negative row": (
        lambda: fit(epoch_of(index=np.arange(-1, 5)), size=6),
        r'batch\["index"\] holds 1 rows',
    ),
    "another number of steps": (
        lambda: fit(epoch_of(), steps=2),
        r"batches\(0\) has 1 steps, not steps_per_epoch = 2",
    ),
    "no epochs": (lambda: fit(epoch_of(), epochs=0), "epochs must be an integer from 1 on, got 0"),
    "half an epoch": (lambda: fit(epoch_of(), epochs=0.5), "epochs must be an integer"),
    "no steps": (lambda: fit(epoch_of(), steps=0), "steps_per_epoch must be an integer from 1"),
    "losses alone": (
        lambda: step(returns(lambda losses, *_: losses)),
        r"must return \(losses, \(extra, rows, metrics\)\), got \(6,\)",
    ),
    "metrics that are no dict": (
        lambda: step(returns(lambda losses, extra, rows, found: (losses, (extra, rows, 0.5)))),
        "metrics as a dict, got a float",
    ),
    "a number as metric": (
        lambda: step(returns(lambda values, e, r, found: (values, (e, r, {"half": 0.5})))),
        r"return half with one value per example, shape \(6,\); got \(\)",
    ),
    "a metric with the step's name": (
        lambda: step(returns(lambda values, e, r, found: (values, (e, r, {"count": values})))),
        "must not call a metric 'count'",
    ),
    "rows of another form": (
        lambda: step(
            returns(lambda values, e, rows, _: (values, (e, rows[:2], {}))), **with_table()
        ),
        r"return the rows in the form it was given, \(6,\); got \(2,\)",
    ),
    "integer parameters": (
        lambda: train.init_state({"w": jnp.arange(3)}, TX, key=jax.random.key(0)),
        r"params\['w'\] must be floating to be differentiated, got int32",
    ),
    "an untyped key": (
        lambda: train.init_state(jnp.ones(1), TX, key=jax.random.PRNGKey(0)),
        r"typed key, jax.random.key\(seed\)",
    ),
    "a bare array as table": (
        lambda: state(tables={"seen": jnp.zeros(3)}),
        r"pytree of lnl_jax.train.Table, got a ArrayImpl; wrap it: Table\(values\)",
    ),
    "a table of two lengths": (
        lambda: state(tables=train.Table((jnp.zeros(3), jnp.zeros(4)))),
        r"one N per Table, got the leading sizes \[\(3,\), \(4,\)\]",
    ),
    "no batch to evaluate on": (
        lambda: evaluated(lambda values: metrics.alignment(values, values), []),
        "batches holds no batch to evaluate on",
    ),
    "a scalar metric": (
        lambda: evaluated(lambda values: {"mean": values.mean()}),
        r"the metric \['mean'\] must be a lnl_jax.metrics.Average, a sum and a count",
    ),
    "a data set of two lengths": (
        lambda: train.gather_batches(None, {"x": np.zeros(3), "y": np.zeros(4)}),
        "one N, got",
    ),
    "no batch to train on": (
        lambda: train.dispatch_steps(train.make_train_step(squared_error, TX))(state(), []),
        "batches holds no batch to train on",
    ),
    "half a device": (lambda: train.data_mesh(0.5), "num_devices must be an integer from 1 to 8"),
    "a scalar to split": (
        lambda: train.shard_batch({"step": jnp.int32(3)}, train.data_mesh(2)),
        "batch holds a scalar",
    ),
    "rows of floats": (lambda: train.remap(ROW, np.array([0.5]), 0.0), "source must be integers"),
    "half a row": (lambda: train.grow(ROW, 4.5, 0.0), "size must be an integer from 0 on"),
    "no data set": (lambda: train.chunk_size(0, 8, **SIZES), "num_data_sets must be"),
    "runs of no size": (lambda: train.chunk_size(3, 0, **SIZES), "bytes_each must be"),
    "no devices": (lambda: train.chunk_size(3, 8, memory=1e9, devices=0), "devices must be"),
    "nan memory": (
        lambda: train.chunk_size(3, 8, memory=float("nan"), devices=2),
        "memory must be above 0",
    ),
    "chunks of nothing": (lambda: train.chunk_size(3, 8, **SIZES, at_most=0), "at_most must be"),
    "empty batches of a run": (lambda: train.run_bytes(TRAINER, {}, {}, 0), "batch_size must be"),
    "no training examples": (lambda: sweep(data_sets={"x": np.zeros(2)}), "under 'train', got"),
    "less than nothing finished": (lambda: sweep(finished=-1), "finished must be an integer from"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused_with_what_to_do(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_an_index_too_wide_for_32_bits_is_no_row():
    with jax.enable_x64(True):
        table, index = train.Table(jnp.zeros(4)), jnp.array([2**32, 1])
        new = scatter(table, index, jnp.ones(2), jnp.ones(2, bool))
        assert new.values.tolist() == [0, 1, 0, 0]
        assert np.isnan(gather(table, index)).tolist() == [True, False]


def test_an_index_of_numpy_too_wide_for_32_bits_is_no_row():
    table, index = train.Table(jnp.zeros(4)), np.array([2**32, 1])
    new = scatter(table, index, jnp.ones(2), jnp.ones(2, bool))
    assert new.values.tolist() == [0, 1, 0, 0]
    assert np.isnan(gather(table, index)).tolist() == [True, False]


def test_runs_over_an_explicit_mesh_are_those_over_one_of_data_mesh():
    trainer = train.Trainer(
        lambda setting, _: setting,
        lambda setting, _, state, batch: (state + batch["x"].sum(), {}),
        lambda setting, _, state: {"sum": state},
    )
    data_sets = {"train": {"x": np.arange(4.0, dtype=np.float32).reshape(2, 2)}}
    rows = {"position": np.ones((1, 2, 2), int), "mask": np.ones((1, 2, 2), bool)}
    for mesh in (train.data_mesh(2), jax.make_mesh((2,), ("data",))):
        runs = train.in_lanes(trainer, np.zeros(1, np.float32), data_sets, mesh=mesh)
        state, _ = runs.run_steps(runs.state, rows)
        assert runs.measure(state)["sum"].tolist() == [[2], [6]]


def test_a_position_that_is_no_example_is_not_the_nearest_one():
    examples = {"x": np.ones((3, FEATURES), np.float32), "y": np.ones(3, np.float32)}
    one = train.gather_batches(train.make_train_step(squared_error, TX), examples)
    for place, finite in ((2, True), (3, False), (-1, False)):
        rows = {"position": jnp.array([0, place]), "mask": jnp.ones(2, bool)}
        assert np.isfinite(one(state(), rows)[1]["loss"]) == finite


def test_scalars_beside_the_examples_are_no_examples():
    changes, without = {"a": np.float32(3)}, ["mask", "index"]
    assert step(changes=changes, without=without)[1]["count"].shape == ()


def test_on_an_explicit_mesh_a_step_works_or_names_the_mesh_to_make():
    mesh = jax.make_mesh((2,), ("data",))
    one = jax.jit(train.make_train_step(squared_error, TX))
    found, _ = one(train.replicate(state(), mesh), train.shard_batch(BATCH, mesh))
    assert_close(found, one(state(), BATCH)[0])
    rows = NamedSharding(mesh, PartitionSpec("data"))
    split = jax.device_put(jnp.arange(6), rows)
    table = train.Table(jnp.zeros(6))
    for call in (
        lambda: one(train.replicate(state(**with_table()), mesh), train.shard_batch(BATCH, mesh)),
        lambda: gather(table, split),
        lambda: gather(train.shard_tables(table, mesh), jnp.arange(6)),
        functools.partial(scatter, table, split, jnp.zeros(6), jnp.ones(6, bool)),
    ):
        with pytest.raises(ValueError, match=r"Explicit axes; .*train\.data_mesh"):
            call()


@pytest.fixture
def manager(tmp_path):
    with train.open_checkpoints(tmp_path / "checkpoints") as manager:
        yield manager


def test_metadata_of_numpy_and_jax_is_kept_as_numbers(manager):
    metadata = {
        "acc": np.float32(1),
        "half": jnp.bfloat16(0.5),
        "rows": [np.int64(3), (np.bool_(True), None)],
        "curve": np.array([1.5, 2]),
        "loss": jnp.float32(0.25),
        "name": np.str_("run"),
    }
    train.save(manager, 3, {"x": jnp.ones(1)}, metadata)
    manager.wait_until_finished()
    assert train.latest_metadata(manager) == {
        "acc": 1.0,
        "half": 0.5,
        "rows": [3, [True, None]],
        "curve": [1.5, 2.0],
        "loss": 0.25,
        "name": "run",
    }
    train.save(manager, jnp.int32(4), {"x": jnp.ones(1)}, {})
    manager.wait_until_finished()
    assert manager.latest_step() == 4


@pytest.mark.parametrize(
    ("step", "metadata", "message"),
    [
        (3, {"rows": [{"when": object()}]}, r"metadata\['rows'\]\[0\]\['when'\] must be text, a n"),
        (3, {"key": jax.random.key(0)}, r"metadata\['key'\] must be text"),
        (3, {1: "one"}, "must have strings as keys, got 1"),
        (3, None, "metadata must be a dict, got a NoneType"),
        (-1, {}, "step must be an integer from 0 on, got -1"),
        (1.5, {}, "step must be an integer"),
    ],
)
def test_what_a_checkpoint_cannot_hold_is_refused_at_once(manager, step, metadata, message):
    with pytest.raises(ValueError, match=message):
        train.save(manager, step, {"x": jnp.ones(1)}, metadata)


def test_a_folder_that_is_a_file_and_no_checkpoints_to_keep_are_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(ValueError, match="directory must be a folder, .*file is a file"):
        train.open_checkpoints(path)
    with pytest.raises(ValueError, match="keep must be an integer from 1 on, got 0"):
        train.open_checkpoints(tmp_path, keep=0)
