"""Runs in lockstep one after the other, all by one program."""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lnl_jax.train.data_parallel import data_parallel
from lnl_jax.train.lockstep import Runs, Trainer, gathered
from lnl_jax.train.lockstep_checks import Rows, check_rows, leading_axis, num_examples
from lnl_jax.train.loop import dispatch_steps, run_steps, steps_program
from lnl_jax.train.memory import program_bytes
from lnl_jax.train.sharding import DATA_AXIS, on_this_process, replicate
from lnl_jax.train.table_rows import SHARES, with_spare_rows, without_spare_rows
from lnl_jax.train.tables import is_table

PyTree = Any


def in_turn(
    trainer: Trainer,
    settings: PyTree,
    data_sets: Sequence[Mapping[str, PyTree]],
    *,
    batches: Callable[[int, Rows], Iterable[Mapping]] | None = None,
    measured: Sequence[Mapping[str, PyTree]] | None = None,
    mesh: Mesh | None = None,
    split_tables: bool = False,
) -> Runs:
    """One run after the other, all by one program: for networks that fill the machine alone.

    Args:
        trainer: what a run does.
        settings: a pytree of arrays with a leading axis of settings.
        data_sets: dicts as of `in_lanes`, without the axis; what they share, such as images, they
            share in memory.
        batches: ``(number of a data set, its rows) -> batches``, dicts of arrays one after the
            other, for what is streamed from the host; None gathers them from ``train``.
        measured: the data sets as `measure` sees them, where these hold arrays that stay on the
            host; it is not compiled as a whole then. None takes `data_sets`.
        mesh: over whose devices each batch is split, as of `data_parallel`, such as that of
            `batch_mesh`; None takes one device. One over the devices of several processes is given
            to all of them, with the same arguments; between its steps each has all states.
        split_tables: whether the rows of tables are split over them too. A state has a multiple of
            256 rows then, those of no example at the end; `measure` sees none of these.

    Returns:
        The `Runs`.

    Raises:
        ValueError: if there is nothing to train, settings have unlike leading axes, or tables are
            split over a number of devices that does not divide 256; when called, if a position is
            no training example.
    """
    shape = (len(data_sets), leading_axis("settings", settings))
    if not all(shape):
        raise ValueError("there must be at least one data set and one setting, got none.")
    if split_tables and mesh is not None and SHARES % mesh.size:
        raise ValueError(
            f"mesh must have a number of devices that divides {SHARES} where tables are split, got "
            f"{mesh.size}; take fewer, or do not split them."
        )
    size = None
    if batches is None:
        size = min(num_examples(each["train"], axis=0) for each in data_sets)
    data_sets = [jax.tree.map(jnp.asarray, dict(each)) for each in data_sets]
    trained = data_sets if mesh is None else _on_all_devices(data_sets, mesh)
    take_step, shared = data_parallel(trainer.step, mesh, split_tables=split_tables), _as_it_is
    if mesh is not None and mesh.is_multi_process:
        shared = functools.partial(replicate, mesh=mesh)
    begin, measure_one = trainer.start, trainer.measure
    if split_tables:
        begin, measure_one = _with_spare_rows(trainer)
    measure = jax.jit(measure_one) if measured is None else measure_one
    # Measured is in each process for itself.
    seen = on_this_process(trained) if measured is None else measured
    places = list(itertools.product(*map(range, shape)))
    # Sent to the device once, not with every epoch.
    on_device = {place: jax.device_put(np.int32(place)) for place in places}
    of_settings = [_pick(settings, index) for index in range(shape[1])]

    # One function for all runs, which get their arrays as arguments: it is compiled once.
    def step(setting, data_set, state, rows):
        batch = gathered(data_set["train"], rows) if batches is None else rows
        return take_step(setting, data_set, state, batch)

    make = run_steps if batches is None else dispatch_steps
    programs = {
        (one, index): make(jax.tree_util.Partial(step, shared(of_settings[index]), trained[one]))
        for one, index in places
    }

    def run_rows(states: PyTree, rows: Rows) -> tuple[PyTree, dict]:
        check_rows(rows, size)
        history = []
        for one, index in places:
            own = {name: values[:, one] for name, values in rows.items()}
            own = own if batches is None else batches(one, own)
            state = shared(_pick(states, on_device[one, index]))
            state, metrics = programs[one, index](state, own)
            states = _put(states, on_device[one, index], on_this_process(state))
            history.append(metrics)
        metrics = jax.tree.map(lambda *values: np.stack(values, -1), *jax.device_get(history))
        return states, jax.tree.map(lambda values: values.reshape(-1, *shape), metrics)

    def measure_all(states: PyTree) -> dict:
        found = [
            measure(of_settings[index], seen[one], _pick(states, on_device[one, index]))
            for one, index in places
        ]
        return jax.tree.map(
            lambda *values: np.stack(values).reshape(*shape, *np.shape(values[0])),
            *jax.device_get(found),
        )

    start = jax.jit(jax.vmap(begin, (0, None)))
    states = [start(settings, each) for each in data_sets]
    states = jax.tree.map(lambda *each: jnp.stack(each), *states)
    if mesh is not None and not mesh.is_multi_process:
        states = _placed(states, mesh, split_tables)

    def memory(rows: Rows) -> int | None:
        if batches is not None:
            return None
        run = jax.tree_util.Partial(step, shared(of_settings[0]), trained[0])
        own = {name: values[:, 0] for name, values in rows.items()}
        program, arguments = steps_program(run, shared(_pick(states, on_device[0, 0])), own)
        return program_bytes(program, *arguments)

    return Runs(states, run_rows, measure_all, memory)


def _as_it_is(tree: PyTree) -> PyTree:
    return tree


def _with_spare_rows(trainer: Trainer) -> tuple[Callable, Callable]:
    def begin(setting, data_set):
        return with_spare_rows(trainer.start(setting, data_set))

    def measure(setting, data_set, state):
        form = jax.eval_shape(trainer.start, setting, data_set)
        return trainer.measure(setting, data_set, without_spare_rows(state, form))

    return begin, measure


def _placed(states: PyTree, mesh: Mesh, split_tables: bool) -> PyTree:
    """States of runs, ``[data sets, settings, ...]``, as a step leaves them."""

    def place(node: Any) -> Any:
        if not (split_tables and is_table(node)):
            return replicate(node, mesh)
        return jax.device_put(node, NamedSharding(mesh, PartitionSpec(None, None, DATA_AXIS)))

    return jax.tree.map(place, states, is_leaf=is_table)


def _on_all_devices(data_sets: Sequence[Mapping], mesh: Mesh) -> list[PyTree]:
    """What data sets share, they share in the memory of each device too."""
    copies: dict[int, jax.Array] = {}

    def copy(leaf: jax.Array) -> jax.Array:
        if id(leaf) not in copies:
            copies[id(leaf)] = replicate(leaf, mesh)
        return copies[id(leaf)]

    return jax.tree.map(copy, list(data_sets))


@jax.jit
def _pick(tree: PyTree, at: Any) -> PyTree:
    """The entry of every array at an index of its leading axes, ``[axes]`` or one number."""
    return jax.tree.map(lambda array: array[tuple(jnp.atleast_1d(at))], tree)


@functools.partial(jax.jit, donate_argnums=0)
def _put(tree: PyTree, at: Any, entry: PyTree) -> PyTree:
    return jax.tree.map(lambda array, new: array.at[tuple(at)].set(new), tree, entry)
