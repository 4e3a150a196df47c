"""Soft-label projectors against stored labels on distilled handwritten digits."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Annotated, Any

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
from lnl_jax.distill import images, labels, ledger, networks, projectors
from lnl_jax.runner.arguments import Count, Seed, Steps, check_names, check_once, refused, study
from lnl_jax.runner.outputs import Artifact, Output
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
    real_views = functools.partial(
        labels.draw_views,
        parts.train["image"],
        parts.train["label"],
        batch_size=min(BATCH, len(parts.train["label"])),
        num_classes=10,
    )
    epochs = itertools.count(1)

    def measured(method, predict):
        percent = networks.percent_right(predict, parts.validation)
        return {"epoch": next(epochs), "method": method, "accuracy": percent / 100}

    # The foundation model, and what it knows without training.
    def train_foundation():
        train = projectors.train_captioned_foundation
        return train(parts.train, seed, foundation_steps, num_classes=10).arrays()

    foundation = projectors.small_foundation((yield from stage("foundation", train_foundation)))
    logits = functools.partial(projectors.projector_logits, foundation)
    trained = {"zero-shot": projectors.zero_shot_projector(foundation)}
    yield measured("zero-shot", logits(trained["zero-shot"]))

    # The teacher, and checkpoints of its run.
    network = labels.small_convnet(10)

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
        classes = parts.train["label"]
        return projectors.train_on_views(
            foundation, adaptation, views, classes, followed[teacher], seed=seed
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
        name, options = f"{row}, {count} per class", {"seed": seed, "flip_rate": 0.0}
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
        num_classes=10,
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
    report["distilled"] = images.sets_figure(sets, num_classes=10)
    yield from itertools.starmap(Artifact, report.items())


def seeds_and_rows() -> Iterator[dict[str, Any]]:
    """Five seeds of everything, all rows; and the other architectures."""
    for seed in range(5):
        yield {"seed": seed, "rows": tuple(ROWS), "ablation": True}
    for architecture in ("vit", "resnet18"):
        yield {"architecture": architecture}
