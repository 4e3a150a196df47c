"""Soft-label projectors against stored labels on distilled images of CIFAR-10 and CIFAR-100."""

import functools
from collections.abc import Callable, Iterator
from typing import Annotated

import jax
import jax.numpy as jnp

from experiments.distillation._shared import TeacherSteps, checked_student
from lnl_jax import data
from lnl_jax.comparison.label_plan import DEFAULT_ROWS, ROWS, Plan, Projector, Students
from lnl_jax.comparison.soft_labels import compare_labels
from lnl_jax.distill import images, labels, projectors
from lnl_jax.runner.arguments import (
    Count,
    Precision,
    Seed,
    Steps,
    check_images,
    check_names,
    check_once,
    check_templates,
    refused,
    study,
)
from lnl_jax.runner.outputs import Output
from lnl_jax.runner.stages import stage

# name on the command line -> data_dir -> set
SETS: dict[str, Callable] = {"cifar10": data.cifar10, "cifar100": data.cifar100}


@study
def hello_cifar(
    *,
    dataset: Annotated[Callable, SETS] = data.cifar10,
    train_size: Count = 5000,
    seed: Seed = 0,
    per_class: tuple[Count, ...] = (1, 10),
    rows: tuple[str, ...] = DEFAULT_ROWS,
    architecture: Annotated[Callable, labels.SMALL_NETWORKS] = labels.small_convnet,
    clip: str | None = None,
    templates: tuple[str, ...] = ("a photo of a {}.",),
    foundation_steps: Steps = 600,
    teacher_steps: TeacherSteps = 1500,
    projector: Projector = Projector(steps=1000),
    students: Students = Students(),
    precision: Precision = jnp.float32,
    ablation: bool = False,
    data_dir: str | None = None,
) -> Iterator[Output]:
    """`hello_digits` on CIFAR: CLIP from a file or a tower in place, teachers, projector, students.

    With `--clip PATH`, the foundation model is the CLIP of that folder or file: the image tower is
    frozen, the head starts from the text embeddings of the class names, and images are resized to
    what the tower takes. Nothing is downloaded. This was tried with tiny made-up checkpoints only.
    Without, it is a small vision transformer that is trained here, on inverted, noisy images with
    wrong captions: far from CLIP. Then the projector is weak, and its labels cost the students
    accuracy; the study shows that the protocol, the ledger and the controls run on real colour
    images. Crops are mirrored; a thousand training images validate; all test images test. All
    views of a training are in memory, 0.6 GB for a thousand steps. Students as in the paper "Heavy
    Labels Out!" (HeLlO, ICCV 2025) need an accelerator. Cut down as here, 16 minutes of a CPU
    core, where the projector's labels are hardly better than classes; then with CLIP:
        python experiments/run.py --exp hello_cifar --data_dir DIR --train_size 2000 --per_class 1
        python experiments/run.py --exp hello_cifar --data_dir DIR --clip PATH

    Time: an accelerator; 16 minutes of a CPU core, cut down as above.

    Args:
        dataset: which images.
        train_size: training images that are used, classes in proportion.
        seed: of split, foundation model, teachers, projector, images and geometry.
        per_class: distilled images of each class.
        rows: labels and images of the students, of those of `hello_digits`.
        architecture: of the students.
        clip: a folder with model.safetensors, config.json and tokenizer.json, or what else
            `models.load_clip` reads; none trains a tower in place.
        templates: of the texts that CLIP embeds, each with {} for the class name.
        foundation_steps: of the tower in place; few leave the foundation model poor, as a strange
            domain would.
        teacher_steps: of the teacher, at least 9.
        projector: how projectors are trained.
        students: how students are trained.
        precision: in which the networks compute: bfloat16 is for accelerators.
        ablation: adds projectors without text, with a full head, and with a single teacher.
        data_dir: the folder of the set.

    Yields:
        What `hello_digits` yields.
    """
    check_names("rows", rows, ROWS)
    check_once("per_class", per_class)
    check_once("students.learning_rates", students.learning_rates)
    check_templates(templates)
    with refused():
        splits = dataset(data_dir)
    check_images(splits, dataset.__name__)
    with refused():
        parts = images.image_parts(splits, seed, train_size=train_size)
    classes = parts.num_classes
    model = checked_student(architecture, parts, per_class, students)
    if clip is None:
        start = functools.partial(projectors.initial_foundation, seed, parts.image_shape, classes)
        form = jax.eval_shape(start)
    else:
        with refused("clip"):
            form = projectors.clip_foundation(
                clip, parts.class_names, templates=templates, dtype=precision
            )
    with refused("projector"):
        projectors.check_ranks(form, projector.rank, projector.head_rank)

    # The foundation model, from a file or trained in place.
    def train_foundation():
        train = projectors.train_captioned_foundation
        options = {"num_classes": classes, "dtype": precision}
        return train(parts.train, seed, foundation_steps, **options).arrays()

    if clip is None:
        arrays = yield from stage("foundation", train_foundation)
        foundation = projectors.small_foundation(arrays, dtype=precision)
    else:
        foundation = form

    # Teachers, projectors, distilled images, students and tables; crops are mirrored.
    chosen = rows, per_class, teacher_steps, projector, students, ablation
    plan = Plan(*chosen, flip_rate=0.5, seed=seed, dtype=precision)
    yield from compare_labels(parts, foundation, model, plan)
