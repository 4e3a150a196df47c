"""The networks of `hello_imagenet` that are trained on a folder, as stages of a run."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from experiments import folder_training as training
from experiments.descent import scorer
from experiments.folder_parts import FolderParts, Reading, accuracies
from experiments.foundation_models import Foundation
from experiments.imagenet_stages import State, Training
from experiments.low_rank_projectors import (
    Projector,
    Setting,
    initial_projector,
    label_dtype,
    projector_logits,
    to_float16,
)
from lnl_jax import train

PyTree = Any
ZERO_SHOT = Setting(0, None)
# The foundation model of a state, which does not hold it where it comes from a file.
FoundationOf = Callable[[State], Foundation]


def clip_stage(
    parts: FolderParts,
    reading: Reading,
    *,
    templates: Sequence[str],
    count: int,
    learning_rate: float,
    seed: int,
) -> tuple[Training, PyTree]:
    """A small CLIP for this folder, and the shapes of what it becomes in the state."""
    model, ids = training.small_clip(parts.names, templates, reading.size)
    tx = training.cosine(learning_rate, parts.train, reading, count)

    def start(state: State) -> train.TrainState:
        return training.clip_start(model, tx, ids, seed)

    def keep(state: State, running: train.TrainState, passed: int) -> None:
        if passed == count:
            state["foundation"] = on_host(training.as_foundation(model, running.params, ids))

    def accuracy(state: State) -> float:
        predict = sources(state, state["foundation"], None, seed)["zero-shot"]
        return accuracies([predict], parts.validation, reading)[0]

    step = training.compiled(training.clip_loss(model), tx)
    shapes = jax.eval_shape(lambda: training.as_foundation(model, start({}).params, ids))
    return Training("foundation", start, step, lambda state: ids, count, keep, accuracy), shapes


def teacher_stage(
    model: Any,
    parts: FolderParts,
    reading: Reading,
    *,
    checkpoints: int,
    count: int,
    learning_rate: float,
    seed: int,
) -> tuple[Training, PyTree]:
    """A teacher, and the shapes of its checkpoints at the end of evenly spaced passes."""
    tx = training.cosine(learning_rate, parts.train, reading, count, weight_decay=0.01)
    wanted = [count * (i + 1) // checkpoints for i in range(checkpoints)]

    def start(state: State) -> train.TrainState:
        return training.teacher_start(model, tx, reading.size, seed)

    def keep(state: State, running: train.TrainState, passed: int) -> None:
        if passed in wanted:
            variables = {"params": running.params, **running.extra}
            for leaves, leaf in zip(
                jax.tree.leaves(state["teachers"]), jax.tree.leaves(variables), strict=True
            ):
                leaves[wanted.index(passed)] = leaf

    def accuracy(state: State) -> float:
        predict = scorer(model, last_teacher(state))
        return accuracies([predict], parts.validation, reading)[0]

    def variables():
        state = start({})
        return {"params": state.params, **state.extra}

    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((checkpoints, *leaf.shape), leaf.dtype),
        jax.eval_shape(variables),
    )
    step = training.compiled(training.teacher_loss(model), tx)
    return Training("teacher", start, step, lambda state: (), count, keep, accuracy), shapes


def projector_stage(
    model: Any,
    setting: Setting,
    foundation_of: FoundationOf,
    parts: FolderParts,
    reading: Reading,
    *,
    ce_weight: float,
    count: int,
    learning_rate: float,
    seed: int,
) -> Training:
    """The projector, which follows all checkpoints of the teachers' network `model`."""
    tx = training.cosine(learning_rate, parts.train, reading, count)

    def start(state: State) -> train.TrainState:
        adapter = initial_projector(foundation_of(state), setting, seed).adapter
        return train.init_state(adapter, tx, key=jax.random.key(seed))

    def constants(state: State) -> PyTree:
        return foundation_of(state), state["teachers"]

    def keep(state: State, running: train.TrainState, passed: int) -> None:
        if passed == count:
            words = foundation_of(state).words
            state["adapter"] = on_host(to_float16(Projector(running.params, words)).adapter)

    def accuracy(state: State) -> float:
        predict = sources(state, foundation_of(state), None, seed)["projector"]
        return accuracies([predict], parts.validation, reading)[0]

    step = training.compiled(training.projector_loss(model, ce_weight), tx)
    return Training("projector", start, step, constants, count, keep, accuracy)


def adapter_shapes(foundation: Foundation, setting: Setting, seed: int) -> PyTree:
    """Of the stored adapter."""
    return jax.eval_shape(
        lambda found: to_float16(initial_projector(found, setting, seed)).adapter, foundation
    )


def sources(
    state: State, foundation: Foundation, teacher: Any, seed: int
) -> dict[str, Callable[[Any], jax.Array]]:
    """Networks that make labels: images from 0 to 1 to logits, which stay on the device.

    Args:
        state: with the adapter and the teachers.
        foundation: the model under the projector.
        teacher: the teachers' network; None leaves it out.
        seed: of the projector.
    """
    projectors = {
        "projector": Projector(state["adapter"], foundation.words),
        "zero-shot": initial_projector(foundation, ZERO_SHOT, seed),
    }
    found = {
        name: projector_logits(foundation, of, dtype=label_dtype())
        for name, of in projectors.items()
    }
    return found if teacher is None else found | {"teacher": scorer(teacher, last_teacher(state))}


def last_teacher(state: State) -> tuple[PyTree, PyTree]:
    """Parameters of the last checkpoint, and its statistics."""
    variables = jax.tree.map(lambda leaves: leaves[-1], state["teachers"])
    return variables["params"], {k: v for k, v in variables.items() if k != "params"}


def on_host(tree: PyTree) -> PyTree:
    """Arrays of NumPy, to write into."""
    return jax.tree.map(np.array, tree)
