"""Projectors: a frozen foundation model with a low-rank adapter that learns from teachers."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from lnl_jax.distill.networks import apply_in_chunks
from lnl_jax.distill.projectors._foundation import Foundation
from lnl_jax.distill.projectors._lora import lora_shapes
from lnl_jax.distill.projectors._projector import (
    init_projector,
    project,
    projector_loss,
    weak_targets,
)
from lnl_jax.distill.training import initial_state, step_with, train_in_turn
from lnl_jax.evaluation import unit_rows

if TYPE_CHECKING:
    from lnl_jax.distill.labels._views import Views

PyTree = Any
CE_WEIGHT = 0.1


class Adaptation(NamedTuple):
    """What of a foundation model is trained.

    Attributes:
        rank: of the tower's adapter; 0 leaves the tower as it is.
        head_rank: of the change of the words; None for a change of full size.
        text: whether the head starts from the words of the foundation model, or from random ones.
    """

    rank: int
    head_rank: int | None
    text: bool = True


def adaptations(rank: int, head_rank: int) -> dict[str, Adaptation]:
    """HeLlO's projector, and the others that tell what each of its choices is worth.

    Args:
        rank: of the tower's adapter.
        head_rank: of the head's.

    Returns:
        Adaptations by name.
    """
    return {
        "linear probe": Adaptation(0, None),
        "LoRA, text, low-rank head": Adaptation(rank, head_rank),
        "LoRA, text, full head": Adaptation(rank, None),
        "LoRA, random full head": Adaptation(rank, None, text=False),
    }


class TrainedProjector(NamedTuple):
    """A projector as it is stored.

    Attributes:
        adapter: of `init_projector`, in float16.
        words: what the head started from, ``[D, K]``; public, or drawn from the seed.
    """

    adapter: PyTree
    words: Array


def initial_projector(
    foundation: Foundation, adaptation: Adaptation, seed: int
) -> TrainedProjector:
    """Starts as zero-shot classification, in float32, unless the head is random.

    Args:
        foundation: the frozen model.
        adaptation: what will be trained; of rank 0, it is a linear probe.
        seed: of the factors, and of random words.

    Returns:
        The projector before training.

    Raises:
        ValueError: if the tower has no kernel of `Foundation.targets`.
    """
    key, draw = jax.random.split(jax.random.key(seed + 200))
    words = foundation.words
    if not adaptation.text:
        words = unit_rows(jax.random.normal(draw, words.T.shape)).T
    ranks = {foundation.targets: adaptation.rank} if adaptation.rank else {}
    adapter = init_projector(
        key, foundation.tower, words, ranks, head_rank=adaptation.head_rank, scale=foundation.scale
    )
    return TrainedProjector(adapter, words)


def zero_shot_projector(foundation: Foundation) -> TrainedProjector:
    """The foundation model as it is, as a projector that nothing was trained of.

    Args:
        foundation: the model.

    Returns:
        The projector, in float16.
    """
    return to_float16(initial_projector(foundation, Adaptation(0, None), 0))


def check_ranks(foundation: Foundation, rank: int, head_rank: int) -> None:
    """Whether the factors of an adapter are no wider than what they change.

    Args:
        foundation: its arrays, or their shapes.
        rank: of the tower's adapter.
        head_rank: of the head's.

    Raises:
        ValueError: if not.
    """
    factors = lora_shapes(foundation.tower, {foundation.targets: 1})
    sides = max(math.prod(leaf.shape) for leaf in jax.tree.leaves(factors))
    most = {"rank": (rank, sides), "head_rank": (head_rank, max(foundation.words.shape))}
    for name, (value, least) in most.items():
        if value > least:
            raise ValueError(
                f"{name} must be at most {least}, the size of the matrix that it changes; got "
                f"{value}."
            )


def follow_teachers(logits: Array, batch: Mapping[str, Array]) -> Array:
    """HeLlO's objective: the logits `targets`, and the `classes` with a small weight.

    Args:
        logits: of the projector, ``[B, K]``.
        batch: with `targets`, ``[B, K]``, and `classes`, ``[B]``.

    Returns:
        A loss per example, ``[B]``.
    """
    return projector_loss(logits, batch["targets"], batch["classes"], ce_weight=CE_WEIGHT)


def learn_classes(logits: Array, batch: Mapping[str, Array]) -> Array:
    """Cross-entropy with the classes alone: where no teacher knows more than the tower.

    Args:
        logits: of the projector, ``[B, K]``.
        batch: with `classes`, ``[B]``.

    Returns:
        A loss per example, ``[B]``.
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["classes"])


def train_projector(
    foundation: Foundation,
    adaptation: Adaptation,
    batches: Mapping[str, np.ndarray],
    *,
    seed: int,
    objective: Callable[[Array, Mapping], Array] = follow_teachers,
    learning_rate: float = 3e-3,
) -> TrainedProjector:
    """Fits an adapter to real images, which are in memory with all that the objective reads.

    Args:
        foundation: the frozen model.
        adaptation: what is trained; without a tower's adapter the features are computed once.
        batches: `images`, ``[steps, B, H, W, C]``, and what the objective reads.
        seed: of the initialisation.
        objective: ``(logits [B, K], batch)`` to losses ``[B]``; the same function is one program.
        learning_rate: the first.

    Returns:
        The projector, in float16.

    References:
        "Heavy Labels Out! Dataset Distillation with Label Space Lightening" (HeLlO, ICCV 2025).
    """
    start = initial_projector(foundation, adaptation, seed)
    steps, encode, tower = len(batches["images"]), foundation.encode, foundation.tower
    if not adaptation.rank:
        batches = dict(batches) | {"images": _features(foundation, batches["images"])}
        encode, tower = unchanged, {}
    options = {"steps": steps, "objective": objective, "learning_rate": learning_rate}
    return fitted(start, encode, tower, batches, **options)


def fitted(
    start: TrainedProjector,
    encode: Callable,
    tower: PyTree,
    batches: Mapping | Iterable[Mapping],
    *,
    steps: int,
    objective: Callable,
    learning_rate: float,
) -> TrainedProjector:
    """Trains what a projector starts as; its images go through `encode`."""
    step = step_with(_loss(objective, encode), {"tower": tower, "words": start.words})
    state = initial_state(start.adapter, learning_rate=learning_rate, steps=steps)
    ((end,),) = train_in_turn(step, [state], batches, keep=[steps])
    return to_float16(TrainedProjector(end.params, start.words))


def train_on_views(
    foundation: Foundation,
    adaptation: Adaptation,
    views: "Views",
    classes: np.ndarray,
    teacher: Callable[[Any], Array] | None,
    *,
    seed: int,
) -> TrainedProjector:
    """Fits an adapter to what a teacher says of augmented images, by `follow_teachers`.

    Args:
        foundation: the frozen model.
        adaptation: what is trained.
        views: of real images.
        classes: of these images, ``[N]``; those of what is not pasted are learnt.
        teacher: images to logits on the device; None for the classes alone, by `learn_classes`.
        seed: of the initialisation.

    Returns:
        The projector, in float16.
    """
    batches = {"images": views.images, "classes": classes[views.geometry.rows]}
    if teacher is None:
        return train_projector(foundation, adaptation, batches, seed=seed, objective=learn_classes)
    made = jax.device_get([teacher(images) for images in views.images])
    return train_projector(foundation, adaptation, batches | {"targets": np.stack(made)}, seed=seed)


@functools.lru_cache(maxsize=16)
def _loss(objective: Callable, encode: Callable) -> Callable:
    """For `step_with`: one function for each objective, so that it is compiled once."""

    def loss(constants, params, extra, rows, batch, key):
        frozen = constants["tower"], constants["words"]
        logits = project(encode, *frozen, params, batch["images"])
        return objective(logits, batch), (extra, rows, {})

    return loss


def unchanged(params: PyTree, features: Array) -> Array:
    """Features that were computed beforehand, in place of a tower."""
    return features


def _features(foundation: Foundation, images: np.ndarray) -> np.ndarray:
    """Of all views, ``[steps, B, D]``."""
    flat = images.reshape(-1, *images.shape[2:])
    found = apply_in_chunks(functools.partial(encode_all, jax.device_put(foundation)), flat)
    return found.reshape(*images.shape[:2], -1)


@jax.jit
def encode_all(foundation: Foundation, images: Array) -> Array:
    """Features of a foundation model, in a compiled program."""
    return foundation.encode(foundation.tower, images)


@functools.lru_cache(maxsize=16)
def online_teachers_loss(model: Any, ce_weight: float) -> Callable:
    """HeLlO's objective for batches that are streamed: the teachers see them in the same step.

    Args:
        model: the teachers' network, a flax module.
        ce_weight: of the classes.

    Returns:
        A loss for `step_with` on batches with `image`, bytes ``[B, H, W, C]``, and `label`; its
        constants are the `Foundation` and the teachers' variables, stacked.
    """

    def loss(constants, params, extra, rows, batch, key):
        foundation, teachers = constants
        images = batch["image"].astype(jnp.float32) / 255
        scores = jax.vmap(lambda variables: model.apply(variables, images))(teachers)

        def encode(tower, images):
            return foundation.encode(tower, images, label_dtype())

        logits = project(encode, foundation.tower, foundation.words, params, images)
        losses = projector_loss(logits, weak_targets(scores), batch["label"], ce_weight=ce_weight)
        return losses, (extra, rows, {})

    return loss


def to_float16(projector: TrainedProjector) -> TrainedProjector:
    """Rounds a projector to what is stored of it.

    Args:
        projector: with an adapter of any floating dtype.

    Returns:
        The same in float16.
    """
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), projector.adapter)
    return TrainedProjector(half, projector.words)


def label_dtype() -> Any:
    """The dtype in which a tower makes labels: bfloat16, or float32 on CPUs, where it is faster.

    Returns:
        The dtype.
    """
    return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
