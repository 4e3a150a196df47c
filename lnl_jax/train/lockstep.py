"""Many trainings in lockstep: every data set (seed, fold, noise) with every setting.

A run is a data set with a setting (a learning rate, hyperparameters). The runs of a data set share
its batches and their order, so that their differences are paired. How runs are carried out is a
choice and changes nothing but the time: `in_lanes`, all at once in one program, for networks of
small matrices; `in_turn`, for networks that fill the machine alone; and `in_chunks`, some data sets
at a time, for more runs than the memory holds.
"""

import functools
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lnl_jax._host_arguments import check_integer
from lnl_jax.train.lockstep_checks import (
    Rows,
    check_rows,
    check_runs,
    num_examples,
)
from lnl_jax.train.memory import program_bytes
from lnl_jax.train.over_devices import lanes_mesh
from lnl_jax.train.pieces import SoFar, in_float64, in_pieces, no_sums
from lnl_jax.train.sharding import DATA_AXIS, check_mesh, on_this_process, placed

PyTree = Any
# By itself XLA takes half the width of the vector units of newer CPUs, since older ones slow down
# at the whole. Between products as small as these the whole is faster (`benchmarks/sweep.py` times
# both), and no number changes.
WIDE_VECTORS = {"xla_cpu_prefer_vector_width": 512}


class Trainer(NamedTuple):
    """What one run does. All functions are for one run; the engine puts the axes of runs in front.

    Attributes:
        start: ``(setting, data_set) -> state``, any pytree: what a run changes, with its state per
            training example.
        step: ``(setting, data_set, state, batch) -> (state, metrics)``, for the examples of one
            batch, with their ``position`` in the training set and the ``mask``. Metrics that nobody
            reads cost time: an empty dict is one, too.
        measure: ``(setting, data_set, state) -> dict`` of arrays.
    """

    start: Callable[[PyTree, PyTree], PyTree]
    step: Callable[[PyTree, PyTree, PyTree, Mapping], tuple[PyTree, dict]]
    measure: Callable[[PyTree, PyTree, PyTree], dict]


class Runs(NamedTuple):
    """All runs of a trainer, and how they are carried out.

    Attributes:
        state: before the first step, ``[data sets, settings, ...]``.
        run_steps: ``(states, rows) -> (states, metrics)``. The rows are those of some steps,
            ``position`` and ``mask``, ``[steps, data sets, batch]``, the metrics ``[steps, data
            sets, settings]``. The states are donated.
        measure: ``states -> dict`` of arrays ``[data sets, settings, ...]``.
        memory: ``rows -> bytes`` on a device, of a call of `run_steps` on such rows with the data,
            or of one run's where they come in turn; it is compiled for it, and not again when it
            runs. None where it is not known.
    """

    state: PyTree
    run_steps: Callable[[PyTree, Rows], tuple[PyTree, dict]]
    measure: Callable[[PyTree], dict]
    memory: Callable[[Rows], int | None] = lambda rows: None  # noqa: E731


def in_lanes(
    trainer: Trainer,
    settings: PyTree,
    data_sets: PyTree,
    *,
    shared: Mapping[str, PyTree] = types.MappingProxyType({}),
    mesh: Mesh | None = None,
) -> Runs:
    """All runs at once, as one program with two leading axes.

    Nothing but positions crosses from the host between steps, and the batch of a data set is
    gathered once for all its settings. Convolutions do not belong here: with an axis of runs they
    are grouped ones, which on a CPU take twice the time of their parts, and far more in a loop.

    Args:
        trainer: what a run does.
        settings: a pytree of arrays with a leading axis of settings.
        data_sets: a dict of pytrees of arrays with a leading axis of data sets. Batches are taken
            from ``train``, whose arrays have the examples next; the functions see the whole.
        shared: what every data set holds besides, by name, without the axis: it is in memory once.
        mesh: over whose devices the data sets are split, as many on each; None takes that of
            `lanes_mesh`: within `over_devices` as many as divide them, else one.
            One over the devices of several processes is given to all of them, with the same
            arguments; each gets all that is measured.

    Returns:
        The `Runs`.

    Raises:
        ValueError: if there is nothing to train, arrays have unlike leading axes, or the data sets
            do not split over the devices; when called, if a position is no training example.

    Example:
        >>> trainer = Trainer(
        ...     start=lambda setting, data_set: jnp.float32(0),
        ...     step=lambda setting, data_set, w, batch: (w + setting * batch["x"].sum(), {}),
        ...     measure=lambda setting, data_set, w: {"w": w},
        ... )
        >>> data_sets = {"train": {"x": jnp.array([[1.0, 2.0], [3.0, 4.0]])}}
        >>> runs = in_lanes(trainer, jnp.array([1.0, 10.0]), data_sets)
        >>> rows = {"position": np.zeros((3, 2, 1), int), "mask": np.ones((3, 2, 1), bool)}
        >>> state, _ = runs.run_steps(runs.state, rows)
        >>> runs.measure(state)["w"].tolist()
        [[3.0, 30.0], [9.0, 90.0]]
    """
    count, _ = check_runs(settings, data_sets)
    mesh = lanes_mesh(count) if mesh is None else mesh
    check_mesh(mesh)
    if count % mesh.size:
        raise ValueError(
            f"data_sets must be a multiple of the {mesh.size} devices of the mesh, got {count}."
        )
    start, run, measure = _programs(trainer, mesh)
    size = num_examples(data_sets["train"], axis=1)
    settings = placed(settings, NamedSharding(mesh, PartitionSpec()))
    data_sets = placed(data_sets, NamedSharding(mesh, PartitionSpec(DATA_AXIS)))
    shared = placed(dict(shared), NamedSharding(mesh, PartitionSpec()))
    of_rows = NamedSharding(mesh, PartitionSpec(None, DATA_AXIS))

    initial = start(settings, data_sets, shared)
    where = jax.tree.map(lambda leaf: leaf.sharding, initial)

    def arguments(states: PyTree, rows: Rows) -> tuple:
        # States that were restored or changed may lie otherwise: a program of their own to compile.
        states = jax.device_put(states, where)
        return settings, data_sets, shared, states, jax.device_put(dict(rows), of_rows)

    def run_rows(states: PyTree, rows: Rows) -> tuple[PyTree, dict]:
        check_rows(rows, size)
        return run(*arguments(states, rows))

    return Runs(
        initial,
        run_rows,
        lambda states: on_host(measure(settings, data_sets, shared, states)),
        lambda rows: program_bytes(run, *arguments(initial, rows)),
    )


@functools.lru_cache(maxsize=8)
def _programs(trainer: Trainer, mesh: Mesh) -> tuple[Callable, Callable, Callable]:
    def start(settings, data_sets, shared):
        def on_one(data_set):
            return jax.vmap(trainer.start, (0, None))(settings, {**data_set, **shared})

        return jax.vmap(on_one)(data_sets)

    def measure(settings, data_sets, shared, states):
        def on_one(data_set, states):
            return jax.vmap(trainer.measure, (0, None, 0))(settings, {**data_set, **shared}, states)

        return jax.vmap(on_one)(data_sets, states)

    def step_all(settings, data_sets, shared, states, rows):
        def on_one(data_set, states, rows):
            batch = gathered(data_set["train"], rows)
            step = jax.vmap(trainer.step, (0, None, 0, None))
            return step(settings, {**data_set, **shared}, states, batch)

        return jax.vmap(on_one)(data_sets, states, rows)

    def run(settings, data_sets, shared, states, rows):
        return jax.lax.scan(
            lambda states, rows: step_all(settings, data_sets, shared, states, rows), states, rows
        )

    everywhere, split = PartitionSpec(), PartitionSpec(DATA_AXIS)
    steps_first = PartitionSpec(None, DATA_AXIS)

    def compiled(function, inputs, outputs, **options):
        parts = jax.shard_map(
            function, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False
        )
        return jax.jit(parts, **options)

    on_cpu = mesh.devices.flat[0].platform == "cpu"
    options = {"compiler_options": WIDE_VECTORS} if on_cpu else {}
    inputs = (everywhere, split, everywhere)
    return (
        compiled(start, inputs, split),
        compiled(
            run, (*inputs, split, steps_first), (split, steps_first), donate_argnums=3, **options
        ),
        compiled(measure, (*inputs, split), split),
    )


def fit_together(
    all_runs: Sequence[Runs],
    states: Sequence[PyTree],
    plan: Callable[[int], Rows],
    *,
    epochs: int,
    finished: int = 0,
    steps_at_once: int | None = None,
    so_far: SoFar | None = None,
) -> Iterator[tuple[int, list[dict[str, Any]] | SoFar, list[PyTree]]]:
    """Trains several sets of runs epoch by epoch, so that all their curves grow together.

    A run that diverges stays where it is, not finite: that is its result, and validation will not
    choose it.

    Args:
        all_runs: such as one for each method; their steps report `loss` and `count`.
        states: theirs, the initial ones or restored ones.
        plan: the rows of an epoch, numbered from 0.
        epochs: how many in all, at least 1.
        finished: after how many of them the states are, from 0.
        steps_at_once: takes an epoch in pieces of about so many steps, as `in_pieces` has it, after
            each of which a training can be gone on with; None takes it whole.
        so_far: of the epoch after those that are finished, if the states are in the midst of it.

    Yields:
        The number of the epoch, from 1; for each set of runs what it measures, the mean `loss` of
        the epoch, ``[data sets, settings]``, the number of `examples` that all its runs saw, and
        within `skip_not_finite` of those that each left out, `examples_skipped`; the states, which
        the next epoch consumes. After a piece that does not end its epoch the `SoFar`, whose sums
        are a list with ``no_sums("loss", shape=...)`` for each set of runs, in place of what is
        measured.

    Raises:
        ValueError: if a number is out of range, or there is not one state for each set of runs.
    """
    check_integer("epochs", epochs)
    check_integer("finished", finished, at_least=0)
    if len(states) != len(all_runs):
        raise ValueError(
            f"states must be one for each of the {len(all_runs)} sets of runs, got {len(states)}."
        )
    # The first epoch consumes a copy: the caller's states stay usable.
    states = [jax.tree.map(jnp.copy, state) for state in states]
    for epoch in range(finished, epochs):
        before, so_far = so_far or SoFar(0, [no_sums("loss")] * len(all_runs)), None
        taken, sums = int(before.steps), [in_float64(one) for one in before.sums]
        whole = plan(epoch)
        for part, rows in in_pieces(whole, steps_at_once, taken):
            if part.start > taken:
                yield epoch + 1, SoFar(part.start, list(sums)), states
            for index, runs in enumerate(all_runs):
                states[index], metrics = runs.run_steps(states[index], rows)
                losses, count = on_host((metrics["loss"], metrics["count"]))
                sums[index] = {
                    "count": sums[index]["count"] + count.sum(0, dtype=np.float64),
                    "loss": sums[index]["loss"] + _weighted(losses, count),
                }
        reports = [
            runs.measure(state) | _of_epoch(total, losses.dtype)
            for runs, state, total in zip(all_runs, states, sums, strict=True)
        ]
        if "skipped" in metrics:
            for report, total in zip(reports, sums, strict=True):
                report["examples_skipped"] = _skipped(total["count"], whole["mask"])
        yield epoch + 1, reports, states


# What NumPy warns of is no news: a run that diverged is infinite or NaN, as is the mean of one all
# of whose batches were left out.
_diverged = functools.partial(np.errstate, over="ignore", invalid="ignore")


def _weighted(losses: np.ndarray, count: np.ndarray) -> np.ndarray:
    with _diverged():
        return (losses * count).sum(0, dtype=np.float64)


def _of_epoch(sums: dict[str, np.ndarray], dtype: np.dtype) -> dict[str, Any]:
    with _diverged():
        loss = (sums["loss"] / sums["count"]).astype(dtype)
    return {"loss": loss, "examples": int(sums["count"].sum())}


def _skipped(count: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What each run would have seen of an epoch, less what it saw: in pieces taken earlier too."""
    # Of each data set, or of what all runs share.
    there = np.sum(mask, axis=(0, -1))
    return (there.reshape(there.shape + (1,) * (count.ndim - there.ndim)) - count).astype(int)


def gathered(train: Mapping[str, jax.Array], rows: Rows) -> dict[str, jax.Array]:
    """The batch at some positions of the training examples, with these and its mask."""
    batch = {name: values[rows["position"]] for name, values in train.items()}
    return batch | {"mask": rows["mask"], "position": rows["position"]}


def on_host(measured: PyTree) -> PyTree:
    """What all devices measured, also those of other processes."""
    return jax.device_get(on_this_process(measured))
