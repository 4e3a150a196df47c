"""What studies of soft labels share: how networks are trained, rows of students, checks."""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from lnl_jax.distill import images, labels, projectors
from lnl_jax.runner.arguments import (
    Count,
    NotNegative,
    Positive,
    Range,
    Repetitions,
    Size,
    Steps,
    StudyError,
    check_network,
    refused,
)
from lnl_jax.runner.outputs import Artifact

Parts = images.ImageParts
Predict = Callable[[Any], jax.Array]
# Checkpoints of the teacher's run, and which of them are the weak teachers.
CHECKPOINTS, WEAK = 9, (2, 5, 8)
BATCH = 50
MAIN = "LoRA, text, low-rank head"
TeacherSteps = Annotated[int, Range(CHECKPOINTS, 20_000)]


class Students(NamedTuple):
    """How students are trained.

    Attributes:
        count: how many, of different seeds.
        epochs: passes over the distilled images; at least 4 with images in memory.
        batch_size: images in a step.
        learning_rates: the first, to choose from on held-out images.
        temperature: of the divergence.
        ce_weight: of the classes beside squared errors.
    """

    count: Repetitions = 3
    epochs: Count = 200
    batch_size: Count = 50
    learning_rates: tuple[Positive, ...] = (3e-3,)
    temperature: Positive = 4.0
    ce_weight: NotNegative = 0.1

    def objective(self, name: str) -> labels.Objective:
        """By a row's name of it."""
        usual = labels.objectives(temperature=self.temperature, ce_weight=self.ce_weight)
        return usual[name]


class Projector(NamedTuple):
    """How projectors are trained.

    Attributes:
        rank: of the tower's adapter.
        head_rank: of the head's.
        steps: of every projector.
    """

    rank: Size = 4
    head_rank: Size = 4
    steps: Steps = 800


class SmallClip(NamedTuple):
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


class FolderProjector(NamedTuple):
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


class Labels(NamedTuple):
    """What a row's students follow.

    Attributes:
        source: a network: teacher, weak, projector or zero-shot; None for the classes.
        form: in which the labels are stored, of `FORMS`; None for live ones.
        objective: kl, mse or hard.
        images: distilled, random or updated.
        augmented: whether there are crops, mirrored ones and CutMix.
    """

    source: str | None
    form: str | None
    objective: str
    images: str = "distilled"
    augmented: bool = True


# name on the command line and in tables -> labels; mse is with a little cross-entropy.
ROWS = {
    "hard": Labels(None, None, "hard"),
    "hard_random": Labels(None, None, "hard", "random"),
    "stored_kl": Labels("teacher", "float16", "kl"),
    "projector_kl": Labels("projector", None, "kl"),
    "zero_shot_kl": Labels("zero-shot", None, "kl"),
    "stored_mse": Labels("teacher", "float16", "mse"),
    "projector_mse": Labels("projector", None, "mse"),
    "projector_kl_random": Labels("projector", None, "kl", "random"),
    "pruned_kl": Labels("teacher", "pruned", "kl"),
    "bytes_kl": Labels("teacher", "bytes", "kl"),
    "top3_kl": Labels("teacher", "top3", "kl"),
    "weak_mse": Labels("weak", None, "mse"),
    "projector_mse_updated": Labels("projector", None, "mse", "updated"),
}
DEFAULT_ROWS = tuple(ROWS)[:8]
# Classes, soft labels, and soft labels of random images: what the label-robust score compares.
SCORED = ("hard", "projector_kl", "projector_kl_random")


def built(name: str, make: Callable, *sizes: int, shape: tuple[int, ...]) -> Any:
    """A network for images of this shape, refused where it cannot be built."""
    with refused(name):
        model = make(*sizes)
    example = jnp.zeros((1, *shape))
    check_network(name, lambda: model.init(jax.random.key(0), example))
    return model


def checked_student(
    architecture: Callable, parts: Parts, per_class: Sequence[int], students: Students
) -> Any:
    """The students' network, if these images can give what is asked for: before the training."""
    if students.epochs < 4:
        raise StudyError(
            "students.epochs must be at least 4, as a file of labels remembers the geometry of "
            f"four steps; got {students.epochs}."
        )
    with refused():
        images.check_per_class(per_class, parts.train["label"])
    return built("architecture", architecture, parts.num_classes, shape=parts.image_shape)


def projector_kinds(
    projector: Projector, *, ablation: bool
) -> dict[str, tuple[projectors.Adaptation, str]]:
    """What is trained, and whose logits it follows; the ablation adds what a choice is worth."""
    found = projectors.adaptations(projector.rank, projector.head_rank)
    kinds = {name: (found[name], "weak") for name in ("linear probe", MAIN)}
    if ablation:
        kinds["linear probe, one teacher"] = found["linear probe"], "teacher"
        kinds |= {name: (one, "weak") for name, one in found.items() if name not in kinds}
    return kinds


def train_row(
    row: str,
    sets: Mapping[str, images.ImageSet],
    parts: Parts,
    sources: Mapping[str, Predict],
    model: Any,
    students: Students,
    *,
    seed: int,
    flip_rate: float,
) -> Generator[Artifact, None, dict[str, Any]]:
    """A stage: accuracies of a row's students; the file of stored labels is yielded.

    All rows of a size share the stream of crops and CutMix.
    """
    chosen, found = ROWS[row], sets[ROWS[row].images]
    options = {"num_classes": parts.num_classes, "flip_rate": flip_rate}
    views = found.views(
        seed=seed, epochs=students.epochs, batch_size=students.batch_size, **options
    )
    views, source, file = labels.labelled_views(
        views, sources.get(chosen.source), chosen.form, seed=seed, **found._asdict()
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


def results_line(row: str, per_class: int, found: Mapping, students: Students) -> dict[str, Any]:
    """A line of the table from what `train_row` returned."""
    line = labels.chosen_by_validation(found["accuracies"], students.learning_rates)
    first = {"row": row, "per class": per_class, "test %": line["test %"], "std": line["std"]}
    return first | {"labels' file, bytes": found["bytes"] or None} | line
