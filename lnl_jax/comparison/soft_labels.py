"""Soft labels compared on distilled images: a teacher, projectors, images, students, tables.

What an image's label may come from is trained on the real images; students see only the distilled
ones, and for the images of a size all of them under one stream of crops and CutMix.
"""

import functools
import itertools
from collections.abc import Callable, Generator, Mapping
from typing import Any

import jax

from lnl_jax import models
from lnl_jax.comparison.label_plan import (
    BATCH,
    CHECKPOINTS,
    MAIN,
    ROWS,
    SCORED,
    WEAK,
    Plan,
    Students,
    projector_kinds,
)
from lnl_jax.distill import images, labels, ledger, networks, projectors
from lnl_jax.runner.outputs import Artifact, Output
from lnl_jax.runner.stages import stage

Predict = Callable[[Any], jax.Array]


def compare_labels(
    parts: images.ImageParts, foundation: projectors.Foundation, model: Any, plan: Plan
) -> Generator[Output, None, None]:
    """Trains what labels come from, distils images, trains students on each; yields all of it.

    Args:
        parts: real images with labels.
        foundation: the frozen model of which projectors are made.
        model: the students' network, a flax module.
        plan: what is compared.

    Yields:
        The stages, a row after each: the foundation model without training, the teacher, the
        projectors, the students of each row. Tables `projectors`, `results`, `storage` and
        `robust_scores`; figures `accuracy`, `storage_curve` and `distilled`; the files whose bytes
        the table of storage counts.
    """
    epochs = itertools.count(1)

    def row(method: str, percent: float) -> dict[str, Any]:
        return {"epoch": next(epochs), "method": method, "accuracy": percent / 100}

    def measured(method: str, predict: Predict) -> dict[str, Any]:
        return row(method, networks.percent_right(predict, parts.validation))

    # What the foundation model knows without training.
    logits = functools.partial(projectors.projector_logits, foundation)
    trained = {"zero-shot": projectors.zero_shot_projector(foundation)}
    yield measured("zero-shot", logits(trained["zero-shot"]))

    # The teacher, and checkpoints of its run.
    network = labels.small_convnet(parts.num_classes)
    if plan.dtype is not None:
        network, model = (models.in_dtype(one, plan.dtype) for one in (network, model))
    kept = yield from stage("teachers", _train_teachers, parts, network, plan)
    teachers = [(params, {}) for params in kept]
    followed = {
        "teacher": networks.scorer(network, teachers[-1]),
        "weak": labels.mean_of_teachers(network, [teachers[index] for index in WEAK]),
    }
    yield measured("teacher", followed["teacher"])

    # Projectors, which follow them on real images.
    for name, (adaptation, teacher) in projector_kinds(plan).items():
        chosen = parts, foundation, adaptation, followed[teacher], plan
        fields = yield from stage(name, _train_projector, *chosen)
        trained[name] = projectors.TrainedProjector(**fields)
        yield measured(name, logits(trained[name]))
    compared = {name: logits(found) for name, found in trained.items()}
    compared["the teacher itself"] = followed["teacher"]
    right = {name: parts.percent_right(one) for name, one in compared.items()}
    stored = {name: found.adapter for name, found in trained.items()}
    stored |= {"zero-shot": {}, "the teacher itself": teachers[-1][0]}
    yield Artifact("projectors", ledger.networks_table("projector", right, stored))

    # Distilled images, and random ones.
    update = any(ROWS[name].images == "updated" for name in plan.rows)
    encode = None
    if update:
        tower = projectors.merged_tower(foundation, trained[MAIN])
        encode = functools.partial(foundation.encode, tower)
    sets = {}
    for count in plan.per_class:
        chosen = parts, followed["teacher"], count, plan.seed, encode
        found = yield from stage(f"images, {count} per class", _distil_images, *chosen)
        sets[count] = {name: images.ImageSet(**fields) for name, fields in found.items()}

    # Students.
    sources = followed | {
        "projector": projectors.label_logits(foundation, trained[MAIN]),
        "zero-shot": projectors.label_logits(foundation, trained["zero-shot"]),
    }
    results = []
    for count, name in itertools.product(plan.per_class, plan.rows):
        what = f"{name}, {count} per class"
        found = yield from stage(what, _train_row, name, sets[count], parts, sources, model, plan)
        results.append(_results_line(name, count, found, plan.students))
        yield row(what, float(found["accuracies"][..., 0].mean(1).max()))

    # Tables, files and figures.
    yield Artifact("results", results)
    files = {count: sets[count]["distilled"].file() for count in plan.per_class}
    report = ledger.students_report(
        results,
        num_classes=parts.num_classes,
        epochs=plan.students.epochs,
        image_files=files,
        adapter_file=projectors.adapter_file(trained[MAIN]),
        foundation=foundation,
        teacher=teachers[-1][0],
        teacher_percent=right["the teacher itself"][1],
        scored=SCORED,
        label_names={row: f"{of.source} {of.form}" for row, of in ROWS.items()},
    )
    report |= {f"images_{count}.npz": file for count, file in files.items()}
    report["distilled"] = images.sets_figure(sets, num_classes=parts.num_classes)
    yield from itertools.starmap(Artifact, report.items())


def _real_views(parts: images.ImageParts, plan: Plan, *, seed: int, steps: int) -> labels.Views:
    return labels.draw_views(
        parts.train["image"],
        parts.train["label"],
        seed=seed,
        steps=steps,
        batch_size=min(BATCH, len(parts.train["label"])),
        num_classes=parts.num_classes,
        flip_rate=plan.flip_rate,
    )


def _train_teachers(parts: images.ImageParts, network: Any, plan: Plan) -> list[Any]:
    """A stage: the parameters of the checkpoints."""
    views = _real_views(parts, plan, seed=plan.seed, steps=plan.teacher_steps)
    key = jax.random.key(plan.seed + 100)
    kept = labels.train_teachers(network, views, key, checkpoints=CHECKPOINTS)
    return [params for params, _ in kept]


def _train_projector(
    parts: images.ImageParts,
    foundation: projectors.Foundation,
    adaptation: projectors.Adaptation,
    teacher: Predict,
    plan: Plan,
) -> dict[str, Any]:
    """A stage: a projector as a dict."""
    views = _real_views(parts, plan, seed=plan.seed + 1, steps=plan.projector.steps)
    classes = parts.train["label"]
    return projectors.train_on_views(
        foundation, adaptation, views, classes, teacher, seed=plan.seed
    )._asdict()


def _distil_images(
    parts: images.ImageParts, teacher: Predict, per_class: int, seed: int, encode: Callable | None
) -> dict[str, dict[str, Any]]:
    """A stage: sets of images by name."""
    found = images.distilled_sets(
        parts.train, teacher, per_class=per_class, seed=seed, encode=encode
    )
    return {name: each._asdict() for name, each in found.items()}


def _train_row(
    row: str,
    sets: Mapping[str, images.ImageSet],
    parts: images.ImageParts,
    sources: Mapping[str, Predict],
    model: Any,
    plan: Plan,
) -> Generator[Artifact, None, dict[str, Any]]:
    """A stage: accuracies of a row's students; the file of stored labels is yielded."""
    chosen, found, students = ROWS[row], sets[ROWS[row].images], plan.students
    views = found.views(
        seed=plan.seed,
        epochs=students.epochs,
        batch_size=students.batch_size,
        num_classes=parts.num_classes,
        flip_rate=plan.flip_rate,
    )
    views, source, file = labels.labelled_views(
        views, sources.get(chosen.source), chosen.form, seed=plan.seed, **found._asdict()
    )
    if file:
        per_class = len(found.classes) // parts.num_classes
        yield Artifact(f"labels_{per_class}_{chosen.form}.npz", file)
    accuracies = labels.compare_students(
        model,
        labels.view_batches(views),
        source,
        students.objective(chosen.objective),
        lambda predicts: [parts.percent_right(one) for one in predicts],
        steps=len(views.images),
        image_shape=parts.image_shape,
        students=students.count,
        learning_rates=students.learning_rates,
    )
    return {"accuracies": accuracies, "bytes": len(file)}


def _results_line(row: str, per_class: int, found: Mapping, students: Students) -> dict[str, Any]:
    """A line of the table from what `_train_row` returned."""
    line = labels.chosen_by_validation(found["accuracies"], students.learning_rates)
    first = {"row": row, "per class": per_class, "test %": line["test %"], "std": line["std"]}
    return first | {"labels' file, bytes": found["bytes"] or None} | line
