"""The images of a distilled set and their controls, as the bytes in which they are stored."""

import io
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lnl_jax import distill


class ImageSet(NamedTuple):
    """Images as stored, uint8 ``[N, H, W, C]``, class by class, and their classes ``[N]``."""

    pixels: np.ndarray
    classes: np.ndarray

    @property
    def images(self) -> np.ndarray:
        """What a student sees: the stored pixels, from 0 to 1."""
        return self.pixels / np.float32(255)

    def file(self) -> bytes:
        """As an ``.npz`` file."""
        buffer = io.BytesIO()
        np.savez(buffer, image=self.pixels, label=self.classes.astype(np.uint8))
        return buffer.getvalue()


def stored_images(images: np.ndarray, classes: np.ndarray) -> ImageSet:
    """Pixels from 0 to 1, rounded to bytes."""
    pixels = np.clip(np.round(255 * np.asarray(images)), 0, 255).astype(np.uint8)
    return ImageSet(pixels, np.asarray(classes))


def best_crops(
    part: Mapping,
    score: Callable[[jax.Array], jax.Array],
    *,
    per_class: int,
    seed: int,
    pool: int = 60,
) -> tuple[np.ndarray, np.ndarray]:
    """RDED with one crop per image: those of every class that the teacher is surest of.

    Args:
        part: real images and labels.
        score: the teacher, images to logits.
        per_class: images of each class.
        seed: of pool and crops.
        pool: images of a class that are looked at.

    Returns:
        Images and classes.
    """

    def loss(images, labels):
        return optax.softmax_cross_entropy_with_integer_labels(score(images), labels)

    key = jax.random.key(seed + 300)
    pool = max(pool, per_class)
    return distill.images.patch_selection(
        loss, part["image"], part["label"], per_class, key, pool=pool
    )


def random_controls(part: Mapping, *, per_class: int, seed: int) -> ImageSet:
    """Random real images."""
    rows = distill.images.random_images(part["label"], per_class, np.random.default_rng((seed, 2)))
    return stored_images(part["image"][rows], part["label"][rows])


def updated(crops: np.ndarray, encode: Callable[[jax.Array], jax.Array]) -> np.ndarray:
    """Crops after HeLlO's image update by an adapted tower."""
    return np.asarray(
        distill.images.image_update(
            lambda images: distill.projectors.unit_rows(encode(images)), jnp.asarray(crops)
        )
    )
