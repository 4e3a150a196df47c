"""The stages of `hello_imagenet` and the state they share, which a run goes on from.

The state is a dict: `done`, the number of finished stages; `epoch`, of rows; the `foundation`
model, empty where it comes from a file; `teachers`, all checkpoints of one run; the `adapter` in
float16; `patches`, which crops of which images were chosen, ``[K, patches, 2]``; `scores` of the
students, ``[sizes, rows, learning rates, students, 2]``; and `running`, the state of the network
that is being trained, empty between networks.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.folder_parts import FolderParts, Reading
from experiments.folder_training import Step, passes
from experiments.outputs import Checkpoint, Resume
from lnl_jax import train

PyTree = Any
State = dict[str, Any]
Outputs = Iterator[dict[str, Any] | Checkpoint]


class Training(NamedTuple):
    """A network that is trained on all images, pass by pass.

    Attributes:
        name: in rows.
        start: makes its first state from the state of the run.
        step: of `folder_training.compiled`.
        constants: makes what the step needs besides, from the state of the run.
        count: passes.
        keep: called with the state of the run, the network's, and the number of passes so far.
        accuracy: of what the state of the run holds at the end, as a fraction.
    """

    name: str
    start: Callable[[State], train.TrainState]
    step: Step
    constants: Callable[[State], PyTree]
    count: int
    keep: Callable[[State, train.TrainState, int], None]
    accuracy: Callable[[State], float]


def restored(like: State, trainings: Sequence[Training], resume: Resume) -> State:
    """The state before the first stage, or the one that an interrupted run saved.

    Args:
        like: the former, with arrays or their shapes.
        trainings: of which one may have been interrupted: its name is in the last row.
        resume: where an interrupted run goes on.

    Returns:
        The state; all of it but `running` are writable arrays.
    """
    last = resume.rows[-1]["method"] if resume.rows else None
    starts = {training.name: training.start for training in trainings}
    like = jax.tree.map(_zeros_where_described, like)
    like["running"] = starts[last](like) if last in starts else {}
    found = resume.restore(like)
    if last in starts and found["done"] > list(starts).index(last):
        # The interruption came between two networks.
        found = found | {"running": {}}
    fixed = {name: value for name, value in found.items() if name != "running"}
    return jax.tree.map(np.array, fixed) | {"running": found["running"]}


def _zeros_where_described(leaf: Any) -> np.ndarray:
    described = isinstance(leaf, jax.ShapeDtypeStruct)
    return np.zeros(leaf.shape, leaf.dtype) if described else np.asarray(leaf)


def train_on_folder(
    state: State, number: int, training: Training, parts: FolderParts, reading: Reading, seed: int
) -> Outputs:
    """One network, from where the state has it; a row and a checkpoint for each pass.

    Args:
        state: is filled; `number` stages of it were finished before.
        number: of this stage.
        training: the network.
        parts: real images.
        reading: how they are read.
        seed: of order and crops.
    """
    if state["done"] > number:
        return
    start = state["running"] or training.start(state)
    constants = training.constants(state)
    for running, count, loss in passes(
        training.step, start, constants, parts.train, reading, seed=seed, count=training.count
    ):
        training.keep(state, running, count)
        row = {"loss": loss}
        state["running"] = running
        if count == training.count:
            state["done"] += 1
            row["accuracy"] = training.accuracy(state)
        yield from reported(state, training.name, row)
    state["running"] = {}


def reported(state: State, name: str, row: dict[str, Any]) -> Outputs:
    """A row, counted, and a checkpoint."""
    state["epoch"] += 1
    yield {"epoch": int(state["epoch"]), "method": name} | row
    yield Checkpoint(dict(state))
