"""HeLlO at ImageNet's size: soft-label projectors on a folder of JPEGs, which is streamed."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import imagenet_networks as networks
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
from experiments.clip_foundation import load_foundation
from experiments.folder_parts import Reading, folder_parts, skipped_table
from experiments.folder_students import (
    ARCHITECTURES,
    DEFAULT_ROWS,
    ROWS,
    StudentTraining,
    resnet18,
    train_students,
)
from experiments.foundation_models import Foundation
from experiments.imagenet_outputs import artifacts
from experiments.imagenet_stages import State, reported, restored, train_on_folder
from experiments.low_rank_projectors import Setting, check_ranks
from experiments.outputs import Artifact, Checkpoint, Resume
from experiments.stitched_images import (
    Selection,
    check_counts,
    choose_patches,
    random_middles,
    stitched,
)


@study
def hello_imagenet(
    *,
    class_names: str | None = None,
    clip: str | None = None,
    templates: tuple[str, ...] = ("a photo of a {}.",),
    image_size: Size = 224,
    per_class: tuple[Count, ...] = (1, 10, 50),
    rows: tuple[str, ...] = DEFAULT_ROWS,
    architecture: Annotated[Callable, ARCHITECTURES] = resnet18,
    teacher: Annotated[Callable, ARCHITECTURES] = resnet18,
    rank: Size = 8,
    head_rank: Size = 128,
    weak_teachers: Repetitions = 9,
    foundation_epochs: Count = 10,
    teacher_epochs: Count = 90,
    projector_epochs: Count = 10,
    student_epochs: Count = 300,
    students: Repetitions = 3,
    batch_size: Count = 256,
    student_batch_size: Count = 100,
    foundation_learning_rate: Positive = 1e-3,
    teacher_learning_rate: Positive = 1e-3,
    projector_learning_rate: Positive = 1e-3,
    learning_rates: tuple[Positive, ...] = (1e-3,),
    projector_ce_weight: NotNegative = 0.1,
    ce_weight: NotNegative = 0.025,
    temperature: Positive = 20.0,
    factor: Size = 2,
    pool: Size = 300,
    crops: Size = 5,
    validation_per_class: Count = 10,
    seed: Seed = 0,
    num_threads: Threads = 4,
    skip_unreadable: bool = False,
    data_dir: str | None = None,
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
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
    `ce_weight` of 0.025. Ours: the template, the scale of the logits and their centring, optimiser,
    passes and batches of teacher and projector, `projector_ce_weight`, parts of at least a quarter
    of an image, CutMix and mirroring without shuffled patches, and images as JPEG.

    The paper's numbers, on ImageNet-1K with ResNet-18, 12.9, 43.7 and 52.2% for 1, 10 and 50 images
    per class, have not been tried: days of an accelerator. The table of storage is that of
    ImageNet-1K whatever the folder is:
        python experiments/run.py --exp hello_imagenet --data_dir DIR --clip PATH \
            --class_names LOC_synset_mapping.txt
    On a folder of some dozen small images, some minutes of a CPU core, mostly compilation:
        python experiments/run.py --exp hello_imagenet --data_dir DIR --image_size 32 \
            --architecture convnet --architecture.width 16 --teacher convnet --teacher.width 16 \
            --per_class 1 --validation_per_class 2 --batch_size 16 --rank 2 --head_rank 2 \
            --weak_teachers 3 --teacher_epochs 9 --projector_epochs 5 --student_epochs 50

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
        architecture: of the students.
        teacher: its architecture.
        rank: of the tower's adapter.
        head_rank: of the head's.
        weak_teachers: checkpoints of the teacher's run, evenly spaced; at most `teacher_epochs`.
        foundation_epochs: passes of the small CLIP.
        teacher_epochs: passes of the teacher.
        projector_epochs: passes of the projector.
        student_epochs: passes over the distilled images.
        students: seeds of the students.
        batch_size: of everything but students.
        student_batch_size: of students.
        foundation_learning_rate: of the small CLIP, the first.
        teacher_learning_rate: of the teacher, the first.
        projector_learning_rate: of the projector, the first.
        learning_rates: of the students, the first, to choose from on held-out images.
        projector_ce_weight: of the classes beside the teachers' logits.
        ce_weight: of the classes beside squared errors, for the students.
        temperature: of the students' divergence.
        factor: patches in a row of a distilled image.
        pool: images of a class among which patches are chosen.
        crops: of each of them.
        validation_per_class: training images of each class that are held out.
        seed: of all but the students.
        num_threads: that decode.
        skip_unreadable: images that cannot be decoded are left out, counted and named in the table
            `skipped`; for that every image is decoded once at the start. Otherwise one is an error:
            at the start in a folder of at most 20,000 images, else when it is drawn.
        data_dir: the folder.
        resume: where an interrupted run goes on.

    Yields:
        A row and a checkpoint for each pass over the folder, for the choice of patches, and for
        each row of students; at the end the tables `networks`, `results`, `robust_scores` (of
        DD-Ranking), `storage` (of this run), `storage_of_imagenet` and `claimed_ratios`; the files
        `adapter.npy` and ``images_*.zip``; the figures `accuracy`, `distilled` and
        `storage_curve`, the last one again of ImageNet-1K.
    """
    if data_dir is None:
        raise StudyError(
            "hello_imagenet reads images from a folder: give --data_dir DIR with "
            "train/CLASS/*.JPEG and val/CLASS/*.JPEG."
        )
    check_names("rows", rows, ROWS)
    check_once("per_class", per_class)
    check_once("learning_rates", learning_rates)
    check_templates(templates)
    if teacher_epochs < weak_teachers:
        raise StudyError(
            f"teacher_epochs must be at least the {weak_teachers} weak_teachers, which are kept at "
            f"the end of a pass; got {teacher_epochs}."
        )
    if image_size % factor:
        raise StudyError(f"factor must divide the image_size of {image_size}, got {factor}.")
    with refused():
        parts = folder_parts(
            data_dir,
            class_names=class_names,
            validation_per_class=validation_per_class,
            seed=seed,
            skip_unreadable=skip_unreadable,
            num_threads=num_threads,
        )
    if parts.skipped:
        yield Artifact("skipped", skipped_table(parts.skipped))
    selection = Selection(factor, pool, crops, seed)
    check_counts(per_class, parts.train.label, selection)
    reading = Reading(image_size, min(batch_size, len(parts.train.files)), num_threads)
    example = jnp.zeros((1, image_size, image_size, 3))
    with refused():
        teacher_model = teacher(len(parts.names), image_size)
        model = architecture(len(parts.names), image_size)
    check_network("teacher", lambda: teacher_model.init(jax.random.key(0), example))
    check_network("architecture", lambda: model.init(jax.random.key(0), example))
    setting = Setting(rank, head_rank)

    stages, like = [], {"done": np.int32(0), "epoch": np.int32(0), "foundation": {}}
    if clip is None:
        stage, like["foundation"] = networks.clip_stage(
            parts,
            reading,
            templates=templates,
            count=foundation_epochs,
            learning_rate=foundation_learning_rate,
            seed=seed,
        )
        stages.append(stage)
        foundation_of: networks.FoundationOf = _of_state
    else:
        with refused("clip"):
            loaded = load_foundation(clip, parts.names, templates=templates)
        foundation_of = _constant(loaded)
    stage, like["teachers"] = networks.teacher_stage(
        teacher_model,
        parts,
        reading,
        checkpoints=weak_teachers,
        count=teacher_epochs,
        learning_rate=teacher_learning_rate,
        seed=seed,
    )
    stages.append(stage)
    stage = networks.projector_stage(
        teacher_model,
        setting,
        foundation_of,
        parts,
        reading,
        ce_weight=projector_ce_weight,
        count=projector_epochs,
        learning_rate=projector_learning_rate,
        seed=seed,
    )
    stages.append(stage)
    check_ranks(foundation_of(like), rank, head_rank)
    like["adapter"] = networks.adapter_shapes(foundation_of(like), setting, seed)
    patches = max(per_class) * factor**2
    like["patches"] = np.zeros((len(parts.names), patches, 2), np.int32)
    shape = (len(per_class), len(rows), len(learning_rates), students, 2)
    like["scores"] = np.zeros(shape, np.float32)
    state = restored(like, stages, resume)
    for number, stage in enumerate(stages):
        yield from train_on_folder(state, number, stage, parts, reading, seed)
    sources = networks.sources(state, foundation_of(state), teacher_model, seed)
    if state["done"] == len(stages):
        state["patches"] = choose_patches(
            parts.train, sources["teacher"], patches, selection, reading
        )
        state["done"] += 1
        yield from reported(state, "patches", {})
    images = {
        count: {
            "distilled": stitched(parts.train, state["patches"], count, selection, reading),
            "random": random_middles(parts.train, count, reading, seed),
        }
        for count in per_class
    }
    training = StudentTraining(
        student_epochs,
        student_batch_size,
        students,
        learning_rates,
        temperature,
        ce_weight,
        1 / factor,
        seed,
    )
    numbers = [(i, j) for i in range(len(per_class)) for j in range(len(rows))]
    for number, (i, j) in enumerate(numbers, start=len(stages) + 1):
        if state["done"] > number:
            continue
        row, of_size = ROWS[rows[j]], images[per_class[i]]
        state["scores"][i, j] = train_students(
            row,
            of_size[row.images],
            sources,
            model,
            training,
            (parts.validation, parts.test),
            reading,
        )
        state["done"] += 1
        best = float(state["scores"][i, j, ..., 0].mean(1).max() / 100)
        yield from reported(state, f"{rows[j]}, {per_class[i]} per class", {"accuracy": best})
    yield from artifacts(
        state, parts, reading, images, rows, training, foundation_of(state), sources
    )


def _of_state(state: State) -> Foundation:
    return state["foundation"]


def _constant(foundation: Foundation) -> networks.FoundationOf:
    return lambda state: foundation
