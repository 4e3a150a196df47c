"""A small foundation model, trained in place on a strange domain with wrong captions."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from lnl_jax import models
from lnl_jax.distill.projectors._foundation import Foundation
from lnl_jax.distill.projectors._projector import VIT_TARGETS
from lnl_jax.distill.training import initial_state, step_with, train_in_turn
from lnl_jax.evaluation import unit_rows

WIDTH = 64
# The head, and with it the number of classes, is not used.
TOWER = models.ViT(num_classes=1, width=WIDTH, depth=3, heads=4, patch_size=4)
BATCH, WRONG, NOISE = 64, 0.3, 0.25
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 0.01
PyTree = Any


def encode(params: PyTree, images: Array, dtype: Any = jnp.float32) -> Array:
    """Features ``[B, D]`` of `TOWER` without its head, not normalised."""
    tower = TOWER.clone(dtype=dtype)
    return tower.apply({"params": params}, 2 * images - 1, method="features")


# One function for each dtype, so that a program is compiled once.
@functools.lru_cache(maxsize=4)
def encoder(dtype: Any) -> Callable[..., Array]:
    """`encode` in this dtype, unless it is given another one."""

    def encode_in(params, images, dtype=dtype):
        return encode(params, images, dtype)

    return encode_in


def small_foundation(arrays: Mapping[str, PyTree], *, dtype: Any = jnp.float32) -> Foundation:
    """A model of this tower from its arrays, such as those that were kept of it.

    Args:
        arrays: of `Foundation.arrays`.
        dtype: in which it computes.

    Returns:
        The model.
    """
    return Foundation(**arrays, encode=encoder(dtype), targets=VIT_TARGETS)


def initial_foundation(
    seed: int, image_shape: tuple[int, ...], num_classes: int, *, dtype: Any = jnp.float32
) -> Foundation:
    """A vision transformer and words before training; `scale` too is only initial.

    Args:
        seed: of the random numbers.
        image_shape: height, width and channels.
        num_classes: K.
        dtype: in which it computes.

    Returns:
        The model.
    """
    init, words = jax.random.split(jax.random.key(seed))
    images = jnp.zeros((2, *image_shape))
    start = jax.jit(lambda key: TOWER.init(key, images, method="features")["params"])
    return small_foundation(
        {
            "tower": start(init),
            "words": jax.random.normal(words, (WIDTH, num_classes)) / 8,
            "scale": jnp.float32(10),
        },
        dtype=dtype,
    )


def train_captioned_foundation(
    part: Mapping[str, np.ndarray],
    seed: int,
    steps: int,
    *,
    num_classes: int,
    dtype: Any = jnp.float32,
) -> Foundation:
    """Trains an image tower against learned words, on `shifted_batches`.

    Args:
        part: real images, ``image`` and ``label``.
        seed: of initialisation and batches.
        steps: of AdamW; few leave the model poor, as a strange domain would.
        num_classes: K.
        dtype: in which it computes, in training too.

    Returns:
        The model.
    """
    start = initial_foundation(seed, part["image"].shape[1:], num_classes, dtype=dtype)
    params = {"tower": start.tower, "words": start.words, "log_scale": jnp.log(start.scale)}
    state = initial_state(
        params, learning_rate=LEARNING_RATE, steps=steps, weight_decay=WEIGHT_DECAY
    )
    batches = shifted_batches(part, seed, steps, num_classes=num_classes)
    ((end,),) = train_in_turn(step_with(_loss(start.encode)), [state], batches, keep=[steps])
    return dataclasses.replace(
        start,
        tower=end.params["tower"],
        words=unit_rows(end.params["words"].T).T,
        scale=jnp.exp(end.params["log_scale"]),
    )


def shifted_batches(
    part: Mapping[str, np.ndarray], seed: int, steps: int, *, num_classes: int
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
    """Images ``[..., H, W, C]``, of which half are inverted, with noise.

    Args:
        images: from 0 to 1.
        rng: of the random numbers.

    Returns:
        The same shape.
    """
    inverted = rng.random((*images.shape[:-3], 1, 1, 1)) < 0.5
    noise = NOISE * rng.standard_normal(images.shape, np.float32)
    return np.where(inverted, 1 - images, images) + noise


@functools.lru_cache(maxsize=4)
def _loss(encode: Callable) -> Callable:
    def loss(constants, params, extra, rows, batch, key):
        words = unit_rows(params["words"].T).T
        features = unit_rows(encode(params["tower"], batch["images"]))
        logits = jnp.exp(params["log_scale"]) * (features @ words)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["captions"])
        return losses, (extra, rows, {})

    return loss
