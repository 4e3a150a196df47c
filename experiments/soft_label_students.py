"""Students that learn from hard or soft labels: networks, objectives, one step for all labels."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from experiments.augmented_views import Views
from experiments.descent import (
    accuracy,
    call,
    descend_together,
    in_steps,
    initial,
    predictor,
)
from lnl_jax import distill, models

PyTree = Any


def convnet(num_classes: int, *, width: int = 32, depth: int = 3) -> models.ConvNet:
    """A small ConvNet, which the teachers are too."""
    return models.convnet(num_classes, width=width, depth=depth)


def vit(
    num_classes: int, *, width: int = 64, depth: int = 3, heads: int = 4, patch_size: int = 4
) -> models.ViT:
    """A small vision transformer."""
    return models.vit(num_classes, width=width, depth=depth, heads=heads, patch_size=patch_size)


# name of an architecture -> number of classes -> network
STUDENTS: dict[str, Callable] = {"convnet": convnet, "resnet18": models.resnet18, "vit": vit}


class Objective(NamedTuple):
    """By what a student follows its labels: a weighted sum, so that one program serves all.

    Attributes:
        ce: weight of the cross-entropy with the mixed classes.
        kl: weight of the divergence from the labels.
        mse: weight of the squared error to the labels, centred.
        temperature: of the divergence, which is multiplied by its square so that the gradient has
            the size of that at temperature 1.
    """

    ce: float = 0.0
    kl: float = 0.0
    mse: float = 0.0
    temperature: float = 1.0


HARD = Objective(ce=1.0)


@functools.lru_cache(maxsize=16)
def student_loss(model: Any) -> Callable:
    """The loss of a step, for `descend`; its constants are the `Objective`."""

    def loss(trained, fixed, batch, objective):
        logits, fixed = call(model, trained, fixed, batch["images"], train=True)
        targets, temperature = batch["targets"], objective.temperature
        divergence = distill.labels.distillation_kl(logits, targets, temperature=temperature)
        squared = distill.labels.distillation_mse(
            logits, distill.projectors.centered(targets), batch["mixed"], ce_weight=0.0
        )
        hard = optax.softmax_cross_entropy(logits, batch["mixed"])
        total = objective.kl * temperature**2 * divergence
        return (total + objective.mse * squared + objective.ce * hard).mean(), fixed

    return loss


def with_classes(views: Views) -> Iterator[dict[str, np.ndarray]]:
    """Batches for students that follow classes alone: the targets have no weight."""
    return with_stored_labels(views, np.zeros_like(views.mixed))


def with_stored_labels(views: Views, logits: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """Batches with labels that were made before, ``[steps, B, K]``."""
    return in_steps({"images": views.images, "mixed": views.mixed, "targets": logits})


def with_live_labels(
    views: Views, source: Callable[[Any], jax.Array]
) -> Iterator[dict[str, np.ndarray | jax.Array]]:
    """Batches with labels made online, asked for before the step on the batch ahead of theirs.

    Args:
        views: what the students see.
        source: images to logits on the device.
    """
    batches = in_steps({"images": views.images, "mixed": views.mixed})
    return distill.labels.labels_ahead(
        lambda batch: source(batch["images"]), map(jax.device_put, batches)
    )


def train_students(
    model: Any,
    keys: Sequence[jax.Array],
    batches: Iterable[Mapping[str, Any]],
    views: Views,
    objective: Objective,
    *,
    learning_rates: Sequence[float],
    keep: Sequence[int] = (),
) -> tuple[list[tuple[PyTree, PyTree]], list[list[tuple[PyTree, PyTree]]]]:
    """Networks from scratch, all of which see the same batches at the same time.

    Args:
        model: a flax module.
        keys: of the initialisation of each network.
        batches: of `with_classes`, `with_stored_labels` or `with_live_labels`.
        views: from which they are made, for their shape and number.
        objective: how the networks follow their labels.
        learning_rates: the first, of each network.
        keep: numbers of steps after which to keep the variables.

    Returns:
        The last variables of each network, and those of all networks for each step of `keep`.
    """
    return descend_together(
        student_loss(model),
        [initial(model, key, views.images[0]) for key in keys],
        batches,
        len(views.images),
        learning_rates=learning_rates,
        constants=Objective(*(np.float32(value) for value in objective)),
        keep=keep,
    )


def student_accuracies(
    model: Any,
    batches: Iterable[Mapping[str, Any]],
    views: Views,
    objective: Objective,
    parts: Sequence[Mapping[str, np.ndarray]],
    *,
    students: int,
    learning_rates: Sequence[float],
) -> np.ndarray:
    """Accuracies in percent, ``[learning rates, students, parts]``.

    Students differ by their initialisation alone: they share images, labels and order, and a live
    source makes the labels of a batch once for all of them.
    """
    runs = [(rate, one) for rate in learning_rates for one in range(students)]
    ends, _ = train_students(
        model,
        [jax.random.key(1000 + one) for _, one in runs],
        batches,
        views,
        objective,
        learning_rates=[rate for rate, _ in runs],
    )
    predicts = [predictor(model, end) for end in ends]
    scores = [[accuracy(predict, part) for part in parts] for predict in predicts]
    return np.float32(scores).reshape(len(learning_rates), students, len(parts))
