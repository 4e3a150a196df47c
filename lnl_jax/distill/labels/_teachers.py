"""Teachers: checkpoints of one training run, weak ones among them."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from lnl_jax.distill.labels._students import HARD, WEIGHT_DECAY, train_students
from lnl_jax.distill.labels._views import Views, view_batches
from lnl_jax.distill.networks import call_network, initial_variables, scorer
from lnl_jax.distill.networks._functions import Variables
from lnl_jax.distill.projectors._projector import weak_targets
from lnl_jax.distill.training import NetworkTraining

PyTree = Any


def train_teachers(
    model: Any, views: Views, key: Array, *, checkpoints: int, learning_rate: float = 3e-3
) -> list[Variables]:
    """Trains a network on classes, and keeps evenly spaced checkpoints.

    Args:
        model: a flax module.
        views: of real images, with crops and CutMix.
        key: of the initialisation.
        checkpoints: how many; the last one is the teacher.
        learning_rate: the first.

    Returns:
        The variables of the checkpoints.

    References:
        "Heavy Labels Out! Dataset Distillation with Label Space Lightening" (HeLlO, ICCV 2025):
        the teachers of the projector are checkpoints of one run.
    """
    steps = len(views.images)
    kept = train_students(
        model,
        [key],
        view_batches(views),
        None,
        HARD,
        image_shape=views.images.shape[2:],
        learning_rates=[learning_rate],
        keep=evenly_spaced(steps, checkpoints),
    )
    return [variables for (variables,) in kept]


def evenly_spaced(steps: int, checkpoints: int) -> list[int]:
    """After which steps, or passes, of a training its checkpoints are kept.

    Args:
        steps: of the training.
        checkpoints: how many; the last one is its end.

    Returns:
        Rising numbers.

    Raises:
        ValueError: if there are more checkpoints than steps.

    Example:
        >>> evenly_spaced(10, 3)
        [3, 6, 10]
    """
    if not 1 <= checkpoints <= steps:
        raise ValueError(
            f"checkpoints must be from 1 to the {steps} of the run, got {checkpoints}."
        )
    return [steps * (i + 1) // checkpoints for i in range(checkpoints)]


@functools.lru_cache(maxsize=4)
def classes_loss(model: Any) -> Callable:
    """Cross-entropy with classes, for batches that are streamed.

    Args:
        model: a flax module.

    Returns:
        A loss for `step_with` on batches with `image`, bytes ``[B, H, W, C]``, `label` and `mask`.
    """

    def loss(constants, params, extra, rows, batch, key):
        images = batch["image"].astype(jnp.float32) / 255
        mask = batch["mask"]
        scores, extra = call_network(model, params, extra, images, train=True, mask=mask)
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, batch["label"])
        return losses, (extra, rows, {})

    return loss


def teacher_training(
    model: Any, key: Array, image_shape: tuple[int, ...], *, keep: Sequence[int]
) -> NetworkTraining:
    """A teacher on streamed batches, and checkpoints of its run.

    Args:
        model: a flax module.
        key: of the initialisation.
        image_shape: height, width and channels.
        keep: rising numbers of passes, `evenly_spaced`.

    Returns:
        The training.
    """
    params, extra = initial_variables(model, key, image_shape)
    return NetworkTraining(
        classes_loss(model),
        (),
        params,
        lambda params, extra: scorer(model, (params, extra)),
        extra=extra,
        weight_decay=WEIGHT_DECAY,
        keep=keep,
    )


def stacked_teachers(teachers: Sequence[Mapping[str, PyTree]]) -> PyTree:
    """Variables of several checkpoints as one tree, for `online_teachers_loss`.

    Args:
        teachers: dicts ``{"params", "extra"}``.

    Returns:
        Variables as flax takes them, with a leading axis of teachers.
    """
    variables = ({"params": one["params"], **one["extra"]} for one in teachers)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *variables)


def mean_of_teachers(model: Any, teachers: Sequence[Variables]) -> Callable[[Any], Array]:
    """The mean logits of several teachers, which a projector follows.

    Args:
        model: their network.
        teachers: variables of each.

    Returns:
        Images ``[B, H, W, C]`` to logits ``[B, K]`` on the device.
    """
    each = [scorer(model, jax.device_put(variables)) for variables in teachers]
    return lambda images: weak_targets(jnp.stack([one(images) for one in each]))
