"""Many trainings in lockstep: all runs of one program at once, in chunks, over all local devices.

A run is a data set (a fold, a noise, a seed) with a setting (a learning rate, hyperparameters).
The runs of a data set share its batches, so each is gathered once, and their order, so that their
differences are paired. Nothing but a plan of positions crosses from the host within an epoch.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lnl_jax._arguments import check_integer, check_range
from lnl_jax.train.sharding import DATA_AXIS, local_mesh

PyTree = Any
# A few steps of small networks take less time than the way to the device and back, and at the end
# of a call each device waits for the last one.
STEPS_PER_CALL = 1000
# Half the width of the vector units of newer CPUs is XLA's choice, for older ones that slow down at
# the whole. The functions between small products, element by element, are worth it; the numbers
# stay the same. `benchmarks/sweep.py --halves` times both.
WIDE_VECTORS = {"xla_cpu_prefer_vector_width": 512}


class Trainer(NamedTuple):
    """What one run does. All functions are for one run; the sweep puts the axes of runs in front.

    Attributes:
        start: ``(setting, data_set) -> state``, any pytree: what a run changes, with its state per
            training example.
        step: ``(setting, data_set, state, batch) -> state``, for the examples of one batch.
        measure: ``(setting, data_set, state) -> dict`` of arrays, after the last epoch.
    """

    start: Callable[[PyTree, PyTree], PyTree]
    step: Callable[[PyTree, PyTree, PyTree, Mapping], PyTree]
    measure: Callable[[PyTree, PyTree, PyTree], dict]


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
    _check_train(data_set)
    state = jax.eval_shape(trainer.start, setting, data_set)
    batch = jax.tree.map(
        lambda values: jax.ShapeDtypeStruct((batch_size, *np.shape(values)[1:]), values.dtype),
        dict(data_set["train"]),
    )
    batch["mask"] = jax.ShapeDtypeStruct((batch_size,), bool)
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


def run_sweep(
    trainer: Trainer,
    settings: PyTree,
    data_sets: PyTree,
    plan: Callable[[int], Mapping[str, np.ndarray]],
    *,
    epochs: int,
    chunk: int,
    mesh: Mesh | None = None,
    finished: int = 0,
    report: Callable[[int, int], Any] | None = None,
) -> Iterator[tuple[range, dict[str, np.ndarray]]]:
    """Trains every setting on every data set.

    One program per call: give all runs of a loss function at once. Each run comes out as it would
    alone, up to rounding.

    Args:
        trainer: what a run does.
        settings: a pytree of arrays with a leading axis of settings.
        data_sets: a dict of pytrees of arrays with a leading axis of data sets. Batches are taken
            from ``train``, whose arrays have the examples next; the functions see the whole.
        plan: the rows of an epoch, numbered from 0: ``position``, ``[steps, data sets, batch]``,
            and ``mask``.
        epochs: passes over the data.
        chunk: data sets at once, from `chunk_size`.
        mesh: over whose devices the data sets of a chunk are split; none takes all local devices.
            One over the devices of several processes is given to all of them, with the same
            arguments; each gets all results.
        finished: how many data sets, the first ones, were trained on earlier.
        report: called each time a chunk comes back to the host, after one or more epochs, with how
            many these are so far and how many steps all runs of the chunk took since the last time.

    Yields:
        For each chunk its data sets and what was measured, arrays ``[data sets, settings, ...]``.

    Raises:
        ValueError: if there is nothing to train, or the chunk does not split over the devices.
    """
    mesh = local_mesh() if mesh is None else mesh
    _check_train(data_sets)
    count, width = (len(jax.tree.leaves(tree)[0]) for tree in (data_sets, settings))
    if not count or not width or epochs < 1:
        raise ValueError(
            f"a sweep needs at least one data set, setting and epoch; got {count}, {width} and "
            f"{epochs}."
        )
    if chunk < 1 or chunk % mesh.size:
        raise ValueError(f"chunk must be a multiple of the {mesh.size} devices, got {chunk}.")
    check_integer("finished", finished, at_least=0)
    _check_plan(plan(0))
    start, run_steps, measure = _programs(trainer, mesh)
    settings = jax.device_put(settings, NamedSharding(mesh, PartitionSpec()))
    split = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
    for first in range(finished, count, chunk):
        members = range(first, min(first + chunk, count))
        # The last chunk is filled up with its first member, so that its program is the same.
        chosen = np.array([*members] + [members[0]] * (chunk - len(members)))
        own = jax.device_put(jax.tree.map(lambda v, at=chosen: v[at], data_sets), split)
        state = start(settings, own)
        for numbers in _together(range(epochs), len(plan(0)["mask"])):
            plans = [plan(epoch) for epoch in numbers]
            rows = {
                name: np.moveaxis(np.concatenate([each[name][:, chosen] for each in plans]), 0, 1)
                for name in plans[0]
            }
            state = run_steps(settings, own, state, jax.device_put(rows, split))
            if report is not None:
                jax.block_until_ready(state)
                report(numbers[-1] + 1, rows["mask"].shape[1] * len(members) * width)
        measured = _on_host(measure(settings, own, state))
        yield members, {name: v[: len(members)] for name, v in measured.items()}


def _check_train(data_sets: PyTree) -> None:
    if not isinstance(data_sets, Mapping) or "train" not in data_sets:
        raise ValueError(
            "a data set must be a dict with its training examples under 'train', got "
            f"{sorted(data_sets) if isinstance(data_sets, Mapping) else type(data_sets).__name__}."
        )


def _check_plan(rows: Mapping[str, np.ndarray]) -> None:
    if not {"position", "mask"} <= set(rows) or np.asarray(rows["mask"]).dtype != bool:
        raise ValueError(
            "plan must give a dict of position, integers, and mask, boolean, as "
            "lnl_jax.data.epoch_plan does; got "
            f"{ {name: str(np.asarray(values).dtype) for name, values in rows.items()} }."
        )


def _together(epochs: range, steps: int) -> Iterator[range]:
    """Epochs that run in one call: as many as have `STEPS_PER_CALL`, always the same number."""
    most = max(STEPS_PER_CALL // steps, 1)
    each = max(count for count in range(1, min(most, len(epochs)) + 1) if len(epochs) % count == 0)
    for first in range(0, len(epochs), each):
        yield epochs[first : first + each]


@functools.lru_cache(maxsize=8)
def _programs(trainer: Trainer, mesh: Mesh) -> tuple[Callable, Callable, Callable]:
    over_settings = functools.partial(jax.vmap, in_axes=(0, None))
    start = jax.vmap(over_settings(trainer.start), (None, 0))
    measure = jax.vmap(jax.vmap(trainer.measure, (0, None, 0)), (None, 0, 0))

    def step_all(settings, data_sets, states, rows):
        def on_one(data_set, states, rows):
            batch = {name: values[rows["position"]] for name, values in data_set["train"].items()}
            batch["mask"] = rows["mask"]
            return jax.vmap(trainer.step, (0, None, 0, None))(settings, data_set, states, batch)

        return jax.vmap(on_one)(data_sets, states, rows)

    def run_steps(settings, data_sets, states, rows):
        def one(states, rows):
            return step_all(settings, data_sets, states, rows), None

        steps_first = jax.tree.map(lambda array: jnp.moveaxis(array, 1, 0), rows)
        return jax.lax.scan(one, states, steps_first)[0]

    def compiled(function, *kinds, **options):
        specs = tuple(PartitionSpec(DATA_AXIS) if kind else PartitionSpec() for kind in kinds)
        parts = jax.shard_map(
            function, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(DATA_AXIS), check_vma=False
        )
        return jax.jit(parts, **options)

    on_cpu = mesh.devices.flat[0].platform == "cpu"
    options = {"compiler_options": WIDE_VECTORS} if on_cpu else {}
    return (
        compiled(start, 0, 1),
        compiled(run_steps, 0, 1, 1, 1, donate_argnums=2, **options),
        compiled(measure, 0, 1, 1),
    )


def _on_host(measured: PyTree) -> PyTree:
    """What all devices measured, also those of other processes."""
    if all(leaf.is_fully_addressable for leaf in jax.tree.leaves(measured)):
        return jax.tree.map(np.asarray, measured)
    return multihost_utils.process_allgather(measured, tiled=True)


def _bytes(array: Any) -> int:
    size = math.prod(array.shape)
    return size * (8 if not hasattr(array.dtype, "itemsize") else array.dtype.itemsize)
