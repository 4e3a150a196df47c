"""HeLlO at ImageNet's size: soft-label projectors on a folder of JPEGs, which is streamed."""

import functools
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.arguments import (
    Count,
    NotNegative,
    Positive,
    Repetitions,
    Seed,
    Size,
    StudyError,
    Threads,
    check_names,
    check_network,
    check_once,
    check_templates,
    refused,
    study,
)
from experiments.distillation._shared import Labels, Students
from experiments.outputs import Artifact, Checkpoint, Output, Resume
from experiments.stages import stage
from lnl_jax.distill import images, labels, ledger, networks, projectors, training

# name on the command line and in tables -> labels; mse is with a little cross-entropy.
ROWS = {
    "hard": Labels(None, None, "hard"),
    "hard_random": Labels(None, None, "hard", "random"),
    "teacher_kl": Labels("teacher", None, "kl"),
    "projector_kl": Labels("projector", None, "kl"),
    "projector_mse": Labels("projector", None, "mse"),
    "projector_kl_random": Labels("projector", None, "kl", "random"),
    "projector_kl_plain": Labels("projector", None, "kl", augmented=False),
    "projector_kl_random_plain": Labels("projector", None, "kl", "random", False),
    "zero_shot_kl": Labels("zero-shot", None, "kl"),
}
DEFAULT_ROWS = tuple(ROWS)[:-1]
# What the scores of DD-Ranking compare: by labels, and without augmentation.
BY_LABELS = ("hard", "projector_kl", "projector_kl_random")
PLAIN = ("projector_kl_plain", "projector_kl_random_plain")


class Foundation(NamedTuple):
    """How the small CLIP is trained.

    Attributes:
        epochs: passes over the folder.
        learning_rate: the first.
    """

    epochs: Count = 10
    learning_rate: Positive = 1e-3


class Teacher(NamedTuple):
    """How the teacher is trained.

    Attributes:
        architecture: of the teacher.
        epochs: passes over the folder.
        learning_rate: the first.
        checkpoints: the weak teachers, evenly spaced in its run; at most as many as passes.
    """

    architecture: Annotated[Callable, labels.SIZED_NETWORKS] = labels.sized_resnet18
    epochs: Count = 90
    learning_rate: Positive = 1e-3
    checkpoints: Repetitions = 9


class Projector(NamedTuple):
    """How the projector is trained.

    Attributes:
        rank: of the tower's adapter.
        head_rank: of the head's.
        epochs: passes over the folder.
        learning_rate: the first.
        ce_weight: of the classes beside the teachers' logits.
    """

    rank: Size = 8
    head_rank: Size = 128
    epochs: Count = 10
    learning_rate: Positive = 1e-3
    ce_weight: NotNegative = 0.1


class Patches(NamedTuple):
    """What distilled images are stitched of.

    Attributes:
        factor: patches in a row of a distilled image.
        pool: images of a class among which patches are chosen.
        crops: of each of them.
    """

    factor: Size = 2
    pool: Size = 300
    crops: Size = 5


@study
def hello_imagenet(
    *,
    class_names: str | None = None,
    clip: str | None = None,
    templates: tuple[str, ...] = ("a photo of a {}.",),
    image_size: Size = 224,
    per_class: tuple[Count, ...] = (1, 10, 50),
    rows: tuple[str, ...] = DEFAULT_ROWS,
    foundation: Foundation = Foundation(),
    teacher: Teacher = Teacher(),
    projector: Projector = Projector(),
    patches: Patches = Patches(),
    architecture: Annotated[Callable, labels.SIZED_NETWORKS] = labels.sized_resnet18,
    students: Students = Students(3, 300, 100, (1e-3,), 20.0, 0.025),
    validation_per_class: Count = 10,
    batch_size: Count = 256,
    num_threads: Threads = 4,
    skip_unreadable: bool = False,
    seed: Seed = 0,
    data_dir: str | None = None,
) -> Iterator[Output]:
    """Labels from a low-rank adapter on CLIP for distilled ImageNet, from a folder of JPEGs.

    The folder has train/CLASS/*.JPEG and val/CLASS/*.JPEG. Images are decoded when they are needed;
    in memory are their names, and the distilled ones as JPEG. A teacher is trained, and checkpoints
    of its run are the weak teachers whose mean logits the projector follows: CLIP with an adapter
    and a head that begins as the words of the classes. RDED's patches, stitched, are the distilled
    images. Students get labels from the projector online, on the very crops that they see, beside
    classes alone, the teacher's labels, and random real images. Without `--clip` a small CLIP of
    the same folder's images and class names is trained first: it serves to try the program out,
    its numbers say nothing about CLIP.

    Of the paper "Heavy Labels Out!" (HeLlO, ICCV 2025), by notes on it and by arithmetic on the
    sizes that it prints, as its text was not at hand: CLIP RN50; ranks 8 and 128; nine weak
    teachers of one ResNet-18 run; the head from text; RDED's images; 1, 10 and 50 images per class;
    300 passes; ResNet-18 students, whose loss is that of the row projector_mse. Of RDED's code:
    factor, pool, crops, the temperature of 20, batches of 100, AdamW with 1e-3. EDC's is the
    `students.ce_weight` of 0.025. Ours: the template, the scale of the logits and their centring,
    optimiser, passes and batches of teacher and projector, `projector.ce_weight`, parts of at least
    a quarter of an image, CutMix and mirroring without shuffled patches, and images as JPEG.

    The paper's numbers, on ImageNet-1K with ResNet-18, 12.9, 43.7 and 52.2% for 1, 10 and 50 images
    per class, have not been tried: days of an accelerator. The table of storage is that of
    ImageNet-1K whatever the folder is:
        python experiments/run.py --exp hello_imagenet --data_dir DIR --clip PATH \
            --class_names LOC_synset_mapping.txt
    On a folder of some dozen small images, some minutes of a CPU core, mostly compilation:
        python experiments/run.py --exp hello_imagenet --data_dir DIR --image_size 32 \
            --architecture convnet --architecture.width 16 --teacher.architecture convnet \
            --teacher.architecture.width 16 --teacher.checkpoints 3 --teacher.epochs 9 \
            --per_class 1 --validation_per_class 2 --batch_size 16 --projector.rank 2 \
            --projector.head_rank 2 --projector.epochs 5 --students.epochs 50

    Time: days of an accelerator; minutes of a CPU core on a small folder.

    Args:
        class_names: a file of lines ``CLASS words, other words``; none takes the folders' names.
        clip: a folder with model.safetensors, config.json and tokenizer.json, or what else
            `models.load_clip` reads; none trains a small one in place.
        templates: of the texts that are embedded, each with {} for the class name.
        image_size: rows and columns for teacher and students; CLIP's tower resizes to its own.
        per_class: distilled images of each class.
        rows: labels and images of the students: hard (classes), hard_random (random real images),
            teacher_kl, projector_kl, projector_mse, projector_kl_random, projector_kl_plain and
            projector_kl_random_plain (without augmentation), zero_shot_kl.
        foundation: how the small CLIP is trained.
        teacher: how the teacher is trained.
        projector: how the projector is trained.
        patches: what distilled images are stitched of.
        architecture: of the students.
        students: how students are trained.
        validation_per_class: training images of each class that are held out.
        batch_size: of everything but students.
        num_threads: that decode.
        skip_unreadable: images that cannot be decoded are left out, counted and named in the table
            `skipped`; for that every image is decoded once at the start. Otherwise one is an error:
            at the start in a folder of at most 20,000 images, else when it is drawn.
        seed: of all but the students.
        data_dir: the folder.

    Yields:
        A row for each pass over the folder, for the choice of patches, and for each row of
        students; at the end the tables `networks`, `results`, `storage` (of this run),
        `robust_scores` (of DD-Ranking), `storage_of_imagenet` and `claimed_ratios`; the files
        `adapter.npy` and ``images_*.zip``; the figures `accuracy`, `distilled` and
        `storage_curve`, the last one of ImageNet-1K.
    """
    if data_dir is None:
        raise StudyError(
            "hello_imagenet reads images from a folder: give --data_dir DIR with "
            "train/CLASS/*.JPEG and val/CLASS/*.JPEG."
        )
    check_names("rows", rows, ROWS)
    check_once("per_class", per_class)
    check_once("students.learning_rates", students.learning_rates)
    check_templates(templates)
    if teacher.epochs < teacher.checkpoints:
        raise StudyError(
            f"teacher.epochs must be at least the {teacher.checkpoints} teacher.checkpoints, which "
            f"are kept at the end of a pass; got {teacher.epochs}."
        )
    if image_size % patches.factor:
        raise StudyError(
            f"patches.factor must divide the image_size of {image_size}, got {patches.factor}."
        )
    with refused():
        parts = images.folder_parts(
            data_dir,
            class_names=class_names,
            validation_per_class=validation_per_class,
            seed=seed,
            skip_unreadable=skip_unreadable,
            num_threads=num_threads,
        )
    if parts.skipped:
        yield Artifact("skipped", images.skipped_table(parts.skipped))
    pool = images.PatchPool(*patches, seed)
    with refused():
        images.check_patch_counts(per_class, parts.train.label, pool)
    classes, shape = len(parts.names), (image_size, image_size, 3)
    with refused():
        model = architecture(classes, image_size)
        teacher_model = teacher.architecture(classes, image_size)
    key, example = jax.random.key(seed + 100), jnp.zeros((1, *shape))
    check_network("architecture", lambda: model.init(key, example))
    check_network("teacher.architecture", lambda: teacher_model.init(key, example))
    reading = images.Reading(image_size, min(batch_size, len(parts.train.files)), num_threads)
    train = functools.partial(train_on_folder, parts=parts, reading=reading, seed=seed)

    # The foundation model: from a file, or a small CLIP that learns the names of the classes.
    if clip is None:
        with refused():
            small = projectors.small_clip(parts.names, templates, image_size)
        params = small.initial_params(seed)
        base, done = jax.eval_shape(small.foundation, params), foundation.epochs
    else:
        with refused("clip"):
            base = projectors.clip_foundation(clip, parts.names, templates=templates)
        done = 0
    with refused("projector"):
        projectors.check_ranks(base, projector.rank, projector.head_rank)
    if clip is None:
        (ends,) = yield from stage(
            "foundation",
            train,
            "foundation",
            small.loss(),
            small.ids,
            params,
            foundation,
            measure=lambda params, extra: zero_shot(small.foundation(params)),
        )
        base = small.foundation(ends["params"])

    # The teacher, and checkpoints of its run.
    params, extra = networks.initial_variables(teacher_model, key, shape)
    teachers = yield from stage(
        "teacher",
        train,
        "teacher",
        labels.classes_loss(teacher_model),
        (),
        params,
        teacher,
        measure=lambda *variables: networks.scorer(teacher_model, variables),
        extra=extra,
        weight_decay=0.01,
        before=done,
        keep=[teacher.epochs * (i + 1) // teacher.checkpoints for i in range(teacher.checkpoints)],
    )
    done += teacher.epochs

    # The projector, which follows all of them.
    adaptation = projectors.Adaptation(projector.rank, projector.head_rank)
    start = projectors.initial_projector(base, adaptation, seed)
    logits = functools.partial(projectors.projector_logits, base, dtype=projectors.label_dtype())

    def stored(params):
        return projectors.to_float16(projectors.TrainedProjector(params, start.words))

    (ends,) = yield from stage(
        "projector",
        train,
        "projector",
        projectors.online_teachers_loss(teacher_model, projector.ce_weight),
        (base, labels.stacked_teachers(teachers)),
        start.adapter,
        projector,
        measure=lambda params, extra: logits(stored(params)),
        before=done,
    )
    adapted, epochs = stored(ends["params"]), itertools.count(done + projector.epochs + 1)
    sources = {
        "zero-shot": zero_shot(base),
        "projector": logits(adapted),
        "teacher": networks.scorer(teacher_model, (teachers[-1]["params"], teachers[-1]["extra"])),
    }

    # Distilled images, and random ones.
    most = max(per_class) * patches.factor**2
    choose = functools.partial(images.choose_patches, parts.train, sources["teacher"])
    chosen = yield from stage("patches", choose, most, pool, reading)
    yield {"epoch": next(epochs), "method": "patches"}
    sets = {
        count: {
            "distilled": images.stitched_jpegs(parts.train, chosen, count, pool, reading),
            "random": images.random_jpegs(parts.train, count, reading, seed),
        }
        for count in per_class
    }

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
            num_threads=num_threads,
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
        line = {"row": row, "per class": count}
        line |= labels.chosen_by_validation(scores, students.learning_rates)
        results.append(line | {"images": of.images, "augmented": of.augmented})
        best = float(scores[..., 0].mean(1).max() / 100)
        yield {"epoch": next(epochs), "method": name, "accuracy": best}

    # Tables, files and figures.
    validation, test = parts.percent_right(list(sources.values()), reading).T.tolist()
    right = [dict(zip(sources, column, strict=True)) for column in (test, validation)]
    to_store = {"zero-shot": {}, "projector": adapted.adapter, "teacher": teachers[-1]["params"]}
    yield Artifact("networks", ledger.networks_table("network", *right, to_store))
    yield Artifact("results", results)
    adapter = projectors.adapter_file(adapted)
    yield Artifact("adapter.npy", adapter)
    files = {count: sets[count]["distilled"].file(parts.train.classes) for count in per_class}
    for count, file in files.items():
        yield Artifact(f"images_{count}.zip", file)
    report = ledger.students_report(
        results,
        num_classes=classes,
        epochs=students.epochs,
        image_files=files,
        adapter_file=adapter,
        label_files={},
        tower=base.tower,
        words=base.words,
        teacher=teachers[-1]["params"],
        teacher_percent=right[0]["teacher"],
        scored=BY_LABELS,
        plain=PLAIN,
    )
    shown = [
        (f"{name}, {count} per class", images.first_images(found, classes=10, most=3))
        for count, of_size in sets.items()
        for name, found in of_size.items()
    ]
    report["distilled"] = images.image_figure(shown, num_classes=min(classes, 10))
    yield from itertools.starmap(Artifact, (report | ledger.imagenet_report()).items())


def zero_shot(foundation: projectors.Foundation) -> Callable[[Any], jax.Array]:
    """The foundation model as it is, as a network that makes labels."""
    plain = projectors.initial_projector(foundation, projectors.Adaptation(0, None), 0)
    return projectors.projector_logits(foundation, plain, dtype=projectors.label_dtype())


def train_on_folder(
    name: str,
    loss: Callable,
    constants: Any,
    params: Any,
    options: Any,
    *,
    measure: Callable[[Any, Any], Callable[[Any], jax.Array]],
    parts: images.FolderParts,
    reading: images.Reading,
    seed: int,
    extra: Any = {},  # noqa: B006
    weight_decay: float = 0.0,
    before: int = 0,
    keep: Sequence[int] = (),
    resume: Resume = Resume(),
) -> Generator[Output, None, list[dict[str, Any]]]:
    """A stage: passes over the folder; returns the variables that are kept, by default the last.

    `measure` makes a network of the last variables, whose accuracy is in the row of the last pass.
    """
    steps, keep = -(-len(parts.train.files) // reading.batch_size), keep or [options.epochs]
    state = training.initial_state(
        params,
        learning_rate=options.learning_rate,
        steps=steps * options.epochs,
        weight_decay=weight_decay,
        extra=extra,
        seed=seed,
    )
    found = resume.restore(training.resumable(state, keep, len(resume.rows)))
    passes = training.train_in_passes(
        training.step_with(loss, constants),
        found,
        functools.partial(images.cropped_pass, parts.train, reading, seed),
        passes=options.epochs,
        steps_per_pass=steps,
        keep=keep,
    )
    for row, found in passes:
        line = {"epoch": before + row["epoch"], "method": name}
        line["loss"] = float(row["loss"])
        if row["epoch"] == options.epochs:
            last = found["state"]
            network = measure(last.params, last.extra)
            right = images.folder_accuracies([network], parts.validation, reading)
            line["accuracy"] = right[0]
        yield line
        yield Checkpoint(found)
    return list(found["kept"].values())
