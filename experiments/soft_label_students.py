"""Students that learn from hard or soft labels: networks, objectives, one step for all labels."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from experiments.augmented_views import Views
from experiments.descent import accuracy, call, descend, initial, predictor
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
        divergence = distill.distillation_kl(logits, targets, temperature=temperature)
        squared = distill.distillation_mse(
            logits, distill.centered(targets), batch["mixed"], ce_weight=0.0
        )
        hard = optax.softmax_cross_entropy(logits, batch["mixed"])
        total = objective.kl * temperature**2 * divergence
        return (total + objective.mse * squared + objective.ce * hard).mean(), fixed

    return loss


def train_student(
    model: Any,
    key: jax.Array,
    views: Views,
    targets: np.ndarray | None,
    objective: Objective,
    *,
    learning_rate: float,
    keep: Sequence[int] = (),
) -> tuple[tuple[PyTree, PyTree], list[tuple[PyTree, PyTree]]]:
    """A network from scratch.

    Args:
        model: a flax module.
        key: of its initialisation.
        views: what it sees.
        targets: logits of the labels, ``[steps, B, K]``; None where only classes are followed.
        objective: how it follows them.
        learning_rate: the first.
        keep: numbers of steps after which to keep the variables.

    Returns:
        The last variables, and the kept ones.
    """
    targets = np.zeros_like(views.mixed) if targets is None else targets
    batches = {"images": views.images, "mixed": views.mixed, "targets": targets}
    start = initial(model, key, views.images[0])
    constants = Objective(*(np.float32(value) for value in objective))
    return descend(
        student_loss(model),
        start,
        batches,
        learning_rate=learning_rate,
        constants=constants,
        keep=keep,
    )


def student_accuracies(
    model: Any,
    views: Views,
    targets: np.ndarray | None,
    objective: Objective,
    parts: Sequence[Mapping[str, np.ndarray]],
    *,
    students: int,
    learning_rates: Sequence[float],
) -> np.ndarray:
    """Accuracies in percent, ``[learning rates, students, parts]``.

    Students differ by their initialisation alone: they share images, labels and order.
    """
    scores = np.zeros((len(learning_rates), students, len(parts)), np.float32)
    for index, rate in enumerate(learning_rates):
        for one in range(students):
            end, _ = train_student(
                model, jax.random.key(1000 + one), views, targets, objective, learning_rate=rate
            )
            predict = predictor(model, end)
            scores[index, one] = [accuracy(predict, part) for part in parts]
    return scores
