"""Soft-label projectors against stored labels on distilled handwritten digits."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments import hello_figures as figures
from experiments import label_storage
from experiments.hello_rows import DEFAULT_ROWS, ROWS, SCORED, image_sets, results_table, train_row
from experiments.hello_stages import (
    CHECKPOINTS,
    empty_state,
    prepare,
    projectors_table,
    row_stages,
    sources_of,
    teachers_of,
)
from experiments.low_rank_projectors import MAIN, Setting, adapter_file, settings
from experiments.noisy_labels import check_choice
from experiments.outputs import Artifact, Checkpoint, Resume
from experiments.shifted_foundation import NUM_CLASSES, enlarged_digits
from experiments.soft_label_students import HARD, STUDENTS, Objective
from lnl_jax import distill


def hello_digits(
    *,
    seed: int = 0,
    students: int = 3,
    per_class: tuple[int, ...] = (1, 10),
    rows: tuple[str, ...] = DEFAULT_ROWS,
    architecture: str = "convnet",
    student_epochs: int = 200,
    learning_rates: tuple[float, ...] = (3e-3,),
    temperature: float = 4.0,
    ce_weight: float = 0.1,
    rank: int = 4,
    head_rank: int = 4,
    foundation_steps: int = 240,
    teacher_steps: int = 600,
    projector_steps: int = 800,
    ablation: bool = False,
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
    """HeLlO in small: labels from a low-rank adapter instead of a file, and what both cost.

    Scikit-learn's digits, enlarged to 16x16. A foundation model, a vision transformer against
    learned embeddings of the class words, is trained in place on a shifted domain (half of the
    images inverted, strong noise, 30% wrong captions). A ConvNet's training run gives the teacher
    (its end) and weak teachers (three of nine checkpoints). A projector, the frozen foundation
    model with a low-rank adapter, learns the weak teachers' logits on the real training set.
    Distilled images are RDED's crops, stored as bytes. Students, from scratch, see the distilled
    images under one stream of crops and CutMix, with labels from every source; the students of a
    row share images, labels and order. The learning rate is chosen on validation; reported is test
    accuracy.

    The method is that of "Heavy Labels Out! Dataset Distillation with Label Space Lightening"
    (HeLlO, ICCV 2025), whose code is not public; the paper's data are larger. To expect: labels
    from the projector within 4 points of stored ones, and at least 15 above classes at one image
    per class. About five minutes on 2 CPU cores:
        python experiments/run.py --exp hello_digits

    Args:
        seed: of the split, foundation model, teachers, projector, images and geometry.
        students: seeds of the students.
        per_class: distilled images of each class.
        rows: labels and images of the students: hard (classes), hard_random, stored_kl (the
            teacher's logits in a file), projector_kl, zero_shot_kl, stored_mse, projector_mse,
            projector_kl_random; also pruned_kl (one step in ten), bytes_kl (quantised), top3_kl,
            weak_mse and projector_mse_updated (images after HeLlO's update).
        architecture: of the students: convnet, resnet18 or vit.
        student_epochs: passes over the distilled images, at least 4.
        learning_rates: of the students, to choose from.
        temperature: of the divergence.
        ce_weight: of the classes beside squared errors.
        rank: of the tower's adapter.
        head_rank: of the head's.
        foundation_steps: few leave the foundation model poor, as a strange domain would.
        teacher_steps: of the teacher, at least 9.
        projector_steps: of every projector.
        ablation: adds projectors without text, with a full head, and with a single teacher.
        resume: where an interrupted run goes on.

    Yields:
        A row and a checkpoint per stage: foundation model, teacher, projectors, rows of students.
        Tables `projectors`, `results`, `storage` and `robust_scores`; figures `accuracy`,
        `storage_curve` and `distilled`; the files whose bytes the table counts.
    """
    _check(per_class, rows, learning_rates, architecture)
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}.")
    _check_least(0, ce_weight=ce_weight)
    _check_least(1, students=students, rank=rank, head_rank=head_rank)
    _check_least(1, foundation_steps=foundation_steps, projector_steps=projector_steps)
    # A file of labels remembers the geometry of four steps.
    _check_least(4, student_epochs=student_epochs)
    _check_least(CHECKPOINTS, teacher_steps=teacher_steps)
    parts = enlarged_digits(seed)
    _check_sizes(per_class, parts.train["label"])
    kinds = {"zero-shot": Setting(0, None)} | settings(rank, head_rank, ablation=ablation)
    shape = (len(per_class), len(rows), len(learning_rates), students, 2)
    state = empty_state(seed, kinds, shape, resume)
    yield from prepare(state, parts, kinds, seed, foundation_steps, teacher_steps, projector_steps)
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
        model=STUDENTS[architecture](NUM_CLASSES),
        epochs=student_epochs,
        seed=seed,
        students=students,
        learning_rates=learning_rates,
    )
    yield from row_stages(state, sets, rows, train)

    results = results_table(state, per_class, rows, learning_rates)
    yield Artifact("results", results)
    adapter = adapter_file(state["projectors"][MAIN])
    yield Artifact("adapter.npy", adapter)
    teacher = teachers_of(state)[-1]
    storage = []
    for index, count in enumerate(per_class):
        images = sets[count]["distilled"].file()
        yield Artifact(f"images_{count}.npz", images)
        lines = label_storage.ledger(
            images=count * NUM_CLASSES,
            epochs=student_epochs,
            num_classes=NUM_CLASSES,
            images_file=len(images),
            adapter_file=len(adapter),
            label_files={
                f"{ROWS[row].source} {ROWS[row].form}": int(size)
                for row, size in zip(rows, state["sizes"][index], strict=True)
                if size
            },
            tower=state["foundation"].tower,
            teacher=teacher,
        )
        storage += [{"per class": count} | line for line in lines]
    yield Artifact("storage", storage)
    scores = label_storage.robust_scores(
        {(line["row"], line["per class"]): line["test %"] / 100 for line in results},
        teacher=table[-1]["test %"] / 100,
        rows=SCORED,
        per_class=per_class,
    )
    if scores:
        yield Artifact("robust_scores", scores)
    yield Artifact("accuracy", figures.accuracy_figure(results, per_class))
    curve = figures.storage_curve(
        num_classes=NUM_CLASSES,
        epochs=student_epochs,
        adapter=len(adapter),
        teacher=distill.tree_bytes(teacher, jnp.float16),
        per_class=per_class,
    )
    yield Artifact("storage_curve", curve)
    lines = [
        (f"{name}, {count} per class", images.images)
        for count, found in sets.items()
        for name, images in found.items()
    ]
    yield Artifact("distilled", figures.image_figure(lines, num_classes=NUM_CLASSES))


def seeds_and_rows() -> Iterator[dict[str, Any]]:
    """Five seeds of everything, all rows; and the other architectures."""
    for seed in range(5):
        yield {"seed": seed, "rows": tuple(ROWS), "ablation": True}
    for architecture in ("vit", "resnet18"):
        yield {"architecture": architecture}


def _check(
    per_class: Sequence[int],
    rows: Sequence[str],
    learning_rates: Sequence[float],
    architecture: str,
) -> None:
    choices = {"per_class": per_class, "rows": rows, "learning_rates": learning_rates}
    for name, values in choices.items():
        check_choice(name, values)
        if len(set(values)) < len(values):
            raise ValueError(f"{name} must not name anything twice, got {values}.")
    unknown = [row for row in rows if row not in ROWS]
    if unknown:
        raise ValueError(f"rows: {', '.join(unknown)} are none of {', '.join(ROWS)}.")
    if min(learning_rates) <= 0:
        raise ValueError(f"learning_rates must be above 0, got {learning_rates}.")
    if architecture not in STUDENTS:
        raise ValueError(f"architecture must be one of {', '.join(STUDENTS)}, got {architecture}.")


def _check_sizes(per_class: Sequence[int], labels: np.ndarray) -> None:
    """Before the minutes that foundation model and teacher take."""
    most = np.bincount(labels).min()
    if min(per_class) < 1 or max(per_class) > most:
        raise ValueError(
            f"per_class must be from 1 to the {most} images of the smallest class, got {per_class}."
        )


def _check_least(least: float, **values: float) -> None:
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}.")
