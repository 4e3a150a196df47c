"""Trainings on streamed data, pass by pass in pieces, which go on where they were stopped."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lnl_jax import train
from lnl_jax.distill.training._devices import mesh_for, on_mesh
from lnl_jax.distill.training._steps import Loss, Step, initial_state

PyTree = Any
# After about so many steps a training can be gone on with.
STEPS_AT_ONCE = 200


class NetworkTraining(NamedTuple):
    """A network that is to be trained on streamed batches.

    Attributes:
        loss: for `step_with`.
        constants: of the loss.
        params: the first parameters.
        network: ``(params, extra)`` to a function of images to scores, to measure what was trained.
        extra: the first statistics or the like.
        weight_decay: of matrices and kernels.
        keep: numbers of passes after which the variables are kept; None for the last one alone.
    """

    loss: Loss
    constants: PyTree
    params: PyTree
    network: Callable[[PyTree, PyTree], Callable[[Any], Array]]
    extra: Mapping[str, PyTree] = {}
    weight_decay: float = 0.0
    keep: Sequence[int] | None = None


def resumable(
    training: NetworkTraining,
    *,
    learning_rate: float,
    steps: int,
    seed: int,
    passed: int = 0,
) -> dict[str, Any]:
    """Where a training begins, in the form of all that it takes to go on with it.

    Args:
        training: the network.
        learning_rate: the first.
        steps: of all passes.
        seed: of the state's key.
        passed: how many passes were made; for the form of what an interrupted training left.

    Returns:
        A dict of the `state`, of the `kept` variables, dicts ``{"params", "extra"}`` by number of
        passes, as text, and of what is summed up `so_far` of the pass under way.
    """
    state = initial_state(
        training.params,
        learning_rate=learning_rate,
        steps=steps,
        weight_decay=training.weight_decay,
        extra=training.extra,
        seed=seed,
    )
    kept = {str(number): _variables(state) for number in training.keep or () if number <= passed}
    return {"state": state, "kept": kept, "so_far": _begin()}


def _begin() -> train.SoFar:
    return train.SoFar(0, train.no_sums("loss", "gradient_norm", "skipped", "steps_skipped"))


def train_in_passes(
    step: Step,
    start: Mapping[str, Any],
    batches: Callable[[int, slice], Iterable[Mapping]],
    *,
    passes: int,
    steps_per_pass: int,
    keep: Sequence[int] | None = None,
) -> Iterator[tuple[dict[str, Any] | None, dict[str, Any]]]:
    """Trains a network pass by pass, from where it was stopped.

    Within `train.over_devices` the batches are split where they divide.

    Args:
        step: of `step_with`, on a loss without metrics of its own.
        start: of `resumable`.
        batches: some of those of a pass, numbered from 0: a function of both numbers alone.
        passes: how many in all.
        steps_per_pass: how many batches each has.
        keep: as of `NetworkTraining`.

    Yields:
        After each pass a row, as `train.fit` has it, and what it takes to go on, as of `resumable`;
        after about `STEPS_AT_ONCE` steps within one None in place of a row.
    """
    # The constants are sent to the devices once.
    kept, split = dict(start["kept"]), functools.cache(functools.partial(on_mesh, step))

    def run(state, rows):
        first, last = rows["step"][[0, -1]].tolist()
        mesh, piece = mesh_for(batches(int(rows["pass"][0]), slice(first, last + 1)))
        return train.dispatch_steps(split(mesh))(state, piece)

    def rows_of(number):
        return {"pass": np.full(steps_per_pass, number), "step": np.arange(steps_per_pass)}

    options = {"epochs": passes, "steps_per_epoch": steps_per_pass}
    options |= {"steps_at_once": STEPS_AT_ONCE, "so_far": start["so_far"]}
    for row, state in train.fit(run, start["state"], rows_of, **options):
        if isinstance(row, train.SoFar):
            yield None, {"state": state, "kept": dict(kept), "so_far": row}
            continue
        if row["epoch"] in (keep or ()):
            # The next steps consume these.
            kept[str(row["epoch"])] = jax.tree.map(jnp.copy, _variables(state))
        yield row, {"state": state, "kept": dict(kept), "so_far": _begin()}


def kept_variables(found: Mapping[str, Any]) -> list[dict[str, PyTree]]:
    """What was kept of a training that has ended, or what it ended with.

    Args:
        found: as of `resumable`.

    Returns:
        Dicts ``{"params", "extra"}``, in the order of the passes.
    """
    return list(found["kept"].values()) or [_variables(found["state"])]


def _variables(state: train.TrainState) -> dict[str, PyTree]:
    return {"params": state.params, "extra": state.extra}
