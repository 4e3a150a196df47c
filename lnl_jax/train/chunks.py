"""More runs in lockstep than fit at once: some data sets at a time, over all local devices."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from lnl_jax._arguments import check_range
from lnl_jax._host_arguments import check_integer
from lnl_jax.train.lockstep import Trainer, in_lanes
from lnl_jax.train.lockstep_checks import Rows, check_runs, check_train
from lnl_jax.train.memory import free_bytes, program_bytes
from lnl_jax.train.over_devices import devices_at_hand, mesh_at_hand

PyTree = Any
# A few steps of small networks take less time than the way to the device and back, and at the end
# of a call each device waits for the last one.
STEPS_PER_CALL = 1000
# Of the memory that is free: what is on the device besides, such as the programs, needs some.
SHARE = 0.8


def run_bytes(trainer: Trainer, setting: PyTree, data_set: PyTree, batch_size: int) -> int:
    """How much memory one run takes at most: its state twice, and what a step holds.

    Args:
        trainer: what a run does.
        setting: of one run.
        data_set: of one run, with ``train``.
        batch_size: B.

    Returns:
        Bytes; those of the data set, which runs share, are not among them.

    Raises:
        ValueError: if `batch_size` is less than 1, or the data set has no ``train``.
    """
    check_integer("batch_size", batch_size)
    check_train(data_set)
    state = jax.eval_shape(trainer.start, setting, data_set)
    batch = jax.tree.map(
        lambda values: jax.ShapeDtypeStruct((batch_size, *np.shape(values)[1:]), values.dtype),
        dict(data_set["train"]),
    )
    batch["mask"] = jax.ShapeDtypeStruct((batch_size,), bool)
    batch["position"] = jax.ShapeDtypeStruct((batch_size,), np.int32)
    program = jax.make_jaxpr(trainer.step)(setting, data_set, state, batch)
    held = sum(_bytes(v.aval) for equation in program.eqns for v in equation.outvars)
    return 2 * sum(_bytes(leaf) for leaf in jax.tree.leaves(state)) + held


def chunk_size(
    num_data_sets: int, bytes_each: int, *, memory: float, devices: int, at_most: int | None = None
) -> int:
    """How many data sets are trained on at once: as many as the memory holds, in equal chunks.

    Args:
        num_data_sets: how many there are in all.
        bytes_each: what one of them takes with all its runs.
        memory: bytes that may be used.
        devices: a chunk is a multiple of their number.
        at_most: a limit of the caller, such as one that fits a cache.

    Returns:
        The size of a chunk.

    Raises:
        ValueError: if not even one data set per device fits, or a number is out of range.

    Example:
        >>> chunk_size(35, 100, memory=1000, devices=2)
        10
        >>> chunk_size(35, 100, memory=1e9, devices=2)
        36
    """
    check_integer("num_data_sets", num_data_sets)
    check_integer("bytes_each", bytes_each)
    check_integer("devices", devices)
    check_range("memory", memory, above=0, below=math.inf)
    if at_most is not None:
        check_integer("at_most", at_most)
    largest = int(memory // (bytes_each * devices)) * devices
    if largest < devices:
        raise ValueError(
            f"memory must hold a data set per device, {bytes_each * devices:,} bytes; got "
            f"{int(memory):,}."
        )
    if at_most is not None:
        largest = max(min(largest, at_most // devices * devices), devices)
    chunks = math.ceil(num_data_sets / largest)
    return math.ceil(num_data_sets / chunks / devices) * devices


def data_sets_that_fit(
    trainer: Trainer, settings: PyTree, data_sets: Mapping[str, PyTree], batch_size: int
) -> int | None:
    """A chunk for `in_chunks` that fills the devices: the step of one data set is compiled for it.

    Args:
        trainer: what a run does.
        settings: as of `in_lanes`, all of which are trained on each data set.
        data_sets: as of `in_lanes`.
        batch_size: B.

    Returns:
        How many data sets are trained on at once, over all local devices or those of
        `over_devices`; None where the devices do not tell their memory, as CPUs, on which runs at
        once are a matter of the cache.

    Raises:
        ValueError: if there is nothing to train, or not even one data set per device fits.
    """
    check_integer("batch_size", batch_size)
    count, _ = check_runs(settings, data_sets)
    free = [free_bytes(device) for device in devices_at_hand()]
    if None in free:
        return None
    settings = jax.tree.map(_shape, settings)
    one = jax.tree.map(lambda values: _shape(values, 1), dict(data_sets))
    batch = jax.tree.map(
        lambda values: jax.ShapeDtypeStruct((batch_size, *values.shape[1:]), values.dtype),
        dict(one["train"]),
    )
    batch["mask"] = jax.ShapeDtypeStruct((batch_size,), bool)
    states = jax.eval_shape(jax.vmap(trainer.start, (0, None)), settings, one)

    def step(settings, data_set, states, batch):
        return jax.vmap(trainer.step, (0, None, 0, None))(settings, data_set, states, batch)[0]

    each = program_bytes(step, settings, one, states, batch, donate_argnums=2)
    if each is None:
        return None
    memory = SHARE * min(free) * len(free)
    return chunk_size(count, each, memory=memory, devices=len(free))


def in_chunks(
    trainer: Trainer,
    settings: PyTree,
    data_sets: Mapping[str, PyTree],
    plan: Callable[[int], Rows],
    *,
    epochs: int,
    chunk: int,
    mesh: Mesh | None = None,
    finished: int = 0,
    report: Callable[[int, int], Any] | None = None,
) -> Iterator[tuple[range, dict[str, np.ndarray]]]:
    """Trains every setting on every data set to the end, a chunk of data sets at a time.

    One program for all chunks: give all runs of a loss function at once. Each run comes out as it
    would alone, up to rounding.

    Args:
        trainer: what a run does; its metrics are not computed.
        settings: as of `in_lanes`.
        data_sets: as of `in_lanes`.
        plan: the rows of an epoch, numbered from 0, ``[steps, data sets, batch]``.
        epochs: passes over the data.
        chunk: data sets at once, from `chunk_size`.
        mesh: as of `in_lanes`, but None takes all local devices, or those of `over_devices`.
        finished: how many data sets, the first ones, were trained on earlier.
        report: called each time a chunk comes back to the host, after one or more epochs, with how
            many these are so far and how many steps all runs of the chunk took since the last time.

    Yields:
        For each chunk its data sets and what was measured, arrays ``[data sets, settings, ...]``.

    Raises:
        ValueError: if there is nothing to train, or the chunk does not split over the devices.
    """
    mesh = mesh_at_hand() if mesh is None else mesh
    check_integer("epochs", epochs)
    check_integer("finished", finished, at_least=0)
    check_integer("chunk", chunk)
    if chunk % mesh.size:
        raise ValueError(f"chunk must be a multiple of the {mesh.size} devices, got {chunk}.")
    count, width = check_runs(settings, data_sets)
    trainer = _without_metrics(trainer)
    for first in range(finished, count, chunk):
        members = range(first, min(first + chunk, count))
        # The last chunk is filled up with its first member, so that its program is the same.
        chosen = np.array([*members] + [members[0]] * (chunk - len(members)))
        own = jax.tree.map(lambda values, at=chosen: values[at], data_sets)
        runs = in_lanes(trainer, settings, own, mesh=mesh)
        state = runs.state
        for numbers in _together(range(epochs), len(plan(0)["mask"])):
            plans = [plan(epoch) for epoch in numbers]
            rows = {
                name: np.concatenate([each[name][:, chosen] for each in plans]) for name in plans[0]
            }
            state, _ = runs.run_steps(state, rows)
            if report is not None:
                jax.block_until_ready(state)
                report(numbers[-1] + 1, len(rows["mask"]) * len(members) * width)
        measured = runs.measure(state)
        yield members, {name: values[: len(members)] for name, values in measured.items()}


@functools.lru_cache(maxsize=8)
def _without_metrics(trainer: Trainer) -> Trainer:
    """The same one, always, for the same trainer, so that its programs are compiled once."""

    def step(setting, data_set, state, batch):
        return trainer.step(setting, data_set, state, batch)[0], {}

    return trainer._replace(step=step)


def _together(epochs: range, steps: int) -> Iterator[range]:
    """Epochs that run in one call: as many as have `STEPS_PER_CALL`, always the same number."""
    most = max(STEPS_PER_CALL // steps, 1)
    each = max(count for count in range(1, min(most, len(epochs)) + 1) if len(epochs) % count == 0)
    for first in range(0, len(epochs), each):
        yield epochs[first : first + each]


def _shape(values: Any, axes: int = 0) -> jax.ShapeDtypeStruct:
    """That of an array without its leading axes."""
    return jax.ShapeDtypeStruct(np.shape(values)[axes:], jax.numpy.result_type(values))


def _bytes(array: Any) -> int:
    size = math.prod(array.shape)
    return size * (8 if not hasattr(array.dtype, "itemsize") else array.dtype.itemsize)
