"""What studies of soft labels share: how networks are trained on a folder, and checks."""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from lnl_jax.comparison.label_plan import CHECKPOINTS, Students
from lnl_jax.distill import images, labels
from lnl_jax.runner.arguments import (
    Count,
    NotNegative,
    Positive,
    Range,
    Repetitions,
    Size,
    StudyError,
    Threads,
    check_network,
    refused,
)
from lnl_jax.runner.outputs import Output
from lnl_jax.runner.stages import stage

TeacherSteps = Annotated[int, Range(CHECKPOINTS, 20_000)]


class Folder(NamedTuple):
    """How the folder is read.

    Attributes:
        class_names: a file of lines ``CLASS words, other words``; none takes the folders' names.
        validation_per_class: training images of each class that are held out.
        num_threads: that decode.
        skip_unreadable: leaves images that cannot be decoded out; the table `skipped` names them.
    """

    class_names: str | None = None
    validation_per_class: Count = 10
    num_threads: Threads = 4
    skip_unreadable: bool = False


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


def add_updated(
    sets: Mapping[int, dict[str, images.JpegSet]], encode: Callable
) -> Generator[Output, Any, None]:
    """Stages: beside the distilled images of each size those after HeLlO's update."""
    for count, found in sets.items():
        start, name = found["distilled"], f"updated images, {count} per class"
        content = yield from stage(name, images.updated_jpegs, start, encode)
        found["updated"] = images.JpegSet(tuple(content), start.label)


def built(name: str, make: Callable, *sizes: int, shape: tuple[int, ...]) -> Any:
    """A network for images of this shape, refused where it cannot be built."""
    with refused(name):
        model = make(*sizes)
    example = jnp.zeros((1, *shape))
    check_network(name, lambda: model.init(jax.random.key(0), example))
    return model


def checked_student(
    architecture: Callable, parts: images.ImageParts, per_class: Sequence[int], students: Students
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
