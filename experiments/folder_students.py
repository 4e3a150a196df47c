"""Students of distilled images that are stored as JPEG: their rows, batches and accuracies."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.descent import descend_together, initial, scorer
from experiments.folder_parts import Reading, accuracies
from experiments.soft_label_students import HARD, Objective, student_loss
from experiments.stitched_images import StoredImages, batches_of
from lnl_jax import data, distill, models

Source = Callable[[Any], jax.Array]


def resnet18(num_classes: int, image_size: int, *, width: int = 64) -> models.ResNet:
    """ResNet-18, with ImageNet's stem for images of more than 64 pixels."""
    stem = models.pooled_stem if image_size > 64 else models.plain_stem
    return models.resnet18(num_classes, width=width).clone(stem=stem)


def convnet(
    num_classes: int, image_size: int, *, width: int = 128, depth: int = 3
) -> models.ConvNet:
    """A ConvNet, each of whose blocks halves the image."""
    del image_size
    return models.convnet(num_classes, width=width, depth=depth)


def vit(
    num_classes: int, image_size: int, *, width: int = 384, depth: int = 12, heads: int = 6
) -> models.ViT:
    """A vision transformer of 14 x 14 patches, or of 8 x 8 for small images."""
    patch = image_size // (14 if image_size > 64 else 8)
    return models.vit(num_classes, width=width, depth=depth, heads=heads, patch_size=patch)


ARCHITECTURES: dict[str, Callable] = {"resnet18": resnet18, "convnet": convnet, "vit": vit}


class Row(NamedTuple):
    """What a row's students see and follow.

    Attributes:
        source: whose labels: teacher, projector or zero-shot, all made online; None for classes.
        objective: hard, kl or mse.
        images: distilled or random.
        augmented: whether there are crops, mirrored ones and CutMix.
    """

    source: str | None
    objective: str
    images: str = "distilled"
    augmented: bool = True


# name on the command line and in tables -> row; mse is with a little cross-entropy.
ROWS = {
    "hard": Row(None, "hard"),
    "hard_random": Row(None, "hard", "random"),
    "teacher_kl": Row("teacher", "kl"),
    "projector_kl": Row("projector", "kl"),
    "projector_mse": Row("projector", "mse"),
    "projector_kl_random": Row("projector", "kl", "random"),
    "projector_kl_plain": Row("projector", "kl", augmented=False),
    "projector_kl_random_plain": Row("projector", "kl", "random", False),
    "zero_shot_kl": Row("zero-shot", "kl"),
}
DEFAULT_ROWS = tuple(ROWS)[:-1]
# What the scores of DD-Ranking compare: by labels, and without augmentation.
BY_LABELS = ("hard", "projector_kl", "projector_kl_random")
PLAIN = ("projector_kl_plain", "projector_kl_random_plain")


class StudentTraining(NamedTuple):
    """How students are trained.

    Attributes:
        epochs: passes over the distilled images.
        batch_size: images in a step.
        students: how many differ by their initialisation.
        learning_rates: of each of them.
        temperature: of the divergence.
        ce_weight: of the classes beside squared errors.
        min_area: of the crops, as a fraction.
        seed: of the geometry.
    """

    epochs: int
    batch_size: int
    students: int
    learning_rates: tuple[float, ...]
    temperature: float
    ce_weight: float
    min_area: float
    seed: int

    def objective(self, name: str) -> Objective:
        """By a row's name of it."""
        return {
            "hard": HARD,
            "kl": Objective(kl=1.0, temperature=self.temperature),
            "mse": Objective(mse=1.0, ce=self.ce_weight),
        }[name]


def train_students(
    row: Row,
    images: StoredImages,
    sources: Mapping[str, Source],
    model: Any,
    training: StudentTraining,
    parts: Sequence[data.ImageFolder],
    reading: Reading,
) -> np.ndarray:
    """Students of one row, who see the same batches at the same time.

    Labels are asked for one batch ahead, so that an accelerator is never without work, and images
    are decoded meanwhile.

    Returns:
        Accuracies in percent, ``[learning rates, students, parts]``.
    """
    batch_size = min(training.batch_size, len(images.label))
    steps = training.epochs * (len(images.label) // batch_size)
    batches: Iterable[Mapping[str, Any]] = views(
        images, training, batch_size, reading, num_classes=model.num_classes, row=row
    )
    if row.source is None:
        # The targets have no weight.
        batches = (batch | {"targets": batch["mixed"]} for batch in batches)
    else:
        batches = distill.labels.labels_ahead(
            lambda batch: sources[row.source](batch["images"]), batches
        )
    runs = [(rate, one) for rate in training.learning_rates for one in range(training.students)]
    example = np.zeros((2, reading.size, reading.size, 3), np.float32)
    objective = training.objective(row.objective)
    ends, _ = descend_together(
        student_loss(model),
        [initial(model, jax.random.key(1000 + one), example) for _, one in runs],
        batches,
        steps,
        learning_rates=[rate for rate, _ in runs],
        constants=Objective(*(np.float32(value) for value in objective)),
    )
    predicts = [scorer(model, end) for end in ends]
    scores = np.array([accuracies(predicts, part, reading) for part in parts])
    return 100 * scores.T.reshape(len(training.learning_rates), training.students, len(parts))


def views(
    images: StoredImages,
    training: StudentTraining,
    batch_size: int,
    reading: Reading,
    *,
    num_classes: int,
    row: Row,
) -> Iterator[dict[str, jax.Array]]:
    """Augmented batches, on the device: `images` from 0 to 1 and `mixed` classes ``[B, K]``.

    All rows of a size share the geometry, which is drawn again from the seed; without augmentation
    they share its order.
    """
    count = len(images.label)
    steps = count // batch_size
    settings = {"count": count, "batch_size": batch_size, "size": (reading.size,) * 2}
    draw = _drawing(tuple(settings.items()), training.min_area)
    for epoch in range(training.epochs):
        geometry = draw(training.seed, epoch * steps + jnp.arange(steps))
        geometry = jax.tree.map(np.asarray, geometry)
        if not row.augmented:
            geometry = _neutral(geometry)
        batches = batches_of(images, geometry.rows, num_threads=reading.num_threads)
        for step, batch in enumerate(batches):
            one = jax.tree.map(lambda values, at=step: values[at], geometry)
            seen, mixed = _view(batch["image"], batch["label"], one, num_classes=num_classes)
            yield {"images": seen, "mixed": mixed}


@functools.lru_cache(maxsize=16)
def _drawing(settings: tuple[tuple[str, Any], ...], min_area: float) -> Callable:
    draw = functools.partial(distill.labels.draw_geometry, min_area=min_area, **dict(settings))
    return jax.jit(lambda seed, steps: jax.vmap(lambda step: draw(seed, step))(steps))


def _neutral(geometry: distill.labels.Geometry) -> distill.labels.Geometry:
    """The order alone: whole images, none mirrored or mixed."""
    zeros = jax.tree.map(np.zeros_like, geometry)
    boxes = zeros.boxes + np.array([0, 0, 1, 1], zeros.boxes.dtype)
    return zeros._replace(rows=geometry.rows, boxes=boxes)


@functools.partial(jax.jit, static_argnames="num_classes")
def _view(pixels, classes, geometry, *, num_classes):
    here = geometry._replace(rows=jnp.arange(len(pixels)))
    images = distill.labels.apply_geometry(pixels.astype(jnp.float32) / 255, here)
    return images, distill.labels.mixed_labels(classes, here, num_classes=num_classes)


def results_table(
    scores: np.ndarray, per_class: Sequence[int], rows: Sequence[str], training: StudentTraining
) -> list[dict[str, Any]]:
    """A line per row and size: test accuracy at the learning rate that validation prefers.

    Args:
        scores: ``[sizes, rows, learning rates, students, 2]``, in percent.
        per_class: the sizes.
        rows: names.
        training: of the students.
    """
    lines = []
    for i, count in enumerate(per_class):
        for j, row in enumerate(rows):
            found = scores[i, j].astype(np.float64)
            best = int(found[..., 0].mean(1).argmax())
            tests = found[best, :, 1]
            line = {"row": row, "per class": count, "test %": float(tests.mean())}
            line["std"] = float(tests.std(ddof=1)) if len(tests) > 1 else None
            line["learning rate"] = training.learning_rates[best]
            lines.append(line | {"images": ROWS[row].images, "augmented": ROWS[row].augmented})
    return lines
