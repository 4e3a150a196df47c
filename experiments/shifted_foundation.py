"""A small foundation model, trained in place on a strange domain with wrong captions."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.descent import descend
from experiments.foundation_models import Foundation, FoundationMaker
from lnl_jax import distill, models

WIDTH = 64
# The head, and with it the number of classes, is not used.
TOWER = models.ViT(num_classes=1, width=WIDTH, depth=3, heads=4, patch_size=4)
BATCH, WRONG, NOISE = 64, 0.3, 0.25
PyTree = Any


def encode(params: PyTree, images: jax.Array, dtype: Any = jnp.float32) -> jax.Array:
    """Features ``[B, D]`` of `TOWER` without its head, not normalised."""
    tower = TOWER.clone(dtype=dtype)
    return tower.apply({"params": params}, 2 * images - 1, method="features")


def initial_foundation(seed: int, image_shape: tuple[int, ...], num_classes: int) -> Foundation:
    """Before training; `scale` and `words` too are only initial."""
    init, words = jax.random.split(jax.random.key(seed))
    images = jnp.zeros((2, *image_shape))
    start = jax.jit(lambda key: TOWER.init(key, images, method="features")["params"])
    return Foundation(
        tower=start(init),
        words=jax.random.normal(words, (WIDTH, num_classes)) / 8,
        scale=jnp.float32(10),
        encode=encode,
        targets=distill.projectors.VIT_TARGETS,
    )


def trained_in_place(seed: int, steps: int) -> FoundationMaker:
    """A `FoundationMaker` that trains; its arguments are those of `train_foundation`."""
    return FoundationMaker(
        lambda parts: jax.eval_shape(
            lambda: initial_foundation(seed, parts.image_shape, parts.num_classes)
        ),
        lambda parts: train_foundation(parts.train, seed, steps, num_classes=parts.num_classes),
    )


def train_foundation(part: Mapping, seed: int, steps: int, *, num_classes: int) -> Foundation:
    """Image tower against learned words, on `shifted_batches`.

    Args:
        part: real images and labels.
        seed: of initialisation and batches.
        steps: of AdamW.
        num_classes: K.

    Returns:
        The model.
    """
    start = initial_foundation(seed, part["image"].shape[1:], num_classes)
    trained = {"tower": start.tower, "words": start.words, "log_scale": jnp.log(start.scale)}
    (trained, _), _ = descend(
        _loss,
        (trained, {}),
        shifted_batches(part, seed, steps, num_classes=num_classes),
        learning_rate=1e-3,
    )
    return dataclasses.replace(
        start,
        tower=trained["tower"],
        words=distill.projectors.unit_rows(trained["words"].T).T,
        scale=jnp.exp(trained["log_scale"]),
    )


def shifted_batches(
    part: Mapping, seed: int, steps: int, *, num_classes: int
) -> dict[str, np.ndarray]:
    """The strange domain: half of the images inverted, strong noise, 30% wrong captions.

    A wrong caption belongs to an image for ever.

    Args:
        part: real images and labels.
        seed: of all that is random.
        steps: how many batches.
        num_classes: K.

    Returns:
        `images`, ``[steps, B, H, W, C]``, and `captions`, ``[steps, B]``.
    """
    rng = np.random.default_rng((seed, 1))
    size = len(part["label"])
    wrong = (part["label"] + rng.integers(1, num_classes, size)) % num_classes
    captions = np.where(rng.random(size) < WRONG, wrong, part["label"])
    rows = rng.integers(0, size, (steps, BATCH))
    return {"images": strange_views(part["image"][rows], rng), "captions": captions[rows]}


def strange_views(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images ``[..., H, W, C]``, of which half are inverted, with noise."""
    inverted = rng.random((*images.shape[:-3], 1, 1, 1)) < 0.5
    noise = NOISE * rng.standard_normal(images.shape, np.float32)
    return np.where(inverted, 1 - images, images) + noise


def _loss(trained, fixed, batch, constants):
    words = distill.projectors.unit_rows(trained["words"].T).T
    features = distill.projectors.unit_rows(encode(trained["tower"], batch["images"]))
    logits = jnp.exp(trained["log_scale"]) * (features @ words)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["captions"])
    return losses.mean(), fixed
