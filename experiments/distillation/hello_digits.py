"""Soft-label projectors against stored labels on distilled handwritten digits."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from experiments.distillation._shared import TeacherSteps, checked_student
from lnl_jax.comparison.label_plan import DEFAULT_ROWS, ROWS, Plan, Projector, Students
from lnl_jax.comparison.soft_labels import compare_labels
from lnl_jax.distill import images, labels, projectors
from lnl_jax.runner.arguments import (
    Count,
    Precision,
    Seed,
    Steps,
    check_names,
    check_once,
    refused,
    study,
)
from lnl_jax.runner.outputs import Output
from lnl_jax.runner.stages import stage


@study
def hello_digits(
    *,
    seed: Seed = 0,
    per_class: tuple[Count, ...] = (1, 10),
    rows: tuple[str, ...] = DEFAULT_ROWS,
    architecture: Annotated[Callable, labels.SMALL_NETWORKS] = labels.small_convnet,
    foundation_steps: Steps = 240,
    teacher_steps: TeacherSteps = 600,
    projector: Projector = Projector(),
    students: Students = Students(),
    precision: Precision = jnp.float32,
    ablation: bool = False,
) -> Iterator[Output]:
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

    Time: about five minutes on 2 CPU cores.

    Args:
        seed: of the split, foundation model, teachers, projector, images and geometry.
        per_class: distilled images of each class.
        rows: labels and images of the students: hard (classes), hard_random, stored_kl (the
            teacher's logits in a file), projector_kl, zero_shot_kl, stored_mse, projector_mse,
            projector_kl_random; also pruned_kl (one step in ten), bytes_kl (quantised), top3_kl,
            weak_mse and projector_mse_updated (images after HeLlO's update).
        architecture: of the students.
        foundation_steps: few leave the foundation model poor, as a strange domain would.
        teacher_steps: of the teacher, at least 9.
        projector: how projectors are trained.
        students: how students are trained.
        precision: in which the networks compute: bfloat16 is for accelerators.
        ablation: adds projectors without text, with a full head, and with a single teacher.

    Yields:
        A row after each stage: foundation model, teacher, projectors, rows of students. Tables
        `projectors`, `results`, `storage` and `robust_scores`; figures `accuracy`, `storage_curve`
        and `distilled`; the files whose bytes the table counts.
    """
    check_names("rows", rows, ROWS)
    check_once("per_class", per_class)
    check_once("students.learning_rates", students.learning_rates)
    parts = images.digit_parts(seed)
    model = checked_student(architecture, parts, per_class, students)
    form = jax.eval_shape(lambda: projectors.initial_foundation(seed, parts.image_shape, 10))
    with refused("projector"):
        projectors.check_ranks(form, projector.rank, projector.head_rank)

    # The foundation model.
    def train_foundation():
        train = projectors.train_captioned_foundation
        options = {"num_classes": 10, "dtype": precision}
        return train(parts.train, seed, foundation_steps, **options).arrays()

    arrays = yield from stage("foundation", train_foundation)
    foundation = projectors.small_foundation(arrays, dtype=precision)

    # Teachers, projectors, distilled images, students and tables.
    chosen = rows, per_class, teacher_steps, projector, students, ablation
    plan = Plan(*chosen, flip_rate=0.0, seed=seed, dtype=precision)
    yield from compare_labels(parts, foundation, model, plan)


def seeds_and_rows() -> Iterator[dict[str, Any]]:
    """Five seeds of everything, all rows; and the other architectures."""
    for seed in range(5):
        yield {"seed": seed, "rows": tuple(ROWS), "ablation": True}
    for architecture in ("vit", "resnet18"):
        yield {"architecture": architecture}
