"""The whole protocol of soft-label projectors, on any small images."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import hello_figures as figures
from experiments import label_storage
from experiments.arguments import Range, StudyError, check_names, check_network, check_once, refused
from experiments.distillation_parts import Parts
from experiments.distilled_images import ImageSet
from experiments.foundation_models import FoundationMaker
from experiments.hello_rows import ROWS, SCORED, image_sets, results_table, train_row
from experiments.hello_stages import (
    CHECKPOINTS,
    empty_state,
    prepare,
    projectors_table,
    row_stages,
    sources_of,
    teachers_of,
)
from experiments.low_rank_projectors import MAIN, Setting, adapter_file, check_ranks, settings
from experiments.outputs import Artifact, Checkpoint, Resume
from experiments.soft_label_students import HARD, Objective
from lnl_jax import distill

# A file of labels remembers the geometry of four steps; weak teachers are checkpoints of the run.
StudentEpochs = Annotated[int, Range(4, 10_000)]
TeacherSteps = Annotated[int, Range(CHECKPOINTS, 20_000)]


def projector_study(
    load: Callable[[], Parts],
    maker: FoundationMaker,
    *,
    flip_rate: float,
    seed: int,
    students: int,
    per_class: Sequence[int],
    rows: Sequence[str],
    architecture: Callable[[int], Any],
    student_epochs: int,
    learning_rates: Sequence[float],
    temperature: float,
    ce_weight: float,
    rank: int,
    head_rank: int,
    teacher_steps: int,
    projector_steps: int,
    ablation: bool,
    resume: Resume,
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
    """Foundation model, teachers, projectors, distilled images, students, ledger.

    Args:
        load: makes the real images, after the other arguments were looked at.
        maker: of the foundation model.
        flip_rate: of mirrored crops.
        seed: of the teachers, projectors, images and geometry.
        students: seeds of the students.
        per_class: distilled images of each class.
        rows: names of `ROWS`.
        architecture: number of classes to a student, as of `soft_label_students.STUDENTS`.
        student_epochs: passes over the distilled images, at least 4.
        learning_rates: of the students, to choose from.
        temperature: of the divergence.
        ce_weight: of the classes beside squared errors.
        rank: of the tower's adapter.
        head_rank: of the head's.
        teacher_steps: of the teacher, at least 9.
        projector_steps: of every projector.
        ablation: adds projectors without text, with a full head, and with a single teacher.
        resume: where an interrupted run goes on.

    Yields:
        What `hello_digits` says.

    Raises:
        StudyError: for an argument out of range, before anything is trained.
    """
    check_names("rows", rows, ROWS)
    check_once("per_class", per_class)
    check_once("learning_rates", learning_rates)
    with refused():
        parts = load()
    model = architecture(parts.num_classes)
    example = jnp.zeros((1, *parts.image_shape))
    check_network("architecture", lambda: model.init(jax.random.key(0), example))
    _check_sizes(per_class, parts.train["label"])
    check_ranks(maker.form(parts), rank, head_rank)
    kinds = {"zero-shot": Setting(0, None)} | settings(rank, head_rank, ablation=ablation)
    shape = (len(per_class), len(rows), len(learning_rates), students, 2)
    state = empty_state(maker, parts, kinds, shape, seed, resume)
    yield from prepare(
        state,
        maker,
        parts,
        kinds,
        seed,
        teacher_steps,
        projector_steps,
        flip_rate,
    )
    table = projectors_table(state, parts, kinds)
    yield Artifact("projectors", table)

    sets = {count: image_sets(state, parts.train, count, rows, seed) for count in per_class}
    train = functools.partial(
        train_row,
        parts=(parts.validation, parts.test),
        sources=sources_of(state),
        objectives={
            "hard": HARD,
            "kl": Objective(kl=1.0, temperature=temperature),
            "mse": Objective(mse=1.0, ce=ce_weight),
        },
        model=model,
        epochs=student_epochs,
        seed=seed,
        students=students,
        learning_rates=learning_rates,
        flip_rate=flip_rate,
    )
    yield from row_stages(state, sets, rows, train)

    yield from _outputs(state, parts, sets, rows, learning_rates, student_epochs, table)


def _outputs(
    state: Mapping[str, Any],
    parts: Parts,
    sets: Mapping[int, Mapping[str, ImageSet]],
    rows: Sequence[str],
    learning_rates: Sequence[float],
    epochs: int,
    projectors: Sequence[Mapping[str, Any]],
) -> Iterator[Artifact]:
    """Tables, files and figures; the teacher is the last line of `projectors`."""
    results = results_table(state, list(sets), rows, learning_rates)
    yield Artifact("results", results)
    adapter = adapter_file(state["projectors"][MAIN])
    yield Artifact("adapter.npy", adapter)
    teacher = teachers_of(state)[-1]
    storage = []
    for index, count in enumerate(sets):
        images = sets[count]["distilled"].file()
        yield Artifact(f"images_{count}.npz", images)
        lines = label_storage.ledger(
            images=count * parts.num_classes,
            epochs=epochs,
            num_classes=parts.num_classes,
            images_file=len(images),
            adapter_file=len(adapter),
            label_files={
                f"{ROWS[row].source} {ROWS[row].form}": int(size)
                for row, size in zip(rows, state["sizes"][index], strict=True)
                if size
            },
            tower=state["foundation"].tower,
            words=state["foundation"].words,
            teacher=teacher,
        )
        storage += [{"per class": count} | line for line in lines]
    yield Artifact("storage", storage)
    scores = label_storage.robust_scores(
        {(line["row"], line["per class"]): line["test %"] / 100 for line in results},
        teacher=projectors[-1]["test %"] / 100,
        rows=SCORED,
        per_class=list(sets),
    )
    if scores:
        yield Artifact("robust_scores", scores)
    yield Artifact("accuracy", figures.accuracy_figure(results, list(sets)))
    curve = figures.storage_curve(
        num_classes=parts.num_classes,
        epochs=epochs,
        adapter=len(adapter),
        teacher=distill.ledger.tree_bytes(teacher, jnp.float16),
        per_class=list(sets),
    )
    yield Artifact("storage_curve", curve)
    lines = [
        (f"{name}, {count} per class", images.images)
        for count, found in sets.items()
        for name, images in found.items()
    ]
    yield Artifact("distilled", figures.image_figure(lines, num_classes=parts.num_classes))


def _check_sizes(per_class: Sequence[int], labels: np.ndarray) -> None:
    """Before the minutes that foundation model and teacher take."""
    most = np.bincount(labels).min()
    if max(per_class) > most:
        raise StudyError(
            f"per_class must be from 1 to the {most} images of the smallest class, got {per_class}."
        )
