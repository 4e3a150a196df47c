"""Soft labels compared on distilled images: a teacher, projectors, images, students, tables.

What an image's label may come from is trained on the real images; students see only the distilled
ones, and for the images of a size all of them under one stream of crops and CutMix.
"""

import functools
import itertools
from collections.abc import Callable, Generator, Mapping
from typing import Any

import jax
import numpy as np

from lnl_jax import models
from lnl_jax.comparison.label_plan import (
    BATCH,
    CHECKPOINTS,
    MAIN,
    PROBE,
    SCORED,
    WEAK,
    Plan,
    StudentLabels,
    Students,
    projector_kinds,
    student_rows,
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

    def line(method: str, percent: float) -> dict[str, Any]:
        return {"epoch": next(epochs), "method": method, "accuracy": percent / 100}

    def measured(method: str, predict: Predict, on: images.ImageParts) -> dict[str, Any]:
        return line(method, networks.percent_right(predict, on.validation))

    # What the foundation model knows without training. Of a frozen prefix everything real is
    # computed once, and what is measured and trained begins behind it.
    tower = foundation.prefix is not None
    base = projectors.behind_prefix(foundation) if tower else foundation
    seen = _behind_prefix(parts, foundation) if tower else parts
    hidden = functools.cache(lambda: projectors.prefix_features(foundation, parts.train["image"]))
    logits = functools.partial(projectors.projector_logits, base)
    trained = {"zero-shot": projectors.zero_shot_projector(foundation)}
    yield measured("zero-shot", logits(trained["zero-shot"]), seen)

    # The teacher, and checkpoints of its run.
    network = labels.small_convnet(parts.num_classes)
    if plan.dtype is not None:
        network, model = (models.in_dtype(one, plan.dtype) for one in (network, model))
    kept = yield from stage("teachers", _train_teachers, parts, network, plan)
    teachers = [(params, {}) for params in kept]
    teacher = networks.scorer(network, teachers[-1])
    weak = labels.mean_of_teachers(network, [teachers[index] for index in WEAK])
    followed = {"teacher": teacher, "weak": weak, "classes": None}
    yield measured("teacher", teacher, parts)

    # Projectors, which follow them, or the classes, on real images.
    kinds = projector_kinds(plan, on_tower=tower)
    for name, (adaptation, follows) in kinds.items():
        chosen = foundation, adaptation, followed[follows], plan
        learn = functools.partial(_train_behind, hidden) if tower else _train_projector
        fields = yield from stage(name, learn, parts, *chosen)
        trained[name] = projectors.TrainedProjector(**fields)
        yield measured(name, logits(trained[name]), seen)
    right = {name: seen.percent_right(logits(one)) for name, one in trained.items()}
    right["the teacher itself"] = parts.percent_right(teacher)
    stored = {name: found.adapter for name, found in trained.items()}
    stored |= {"zero-shot": {}, "the teacher itself": teachers[-1][0]}
    yield Artifact("projectors", ledger.networks_table("projector", right, stored))

    # Distilled images, and random ones.
    rows, encode = student_rows(plan, kinds), None
    if any(row.images == "updated" for row in rows.values()):
        adapted = projectors.merged_tower(foundation, trained[MAIN])
        encode = functools.partial(foundation.encode, adapted)
    trained |= {"projector": trained[MAIN], "probe": trained[PROBE]}
    live = functools.partial(projectors.label_logits, foundation)
    choosers = {"teacher": lambda: teacher, "projector": lambda: live(trained[MAIN])}
    sets = {}
    for count in plan.per_class:
        chosen = parts, choosers[plan.chooser](), count, plan.seed, encode
        found = yield from stage(f"images, {count} per class", _distil_images, *chosen)
        sets[count] = {name: images.ImageSet(**fields) for name, fields in found.items()}

    # Students. What a tower says of their views is computed at once, by all its projectors.
    sources = {"teacher": teacher, "weak": weak}
    if not tower:
        sources |= {name: live(one) for name, one in trained.items()}
    results = []
    for count in plan.per_class:
        ahead = {}
        for name in dict.fromkeys(row.images for row in rows.values()) if tower else ():
            wanted = {row.source for row in rows.values() if row.images == name} & set(trained)
            chosen = base, {source: trained[source] for source in sorted(wanted)}
            views = _views(sets[count][name], parts, plan)
            what = f"labels of {name} images, {count} per class"
            ahead[name] = yield from stage(what, _labels_of_views, views, foundation, *chosen)
        for name, row in rows.items():
            what, found = f"{name}, {count} per class", sets[count][row.images]
            given = sources.get(row.source), ahead.get(row.images, {}).get(row.source)
            found = yield from stage(what, _train_row, row, found, parts, given, model, plan)
            results.append(_results_line(name, count, found, plan.students))
            yield line(what, float(found["accuracies"][..., 0].mean(1).max()))

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
        label_names={name: f"{row.source} {row.form}" for name, row in rows.items()},
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


def _behind_prefix(
    parts: images.ImageParts, foundation: projectors.Foundation
) -> images.ImageParts:
    """What is measured on, with what a frozen prefix makes of the images in their place."""
    validation, test = (
        part | {"image": projectors.prefix_features(foundation, part["image"])}
        for part in (parts.validation, parts.test)
    )
    return parts._replace(validation=validation, test=test)


def _train_projector(
    parts: images.ImageParts,
    foundation: projectors.Foundation,
    adaptation: projectors.Adaptation,
    teacher: Predict | None,
    plan: Plan,
) -> dict[str, Any]:
    """A stage: a projector as a dict, of augmented images."""
    views = _real_views(parts, plan, seed=plan.seed + 1, steps=plan.projector.steps)
    classes = parts.train["label"]
    return projectors.train_on_views(
        foundation, adaptation, views, classes, teacher, seed=plan.seed
    )._asdict()


def _train_behind(
    hidden: Callable[[], np.ndarray],
    parts: images.ImageParts,
    foundation: projectors.Foundation,
    adaptation: projectors.Adaptation,
    teacher: Predict | None,
    plan: Plan,
) -> dict[str, Any]:
    """A stage: a projector as a dict, of whole images of which `hidden` gives the prefix."""
    arrays, objective = {"classes": parts.train["label"]}, projectors.learn_classes
    if teacher is not None:
        arrays["targets"] = networks.apply_in_chunks(teacher, parts.train["image"])
        objective = projectors.follow_teachers
    return projectors.train_behind_prefix(
        foundation,
        adaptation,
        hidden(),
        arrays,
        seed=plan.seed,
        steps=plan.projector.steps,
        batch_size=BATCH,
        objective=objective,
    )._asdict()


def _distil_images(
    parts: images.ImageParts, teacher: Predict, per_class: int, seed: int, encode: Callable | None
) -> dict[str, dict[str, Any]]:
    """A stage: sets of images by name."""
    found = images.distilled_sets(
        parts.train, teacher, per_class=per_class, seed=seed, encode=encode
    )
    return {name: each._asdict() for name, each in found.items()}


def _views(found: images.ImageSet, parts: images.ImageParts, plan: Plan) -> labels.Views:
    """What students see, whatever their labels."""
    return found.views(
        seed=plan.seed,
        epochs=plan.students.epochs,
        batch_size=plan.students.batch_size,
        num_classes=parts.num_classes,
        flip_rate=plan.flip_rate,
    )


def _labels_of_views(
    views: labels.Views,
    foundation: projectors.Foundation,
    base: projectors.Foundation,
    trained: Mapping[str, projectors.TrainedProjector],
) -> dict[str, np.ndarray]:
    """A stage: logits of all views by each projector, ``[steps, B, K]``; one prefix for all."""
    heads = {name: projectors.label_logits(base, one) for name, one in trained.items()}
    made = {name: [] for name in heads}
    for batch in views.images if heads else ():
        hidden = projectors.prefix_features(foundation, batch, chunk=len(batch))
        for name, head in heads.items():
            made[name].append(np.asarray(head(hidden)))
    return {name: np.stack(each) for name, each in made.items()}


def _train_row(
    row: StudentLabels,
    found: images.ImageSet,
    parts: images.ImageParts,
    given: tuple[Predict | None, np.ndarray | None],
    model: Any,
    plan: Plan,
) -> Generator[Artifact, None, dict[str, Any]]:
    """A stage: accuracies of a row's students; the file of stored labels is yielded."""
    students, (predict, logits) = plan.students, given
    views, source, file = labels.labelled_views(
        _views(found, parts, plan),
        predict,
        row.form,
        seed=plan.seed,
        logits=logits,
        **found._asdict(),
    )
    if file:
        per_class = len(found.classes) // parts.num_classes
        whose = "" if row.source == "teacher" else f"_{row.source.replace(' ', '_')}_{row.images}"
        yield Artifact(f"labels_{per_class}_{row.form}{whose}.npz", file)
    accuracies = labels.compare_students(
        model,
        labels.view_batches(views),
        source,
        students.objective(row.objective),
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
