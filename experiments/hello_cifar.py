"""Soft-label projectors against stored labels on distilled images of CIFAR-10 and CIFAR-100."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from experiments.arguments import (
    Count,
    NotNegative,
    Positive,
    Repetitions,
    Seed,
    Size,
    Steps,
    check_images,
    check_templates,
    study,
)
from experiments.clip_foundation import from_clip
from experiments.distillation_parts import image_parts
from experiments.hello_rows import DEFAULT_ROWS
from experiments.hello_study import StudentEpochs, TeacherSteps, projector_study
from experiments.outputs import Artifact, Checkpoint, Resume
from experiments.shifted_foundation import trained_in_place
from experiments.soft_label_students import STUDENTS, convnet
from lnl_jax import data

# name on the command line -> data_dir -> set
SETS: dict[str, Callable] = {"cifar10": data.cifar10, "cifar100": data.cifar100}


@study
def hello_cifar(
    *,
    dataset: Annotated[Callable, SETS] = data.cifar10,
    train_size: Count = 5000,
    seed: Seed = 0,
    students: Repetitions = 3,
    per_class: tuple[Count, ...] = (1, 10),
    rows: tuple[str, ...] = DEFAULT_ROWS,
    architecture: Annotated[Callable, STUDENTS] = convnet,
    student_epochs: StudentEpochs = 200,
    learning_rates: tuple[Positive, ...] = (3e-3,),
    temperature: Positive = 4.0,
    ce_weight: NotNegative = 0.1,
    rank: Size = 4,
    head_rank: Size = 4,
    clip: str | None = None,
    templates: tuple[str, ...] = ("a photo of a {}.",),
    foundation_steps: Steps = 600,
    teacher_steps: TeacherSteps = 1500,
    projector_steps: Steps = 1000,
    ablation: bool = False,
    data_dir: str | None = None,
    resume: Resume = Resume(),
) -> Iterator[dict[str, Any] | Artifact | Checkpoint]:
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

    Time: an accelerator; 16 minutes of a CPU core, cut down as below.

    Args:
        dataset: which images.
        train_size: training images that are used, classes in proportion.
        seed: of split, foundation model, teachers, projector, images and geometry.
        students: seeds of the students.
        per_class: distilled images of each class.
        rows: labels and images of the students: hard (classes), hard_random, stored_kl (the
            teacher's logits in a file), projector_kl, zero_shot_kl, stored_mse, projector_mse,
            projector_kl_random; also pruned_kl (one step in ten), bytes_kl (quantised), top3_kl,
            weak_mse and projector_mse_updated (images after HeLlO's update).
        architecture: of the students.
        student_epochs: passes over the distilled images, at least 4.
        learning_rates: of the students, to choose from.
        temperature: of the divergence.
        ce_weight: of the classes beside squared errors.
        rank: of the tower's adapter.
        head_rank: of the head's.
        clip: a folder with model.safetensors, config.json and tokenizer.json, or what else
            `models.load_clip` reads; none trains a tower in place.
        templates: of the texts that CLIP embeds, each with {} for the class name.
        foundation_steps: of the tower in place; few leave the foundation model poor, as a strange
            domain would.
        teacher_steps: of the teacher, at least 9.
        projector_steps: of every projector.
        ablation: adds projectors without text, with a full head, and with a single teacher.
        data_dir: the folder of the set.
        resume: where an interrupted run goes on.

    Yields:
        What `hello_digits` yields.
    """
    check_templates(templates)

    def load():
        splits = dataset(data_dir)
        check_images(splits, dataset.__name__)
        return image_parts(splits, seed, train_size=train_size)

    if clip is None:
        maker = trained_in_place(seed, foundation_steps)
    else:
        maker = from_clip(clip, templates=templates)
    yield from projector_study(
        load,
        maker,
        flip_rate=0.5,
        seed=seed,
        students=students,
        per_class=per_class,
        rows=rows,
        architecture=architecture,
        student_epochs=student_epochs,
        learning_rates=learning_rates,
        temperature=temperature,
        ce_weight=ce_weight,
        rank=rank,
        head_rank=head_rank,
        teacher_steps=teacher_steps,
        projector_steps=projector_steps,
        ablation=ablation,
        resume=resume,
    )
