"""HeLlO at ImageNet's size: soft-label projectors on a folder of JPEGs, which is streamed."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Annotated

import jax
import jax.numpy as jnp

from experiments.distillation import _shared as shared
from lnl_jax import models
from lnl_jax.comparison.label_plan import StudentLabels, Students
from lnl_jax.distill import images, labels, ledger, networks, projectors, training
from lnl_jax.runner.arguments import (
    Count,
    Precision,
    Seed,
    Size,
    StudyError,
    check_names,
    check_once,
    check_templates,
    refused,
    study,
)
from lnl_jax.runner.outputs import Artifact, Checkpoint, Output
from lnl_jax.runner.stages import stage

# name on the command line and in tables -> labels; mse is with a little cross-entropy.
ROWS = {
    "hard": StudentLabels(None, None, "hard"),
    "hard_random": StudentLabels(None, None, "hard", "random"),
    "teacher_kl": StudentLabels("teacher", None, "kl"),
    "projector_kl": StudentLabels("projector", None, "kl"),
    "projector_mse": StudentLabels("projector", None, "mse"),
    "projector_kl_random": StudentLabels("projector", None, "kl", "random"),
    "projector_kl_plain": StudentLabels("projector", None, "kl", augmented=False),
    "projector_kl_random_plain": StudentLabels("projector", None, "kl", "random", False),
    "zero_shot_kl": StudentLabels("zero-shot", None, "kl"),
    "projector_mse_updated": StudentLabels("projector", None, "mse", "updated"),
}
# What the scores of DD-Ranking compare: by labels, and without augmentation.
BY_LABELS = ("hard", "projector_kl", "projector_kl_random")
PLAIN = ("projector_kl_plain", "projector_kl_random_plain")


@study
def hello_imagenet(
    *,
    clip: str | None = None,
    templates: tuple[str, ...] = ("a photo of a {}.",),
    image_size: Size = 224,
    per_class: tuple[Count, ...] = (1, 10, 50),
    rows: tuple[str, ...] = tuple(ROWS)[:8],
    folder: shared.Folder = shared.Folder(),
    foundation: shared.SmallClip = shared.SmallClip(),
    teacher: shared.Teacher = shared.Teacher(),
    projector: shared.FolderProjector = shared.FolderProjector(),
    patches: shared.Patches = shared.Patches(),
    architecture: Annotated[Callable, labels.SIZED_NETWORKS] = labels.sized_resnet18,
    students: Students = Students(3, 300, 100, (1e-3,), 20.0, 0.025),
    precision: Precision = jnp.float32,
    batch_size: Count = 256,
    seed: Seed = 0,
    data_dir: str | None = None,
) -> Iterator[Output]:
    """Labels from a low-rank adapter on CLIP for distilled ImageNet, from a folder of JPEGs.

    The folder has train/CLASS/*.JPEG and val/CLASS/*.JPEG. Checkpoints of a teacher's run are the
    weak teachers whose mean logits the projector follows: CLIP with an adapter and a head that
    begins as the words of the classes. RDED's patches, stitched, are the distilled images. Students
    get labels from the projector online, on the crops that they see, beside classes, the teacher's
    labels, and random images. Without `--clip` a small CLIP is trained first, for trying it out.

    Of the paper "Heavy Labels Out!" (HeLlO, ICCV 2025), by notes on it: CLIP RN50, ranks 8 and 128,
    nine weak teachers of one ResNet-18 run, the head from text, 300 passes, and students with the
    loss of projector_mse; of RDED's code the patches, the temperature, batches of 100 and AdamW; of
    EDC's students.ce_weight. The rest is ours. The paper's 12.9, 43.7 and 52.2% were not tried.
    Storage is that of ImageNet-1K whatever the folder is:
        python experiments/run.py --exp hello_imagenet --data_dir DIR --clip PATH \
            --folder.class_names LOC_synset_mapping.txt

    Time: days of an accelerator; minutes of a CPU core on a small folder.

    Args:
        clip: a folder or file that `models.load_clip` reads; none trains a small one in place.
        templates: of the texts that are embedded, each with {} for the class name.
        image_size: rows and columns for teacher and students; CLIP's tower resizes to its own.
        per_class: distilled images of each class.
        rows: labels and images of the students: hard (classes), hard_random, teacher_kl,
            projector_kl, projector_mse, projector_kl_random, zero_shot_kl, projector_mse_updated
            (after HeLlO's update); unaugmented, projector_kl_plain, projector_kl_random_plain.
        folder: how its images are read.
        foundation: how the small CLIP is trained.
        teacher: how the teacher is trained.
        projector: how the projector is trained.
        patches: what distilled images are stitched of.
        architecture: of the students.
        students: how students are trained.
        precision: in which the networks compute: bfloat16 is for accelerators.
        batch_size: of everything but students.
        seed: of all but the students.
        data_dir: the folder.

    Yields:
        A row for each pass over the folder, the choice of patches, and each row of students.
    """
    check_names("rows", rows, ROWS)
    check_once("per_class", per_class)
    check_once("students.learning_rates", students.learning_rates)
    check_templates(templates)
    if data_dir is None:
        raise StudyError("give --data_dir DIR with train/CLASS/*.JPEG and val/CLASS/*.JPEG.")
    with refused("teacher"):
        keep = labels.evenly_spaced(teacher.epochs, teacher.checkpoints)
    with refused("folder"):
        parts = images.folder_parts(data_dir, seed=seed, **folder._asdict())
    if parts.skipped:
        yield Artifact("skipped", images.skipped_table(parts.skipped))
    classes, shape = len(parts.names), (image_size, image_size, 3)
    pool = images.PatchPool(*patches, seed)
    options = {"templates": templates, "dtype": precision}
    with refused():
        images.check_patch_counts(per_class, parts.train.label, pool, image_size)
        if clip is None:
            small = projectors.small_clip(parts.names, image_size=image_size, **options)
            base = jax.eval_shape(lambda: small.foundation(small.initial_params(seed)))
        else:
            base = projectors.clip_foundation(clip, parts.names, **options)
        projectors.check_ranks(base, projector.rank, projector.head_rank)
    model = shared.built("architecture", architecture, classes, image_size, shape=shape)
    make = teacher.architecture
    teacher_model = shared.built("teacher.architecture", make, classes, image_size, shape=shape)
    model, teacher_model = (models.in_dtype(one, precision) for one in (model, teacher_model))
    reading = images.Reading(
        image_size, min(batch_size, len(parts.train.files)), folder.num_threads
    )

    def passes(name, learn, options, before=0, *, resume):
        """A stage: passes over the folder; returns the variables that are kept."""
        common = {"epochs": options.epochs, "seed": seed}
        begin = {"learning_rate": options.learning_rate, "passed": len(resume.rows)} | common
        found = resume.restore(images.folder_start(learn, parts, reading, **begin))
        run = images.train_on_folder(learn, found, parts, reading, **common)
        for row, found in run:
            if row is not None:
                yield {"epoch": before + row.pop("epoch"), "method": name} | row
            yield Checkpoint(found)
        return training.kept_variables(found)

    def trained(name, *arguments):
        return stage(name, passes, name, *arguments)

    # The foundation model: from a file, or a small CLIP that learns the names of the classes.
    done = 0
    if clip is None:
        (ends,) = yield from trained("foundation", small.training(seed), foundation)
        base, done = small.foundation(ends["params"]), foundation.epochs

    # The teacher, and checkpoints of its run.
    learn = labels.teacher_training(teacher_model, jax.random.key(seed + 100), shape, keep=keep)
    teachers = yield from trained("teacher", learn, teacher, done)

    # The projector, which follows all of them.
    learn = projectors.projector_training(
        base,
        projectors.Adaptation(projector.rank, projector.head_rank),
        teacher_model,
        labels.stacked_teachers(teachers),
        ce_weight=projector.ce_weight,
        seed=seed,
    )
    done += teacher.epochs
    (ends,) = yield from trained("projector", learn, projector, done)
    adapted = projectors.stored_projector(base, ends["params"])
    last = teachers[-1]
    sources = {
        "zero-shot": projectors.zero_shot_logits(base),
        "projector": projectors.label_logits(base, adapted),
        "teacher": networks.scorer(teacher_model, (last["params"], last["extra"])),
    }

    # Distilled images, and random ones.
    epochs = itertools.count(done + projector.epochs + 1)
    wanted = parts.train, sources["teacher"], max(per_class) * patches.factor**2
    chosen = yield from stage("patches", images.choose_patches, *wanted, pool, reading)
    yield {"epoch": next(epochs), "method": "patches"}
    sets = images.stitched_sets(parts.train, chosen, per_class, pool, reading)
    if any(ROWS[row].images == "updated" for row in rows):
        encode = functools.partial(base.encode, projectors.merged_tower(base, adapted))
        yield from shared.add_updated(sets, encode)

    # Students.
    def train_row(row, found):
        size = min(students.batch_size, len(found.label))
        views = images.streamed_views(
            found,
            seed=seed,
            epochs=students.epochs,
            batch_size=size,
            image_size=image_size,
            num_classes=classes,
            min_area=1 / patches.factor,
            augmented=row.augmented,
            num_threads=folder.num_threads,
        )
        return labels.compare_students(
            model,
            views,
            None if row.source is None else labels.model_labels(sources[row.source]),
            students.objective(row.objective),
            lambda predicts: parts.percent_right(predicts, reading),
            steps=students.epochs * (len(found.label) // size),
            image_shape=shape,
            students=students.count,
            learning_rates=students.learning_rates,
        )

    results = []
    for count, row in itertools.product(per_class, rows):
        name, of = f"{row}, {count} per class", ROWS[row]
        scores = yield from stage(name, train_row, of, sets[count][of.images])
        line = labels.chosen_by_validation(scores, students.learning_rates)
        line |= {"images": of.images, "augmented": of.augmented}
        results.append({"row": row, "per class": count} | line)
        best = float(scores[..., 0].mean(1).max() / 100)
        yield {"epoch": next(epochs), "method": name, "accuracy": best}

    # Tables, files and figures.
    right = dict(zip(sources, parts.percent_right([*sources.values()], reading), strict=True))
    to_store = {"zero-shot": {}, "projector": adapted.adapter, "teacher": last["params"]}
    yield Artifact("networks", ledger.networks_table("network", right, to_store))
    yield Artifact("results", results)
    files = {count: sets[count]["distilled"].file(parts.train.classes) for count in per_class}
    report = ledger.students_report(
        results,
        num_classes=classes,
        epochs=students.epochs,
        image_files=files,
        adapter_file=projectors.adapter_file(adapted),
        foundation=base,
        teacher=last["params"],
        teacher_percent=float(right["teacher"][1]),
        scored=BY_LABELS,
        plain=PLAIN,
    )
    report |= {f"images_{count}.zip": file for count, file in files.items()}
    report["distilled"] = images.sets_figure(sets, num_classes=classes)
    yield from itertools.starmap(Artifact, (report | ledger.imagenet_report()).items())
