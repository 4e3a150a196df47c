"""The stages of soft-label studies before and around the students, and the state they share.

The state is a dict of arrays whose form the arguments decide: `done`, the number of finished
stages; the `foundation` model; the `teachers`, all checkpoints of one run; the `projectors` by
name; `scores`, accuracies of the students, ``[sizes, rows, learning rates, students, 2]``; `sizes`,
bytes of the files of stored labels, ``[sizes, rows]``.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.augmented_views import Views, draw_views
from experiments.descent import accuracy, in_chunks, initial, scorer
from experiments.distillation_parts import Parts
from experiments.foundation_models import FoundationMaker
from experiments.label_storage import live
from experiments.low_rank_projectors import (
    MAIN,
    Setting,
    initial_projector,
    label_dtype,
    projector_logits,
    projector_predict,
    to_float16,
    train_projector,
)
from experiments.outputs import Artifact, Checkpoint, Resume
from experiments.soft_label_students import HARD, convnet, train_students, with_classes
from lnl_jax import distill

# Which of the checkpoints are the weak teachers.
CHECKPOINTS, WEAK = 9, (2, 5, 8)
BATCH = 50
PyTree = Any
State = dict[str, Any]


def empty_state(
    maker: FoundationMaker,
    parts: Parts,
    kinds: Mapping[str, Setting],
    shape: tuple[int, ...],
    seed: int,
    resume: Resume,
) -> State:
    """The state before the first stage, or the one that an interrupted run saved.

    Args:
        maker: of the foundation model.
        parts: of the real images.
        kinds: the projectors.
        shape: of the scores.
        seed: of the projectors.
        resume: where an interrupted run goes on.

    Returns:
        Writable arrays.
    """
    foundation = jax.eval_shape(lambda found: found, maker.form(parts))
    model, images = teacher_model(parts.num_classes), np.zeros((2, *parts.image_shape), np.float32)
    teacher, _ = jax.eval_shape(lambda: initial(model, jax.random.key(0), images))

    def projector(setting):
        return jax.eval_shape(
            lambda found: to_float16(initial_projector(found, setting, seed)), foundation
        )

    like = {
        "done": np.int32(0),
        "foundation": foundation,
        "teachers": jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((CHECKPOINTS, *leaf.shape), leaf.dtype), teacher
        ),
        "projectors": {name: projector(setting) for name, setting in kinds.items()},
        "scores": np.zeros(shape, np.float32),
        "sizes": np.zeros(shape[:2], np.int32),
    }
    like = jax.tree.map(_zeros_where_described, like)
    return jax.tree.map(np.array, resume.restore(like))


def _zeros_where_described(leaf: Any) -> np.ndarray:
    described = isinstance(leaf, jax.ShapeDtypeStruct)
    return np.zeros(leaf.shape, leaf.dtype) if described else np.asarray(leaf)


def prepare(
    state: State,
    maker: FoundationMaker,
    parts: Parts,
    kinds: Mapping[str, Setting],
    seed: int,
    teacher_steps: int,
    projector_steps: int,
    flip_rate: float,
) -> Iterator[dict[str, Any] | Checkpoint]:
    """Makes foundation model, teachers and projectors, as far as the state lacks them.

    Args:
        state: is filled.
        maker: of the foundation model.
        parts: of the real images.
        kinds: of projectors; one of rank 0 without steps is zero-shot classification.
        seed: of teachers and projectors.
        teacher_steps: of the teachers' run.
        projector_steps: of each projector.
        flip_rate: of mirrored crops, of teachers and projectors.

    Yields:
        A row and a checkpoint for each of them.
    """
    stages: dict[str, Callable[[], None]] = {
        "zero-shot": lambda: _foundation_stage(state, maker, parts, seed),
        "teacher": lambda: _teacher_stage(state, parts, seed, teacher_steps, flip_rate),
    }
    for name, setting in kinds.items():
        if name != "zero-shot":
            stages[name] = lambda name=name, setting=setting: _projector_stage(
                state, parts, name, setting, seed, projector_steps, flip_rate
            )
    for number, (name, run) in enumerate(stages.items()):
        if state["done"] > number:
            continue
        run()
        if name == "teacher":
            predict = teacher_predict(state)
        else:
            predict = projector_predict(state["foundation"], state["projectors"][name])
        yield from finished(state, name, accuracy(predict, parts.validation))


def finished(state: State, name: str, percent: float) -> Iterator[dict[str, Any] | Checkpoint]:
    """Counts a stage of the state, and yields its row and a checkpoint."""
    state["done"] = np.int32(state["done"] + 1)
    yield {"epoch": int(state["done"]), "method": name, "accuracy": percent / 100}
    yield Checkpoint(state)


def _foundation_stage(state: State, maker: FoundationMaker, parts: Parts, seed: int) -> None:
    found = maker.make(parts)
    zero_shot = to_float16(initial_projector(found, Setting(0, None), seed))
    state["foundation"] = _on_host(found)
    state["projectors"]["zero-shot"] = _on_host(zero_shot)


def _teacher_stage(state: State, parts: Parts, seed: int, steps: int, flip_rate: float) -> None:
    views = _views(parts, seed, steps, flip_rate)
    keep = [steps * (i + 1) // CHECKPOINTS for i in range(CHECKPOINTS)]
    _, kept = train_students(
        teacher_model(parts.num_classes),
        [jax.random.key(seed + 100)],
        with_classes(views),
        views,
        HARD,
        learning_rates=[3e-3],
        keep=keep,
    )
    checkpoints = [trained for ((trained, _),) in kept]
    state["teachers"] = jax.tree.map(lambda *leaves: np.stack(leaves), *checkpoints)


def _projector_stage(
    state: State,
    parts: Parts,
    name: str,
    setting: Setting,
    seed: int,
    steps: int,
    flip_rate: float,
) -> None:
    views = _views(parts, seed + 1, steps, flip_rate)
    sources = sources_of(state)
    batches = {
        "images": views.images,
        "targets": live(sources["weak" if setting.weak else "teacher"], views),
        # Of what is not pasted.
        "classes": parts.train["label"][views.geometry.rows],
    }
    found = train_projector(state["foundation"], setting, batches, seed=seed)
    state["projectors"][name] = _on_host(found)


def _views(parts: Parts, seed: int, steps: int, flip_rate: float) -> Views:
    return draw_views(
        parts.train["image"],
        parts.train["label"],
        seed=seed,
        steps=steps,
        batch_size=min(BATCH, len(parts.train["label"])),
        num_classes=parts.num_classes,
        flip_rate=flip_rate,
    )


def _on_host(tree: PyTree) -> PyTree:
    return jax.tree.map(np.asarray, tree)


def teacher_model(num_classes: int) -> Any:
    """The teachers' network, a ConvNet as the students are by default."""
    return convnet(num_classes)


def teachers_of(state: State) -> list[PyTree]:
    """Parameters of all checkpoints; the last one is the teacher."""
    return [
        jax.tree.map(lambda leaf, at=index: leaf[at], state["teachers"])
        for index in range(CHECKPOINTS)
    ]


def teacher_predict(state: State) -> Callable[[np.ndarray], np.ndarray]:
    """Images to the teacher's logits, in chunks."""
    return functools.partial(in_chunks, sources_of(state)["teacher"])


def sources_of(state: State) -> dict[str, Callable[[Any], jax.Array]]:
    """Networks that make labels: images to logits, ``[B, K]`` on the device.

    They can be traced: nothing in them waits for the host.
    """
    foundation, projectors = state["foundation"], state["projectors"]
    model = teacher_model(foundation.words.shape[-1])
    networks = [scorer(model, (one, {})) for one in teachers_of(state)]
    weak = [networks[index] for index in WEAK]
    tower = functools.partial(projector_logits, foundation, dtype=label_dtype())
    return {
        "teacher": networks[-1],
        "weak": lambda images: distill.projectors.weak_targets(
            jnp.stack([one(images) for one in weak])
        ),
        "projector": tower(projectors[MAIN]),
        "zero-shot": tower(projectors["zero-shot"]),
    }


def projectors_table(
    state: State, parts: Parts, kinds: Mapping[str, Setting]
) -> list[dict[str, Any]]:
    """A line per projector, and the teacher last: accuracy, and what one has to store."""
    foundation = state["foundation"]
    lines = []
    for name in kinds:
        found = state["projectors"][name]
        size = 0 if name == "zero-shot" else distill.projectors.count_parameters(found.adapter)
        lines.append(_line(name, projector_predict(foundation, found), parts, size))
    size = distill.projectors.count_parameters(teachers_of(state)[-1])
    return [*lines, _line("the teacher itself", teacher_predict(state), parts, size)]


def _line(name: str, predict: Callable, parts: Parts, parameters: int) -> dict[str, Any]:
    return {
        "projector": name,
        "test %": accuracy(predict, parts.test),
        "validation %": accuracy(predict, parts.validation),
        "parameters": parameters,
        "bytes as float16": 2 * parameters,
    }


def row_stages(
    state: State,
    sets: Mapping[int, Mapping[str, Any]],
    rows: Sequence[str],
    train: Callable[..., Any],
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
    """Students of every row and size, as far as the state lacks them.

    Args:
        state: gets their scores, and the sizes of the files.
        sets: images of each size.
        rows: names.
        train: ``(row, sets of this size)`` to accuracies ``[learning rates, students, 2]``, the
            form of stored labels and their file.

    Yields:
        The files; a row and a checkpoint for each row and size.
    """
    before = len(state["projectors"]) + 1
    stages = [(i, count, j, row) for i, count in enumerate(sets) for j, row in enumerate(rows)]
    for number, (i, count, j, row) in enumerate(stages):
        if state["done"] > before + number:
            continue
        found = train(row, sets[count])
        state["scores"][i, j] = found.accuracies
        if found.file is not None:
            state["sizes"][i, j] = len(found.file)
            yield Artifact(f"labels_{count}_{found.form}.npz", found.file)
        validation = found.accuracies[..., 0].mean(1).max()
        yield from finished(state, f"{row}, {count} per class", float(validation))
