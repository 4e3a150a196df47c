"""Soft-label projectors against stored labels on distilled images of CIFAR-10 and CIFAR-100."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Annotated

import jax

from experiments.distillation._shared import (
    BATCH,
    CHECKPOINTS,
    DEFAULT_ROWS,
    MAIN,
    ROWS,
    SCORED,
    WEAK,
    Projector,
    Students,
    TeacherSteps,
    checked_student,
    projector_kinds,
    results_line,
    train_row,
)
from lnl_jax import data
from lnl_jax.distill import images, labels, ledger, networks, projectors
from lnl_jax.runner.arguments import (
    Count,
    Seed,
    Steps,
    check_images,
    check_names,
    check_once,
    check_templates,
    refused,
    study,
)
from lnl_jax.runner.outputs import Artifact, Output
from lnl_jax.runner.stages import stage

# name on the command line -> data_dir -> set
SETS: dict[str, Callable] = {"cifar10": data.cifar10, "cifar100": data.cifar100}
FLIP_RATE = 0.5


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
            form = projectors.clip_foundation(clip, parts.class_names, templates=templates)
    with refused("projector"):
        projectors.check_ranks(form, projector.rank, projector.head_rank)
    real_views = functools.partial(
        labels.draw_views,
        parts.train["image"],
        parts.train["label"],
        batch_size=min(BATCH, len(parts.train["label"])),
        num_classes=classes,
        flip_rate=FLIP_RATE,
    )
    epochs = itertools.count(1)

    def measured(method, predict):
        percent = networks.percent_right(predict, parts.validation)
        return {"epoch": next(epochs), "method": method, "accuracy": percent / 100}

    # The foundation model, and what it knows without training.
    def train_foundation():
        train = projectors.train_captioned_foundation
        return train(parts.train, seed, foundation_steps, num_classes=classes).arrays()

    if clip is None:
        arrays = yield from stage("foundation", train_foundation)
        foundation = projectors.small_foundation(arrays)
    else:
        foundation = form
    logits = functools.partial(projectors.projector_logits, foundation)
    trained = {"zero-shot": projectors.zero_shot_projector(foundation)}
    yield measured("zero-shot", logits(trained["zero-shot"]))

    # The teacher, and checkpoints of its run.
    network = labels.small_convnet(classes)

    def train_teachers():
        views, key = real_views(seed=seed, steps=teacher_steps), jax.random.key(seed + 100)
        kept = labels.train_teachers(network, views, key, checkpoints=CHECKPOINTS)
        return [params for params, _ in kept]

    teachers = [(params, {}) for params in (yield from stage("teachers", train_teachers))]
    followed = {
        "teacher": networks.scorer(network, teachers[-1]),
        "weak": labels.mean_of_teachers(network, [teachers[index] for index in WEAK]),
    }
    yield measured("teacher", followed["teacher"])

    # Projectors, which follow them on real images.
    def train_projector(adaptation, teacher):
        views = real_views(seed=seed + 1, steps=projector.steps)
        labels_of_images = parts.train["label"]
        return projectors.train_on_views(
            foundation, adaptation, views, labels_of_images, followed[teacher], seed=seed
        )._asdict()

    for name, kind in projector_kinds(projector, ablation=ablation).items():
        fields = yield from stage(name, train_projector, *kind)
        trained[name] = projectors.TrainedProjector(**fields)
        yield measured(name, logits(trained[name]))
    compared = {name: logits(found) for name, found in trained.items()}
    compared["the teacher itself"] = followed["teacher"]
    right = {name: parts.percent_right(one) for name, one in compared.items()}
    stored = {name: found.adapter for name, found in trained.items()}
    stored |= {"zero-shot": {}, "the teacher itself": teachers[-1][0]}
    yield Artifact("projectors", ledger.networks_table("projector", right, stored))

    # Distilled images, and random ones.
    def distill_images(count):
        tower = projectors.merged_tower(foundation, trained[MAIN])
        update = any(ROWS[row].images == "updated" for row in rows)
        found = images.distilled_sets(
            parts.train,
            followed["teacher"],
            per_class=count,
            seed=seed,
            encode=functools.partial(foundation.encode, tower) if update else None,
        )
        return {name: each._asdict() for name, each in found.items()}

    sets = {}
    for count in per_class:
        found = yield from stage(f"images, {count} per class", distill_images, count)
        sets[count] = {name: images.ImageSet(**fields) for name, fields in found.items()}

    # Students.
    sources = followed | {
        "projector": projectors.label_logits(foundation, trained[MAIN]),
        "zero-shot": projectors.label_logits(foundation, trained["zero-shot"]),
    }
    results = []
    for count, row in itertools.product(per_class, rows):
        name, options = f"{row}, {count} per class", {"seed": seed, "flip_rate": FLIP_RATE}
        chosen = row, sets[count], parts, sources, model, students
        found = yield from stage(name, train_row, *chosen, **options)
        results.append(results_line(row, count, found, students))
        best = float(found["accuracies"][..., 0].mean(1).max())
        yield {"epoch": next(epochs), "method": name, "accuracy": best / 100}

    # Tables, files and figures.
    yield Artifact("results", results)
    files = {count: sets[count]["distilled"].file() for count in per_class}
    report = ledger.students_report(
        results,
        num_classes=classes,
        epochs=students.epochs,
        image_files=files,
        adapter_file=projectors.adapter_file(trained[MAIN]),
        foundation=foundation,
        teacher=teachers[-1][0],
        teacher_percent=right["the teacher itself"][1],
        scored=SCORED,
        label_names={row: f"{of.source} {of.form}" for row, of in ROWS.items()},
    )
    report |= {f"images_{count}.npz": file for count, file in files.items()}
    report["distilled"] = images.sets_figure(sets, num_classes=classes)
    yield from itertools.starmap(Artifact, report.items())
