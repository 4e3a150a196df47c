"""A foundation model that saw no captions: iSogCLR on the strange domain, then words."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import contrastive, train
from lnl_jax.distill.networks import apply_in_chunks
from lnl_jax.distill.projectors._captioned_foundation import (
    LEARNING_RATE,
    WEIGHT_DECAY,
    initial_foundation,
    shifted_batches,
    strange_views,
)
from lnl_jax.distill.projectors._foundation import Foundation
from lnl_jax.distill.training import initial_state, step_with, train_in_turn
from lnl_jax.evaluation import unit_rows

BATCH, MOST_PIXELS = 64, 2
CAPTIONED_BATCHES = 20
SCALE = 10.0
TEMPERATURE = 0.1
TEMPERATURES = contrastive.Temperatures(
    rho=0.4, step=0.05, momentum=0.9, range=(0.05, 1.0), clip=3.0
)


def train_contrastive_foundation(
    part: Mapping[str, np.ndarray],
    seed: int,
    steps: int,
    *,
    num_classes: int,
    dtype: Any = jnp.float32,
) -> Foundation:
    """Trains the tower by iSogCLR, from images alone; the words are means over captioned images.

    Args:
        part: real images and labels; the labels only make the captions, 30% of them wrong.
        seed: of initialisation and batches.
        steps: of AdamW.
        num_classes: K.
        dtype: in which it computes, in training too.

    Returns:
        The model; its temperatures are not kept.

    References:
        Qiu et al., "Not All Semantics are Created Equal: Contrastive Self-supervised Learning with
        Automatic Temperature Individualization" (ICML 2023).
    """
    start = initial_foundation(seed, part["image"].shape[1:], num_classes, dtype=dtype)
    state = initial_state(
        start.tower,
        learning_rate=LEARNING_RATE,
        steps=steps,
        weight_decay=WEIGHT_DECAY,
        tables=_table(len(part["label"])),
    )
    batches = contrastive_batches(part, seed, steps)
    # The examples first, as in every batch.
    batches["views"] = np.swapaxes(batches["views"], 1, 2)
    ((end,),) = train_in_turn(step_with(_loss(start.encode)), [state], batches, keep=[steps])
    captioned = shifted_batches(part, seed, CAPTIONED_BATCHES, num_classes=num_classes)
    words = mean_words(
        functools.partial(apply_in_chunks, functools.partial(jax.jit(start.encode), end.params)),
        captioned["images"].reshape(-1, *captioned["images"].shape[2:]),
        captioned["captions"].ravel(),
        num_classes,
    )
    return dataclasses.replace(
        start, tower=end.params, words=jnp.asarray(words), scale=jnp.float32(SCALE)
    )


def contrastive_batches(
    part: Mapping[str, np.ndarray], seed: int, steps: int
) -> dict[str, np.ndarray]:
    """Two views of each image: moved by up to two pixels, half of them inverted, noisy.

    Args:
        part: real images.
        seed: of all that is random.
        steps: how many batches.

    Returns:
        `views`, ``[steps, 2, B, H, W, 1]``, and `index`, ``[steps, B]``, without repetition.
    """
    rng = np.random.default_rng((seed, 3))
    size = len(part["image"])
    index = np.stack([rng.permutation(size)[:BATCH] for _ in range(steps)])
    images = np.repeat(part["image"][index][:, None], 2, 1)
    return {"views": strange_views(moved(images, rng), rng), "index": index}


def moved(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images ``[..., H, W, C]`` shifted by up to two whole pixels, zeros coming in.

    Args:
        images: of any values.
        rng: of the random numbers.

    Returns:
        The same shape.
    """
    height, width, channels = images.shape[-3:]
    flat = images.reshape(-1, height, width, channels)
    most = MOST_PIXELS
    padded = np.pad(flat, ((0, 0), (most, most), (most, most), (0, 0)))
    down, right = rng.integers(0, 2 * most + 1, (2, len(flat)))
    rows = down[:, None, None] + np.arange(height)[None, :, None]
    columns = right[:, None, None] + np.arange(width)[None, None]
    return padded[np.arange(len(flat))[:, None, None], rows, columns].reshape(images.shape)


def mean_words(
    features: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    captions: np.ndarray,
    num_classes: int,
) -> np.ndarray:
    """Unit means of the unit features of all images with a caption.

    Args:
        features: images to ``[N, D]``.
        images: ``[N, ...]``.
        captions: classes, ``[N]``.
        num_classes: K.

    Returns:
        ``[D, K]``.
    """
    found = np.asarray(unit_rows(jnp.asarray(features(images))))
    means = np.stack([found[captions == k].mean(0) for k in range(num_classes)], 1)
    return means / np.linalg.norm(means, axis=0, keepdims=True)


def _table(size: int) -> train.Table:
    rows = contrastive.ContrastiveRows(
        jnp.full(size, TEMPERATURE), jnp.full(size, -jnp.inf), jnp.zeros(size)
    )
    # No batch holds an example twice.
    return train.Table(rows, None)


@functools.lru_cache(maxsize=4)
def _loss(encode: Callable) -> Callable:
    def loss(constants, params, extra, rows, batch, key):
        views = jnp.swapaxes(batch["views"], 0, 1)
        views = views.reshape(-1, *views.shape[2:])
        features = unit_rows(encode(params, views)).reshape(2, len(batch["index"]), -1)
        losses, rows, _ = contrastive.isogclr(
            features, features, rows, gamma=0.8, temperatures=TEMPERATURES
        )
        return losses, (extra, rows, {})

    return loss
