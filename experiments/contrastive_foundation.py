"""A foundation model that saw no captions: iSogCLR on the strange domain, then words."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.contrastive import contrasts, new_table
from experiments.descent import descend, in_chunks
from experiments.foundation_models import Foundation
from experiments.shifted_foundation import (
    encode,
    initial_foundation,
    shifted_batches,
    strange_views,
)
from lnl_jax import distill

BATCH, MOST_PIXELS = 64, 2
CAPTIONED_BATCHES = 20
SCALE = 10.0
PyTree = Any
ISOGCLR = contrasts(
    temperature=0.1,
    starts=(0.1,),
    rho=0.4,
    gamma=0.8,
    temperature_step=0.05,
    temperature_momentum=0.9,
    temperature_clip=3.0,
    temperature_range=(0.05, 1.0),
)[-1]


def train_contrastive_foundation(
    part: Mapping, seed: int, steps: int, *, num_classes: int
) -> Foundation:
    """The tower by iSogCLR, from images alone; the words are means over captioned images.

    Args:
        part: real images and labels; the labels only make the captions, 30% of them wrong.
        seed: of initialisation and batches.
        steps: of AdamW.
        num_classes: K.

    Returns:
        The model; its temperatures are not kept.
    """
    start = initial_foundation(seed, part["image"].shape[1:], num_classes)
    table = new_table(len(part["label"]), ISOGCLR.starts[0]).values
    (tower, _), _ = descend(
        _loss, (start.tower, table), contrastive_batches(part, seed, steps), learning_rate=1e-3
    )
    captioned = shifted_batches(part, seed, CAPTIONED_BATCHES, num_classes=num_classes)
    words = mean_words(
        functools.partial(in_chunks, functools.partial(_encode, tower)),
        captioned["images"].reshape(-1, *captioned["images"].shape[2:]),
        captioned["captions"].ravel(),
        num_classes,
    )
    return dataclasses.replace(
        start, tower=tower, words=jnp.asarray(words), scale=jnp.float32(SCALE)
    )


def contrastive_batches(part: Mapping, seed: int, steps: int) -> dict[str, np.ndarray]:
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
    """Images ``[..., H, W, C]`` shifted by whole pixels, zeros coming in."""
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
    """Unit means of the unit features of all images with a caption, ``[D, K]``."""
    found = np.asarray(distill.projectors.unit_rows(jnp.asarray(features(images))))
    means = np.stack([found[captions == k].mean(0) for k in range(num_classes)], 1)
    return means / np.linalg.norm(means, axis=0, keepdims=True)


def _loss(tower, table, batch, constants):
    """The mean of iSogCLR's losses; the table of all images is what is carried along."""
    views = batch["views"].reshape(-1, *batch["views"].shape[2:])
    features = distill.projectors.unit_rows(encode(tower, views)).reshape(2, BATCH, -1)
    rows = jax.tree.map(lambda values: values[batch["index"]], table)
    where = jnp.ones((1, 2 * BATCH), bool)
    losses, rows = ISOGCLR.loss(features, features, rows, where)
    table = jax.tree.map(
        lambda values, new: values.at[batch["index"]].set(jax.lax.stop_gradient(new)), table, rows
    )
    return losses.mean(), table


_encode = jax.jit(encode)
