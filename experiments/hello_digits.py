"""Soft-label projectors against stored labels on distilled handwritten digits."""

import functools
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from experiments.arguments import (
    Count,
    NotNegative,
    Positive,
    Repetitions,
    Seed,
    Size,
    Steps,
    study,
)
from experiments.distillation_parts import enlarged_digits
from experiments.hello_rows import DEFAULT_ROWS, ROWS
from experiments.hello_study import StudentEpochs, TeacherSteps, projector_study
from experiments.outputs import Artifact, Checkpoint, Resume
from experiments.shifted_foundation import trained_in_place
from experiments.soft_label_students import STUDENTS, convnet


@study
def hello_digits(
    *,
    seed: Seed = 0,
    students: Repetitions = 3,
    per_class: tuple[Count, ...] = (1, 10),
    rows: tuple[str, ...] = DEFAULT_ROWS,
    architecture: Annotated[Callable, STUDENTS] = convnet,
    student_epochs: StudentEpochs = 200,
    learning_rates: tuple[Positive, ...] = (3e-3,),
    temperature: Positive = 4.0,
    ce_weight: NotNegative = 0.1,
    rank: Size = 4,
    head_rank: Size = 4,
    foundation_steps: Steps = 240,
    teacher_steps: TeacherSteps = 600,
    projector_steps: Steps = 800,
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
    per class:
        python experiments/run.py --exp hello_digits

    Time: about five minutes on 2 CPU cores.

    Args:
        seed: of the split, foundation model, teachers, projector, images and geometry.
        students: seeds of the students.
        per_class: distilled images of each class.
        rows: labels and images of the students: hard (classes), hard_random, stored_kl (the
            teacher's logits in a file), projector_kl, zero_shot_kl, stored_mse, projector_mse,
            projector_kl_random; also pruned_kl (one step in ten), bytes_kl (quantised), top3_kl,
            weak_mse and projector_mse_updated (images after HeLlO's update).
        architecture: of the students.
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
    yield from projector_study(
        functools.partial(enlarged_digits, seed),
        trained_in_place(seed, foundation_steps),
        flip_rate=0.0,
        seed=seed,
        students=students,
        per_class=per_class,
        rows=rows,
        architecture=architecture,
        student_epochs=student_epochs,
        learning_rates=learning_rates,
        temperature=temperature,
        ce_weight=ce_weight,
        rank=rank,
        head_rank=head_rank,
        teacher_steps=teacher_steps,
        projector_steps=projector_steps,
        ablation=ablation,
        resume=resume,
    )


def seeds_and_rows() -> Iterator[dict[str, Any]]:
    """Five seeds of everything, all rows; and the other architectures."""
    for seed in range(5):
        yield {"seed": seed, "rows": tuple(ROWS), "ablation": True}
    for architecture in ("vit", "resnet18"):
        yield {"architecture": architecture}
