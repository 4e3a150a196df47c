"""The images of a distilled set and their controls, as the bytes in which they are stored."""

import io
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lnl_jax.distill.images._patches import patch_selection, random_images
from lnl_jax.distill.images._synthesis import image_update
from lnl_jax.distill.labels._views import Views, draw_views
from lnl_jax.evaluation import unit_rows


class ImageSet(NamedTuple):
    """A distilled set in memory, as it is stored.

    Attributes:
        pixels: uint8, ``[N, H, W, C]``, class by class.
        classes: theirs, ``[N]``.
    """

    pixels: np.ndarray
    classes: np.ndarray

    @property
    def images(self) -> np.ndarray:
        """What a student sees: the stored pixels, from 0 to 1."""
        return self.pixels / np.float32(255)

    def views(self, *, seed: int, epochs: int, batch_size: int, **options: Any) -> Views:
        """So many passes over the set by `labels.draw_views`, in batches of at most its size."""
        count = len(self.classes)
        batch_size = min(batch_size, count)
        steps = epochs * (count // batch_size)
        options |= {"seed": seed, "steps": steps, "batch_size": batch_size}
        return draw_views(self.images, self.classes, **options)

    def first(self, *, classes: int, most: int) -> np.ndarray:
        """The first few images of the first classes, from 0 to 1, class by class."""
        rows = np.arange(len(self.classes)).reshape(-1, np.bincount(self.classes)[0])
        return self.images[rows[:classes, :most].ravel()]

    def file(self) -> bytes:
        """As an ``.npz`` file."""
        buffer = io.BytesIO()
        np.savez(buffer, image=self.pixels, label=self.classes.astype(np.uint8))
        return buffer.getvalue()


def stored_images(images: np.ndarray, classes: np.ndarray) -> ImageSet:
    """Images from 0 to 1, rounded to bytes.

    Args:
        images: ``[N, H, W, C]``.
        classes: theirs, ``[N]``.

    Returns:
        The set.
    """
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
    return patch_selection(loss, part["image"], part["label"], per_class, key, pool=pool)


def random_image_set(part: Mapping, *, per_class: int, seed: int) -> ImageSet:
    """Random real images, the control of a distilled set.

    Args:
        part: real images, ``image`` and ``label``.
        per_class: images of each class.
        seed: of the choice.

    Returns:
        The set.
    """
    rows = random_images(part["label"], per_class, np.random.default_rng((seed, 2)))
    return stored_images(part["image"][rows], part["label"][rows])


def updated_images(crops: np.ndarray, encode: Callable[[jax.Array], jax.Array]) -> np.ndarray:
    """Crops after HeLlO's image update by an adapted tower.

    Args:
        crops: from 0 to 1, ``[N, H, W, C]``.
        encode: the tower, images to features.

    Returns:
        The same shape.
    """
    return np.asarray(image_update(lambda images: unit_rows(encode(images)), jnp.asarray(crops)))


def distilled_sets(
    part: Mapping[str, np.ndarray],
    score: Callable[[jax.Array], jax.Array],
    *,
    per_class: int,
    seed: int,
    encode: Callable[[jax.Array], jax.Array] | None = None,
) -> dict[str, ImageSet]:
    """The distilled images, and the controls that they are compared with.

    Args:
        part: real images and labels.
        score: the teacher, images to logits.
        per_class: images of each class.
        seed: of pool, crops and choice.
        encode: the adapted tower by which the images are updated; None leaves that out.

    Returns:
        The sets `distilled`, `random` and, where there is a tower, `updated`.
    """
    crops, classes = best_crops(part, score, per_class=per_class, seed=seed)
    sets = {
        "distilled": stored_images(crops, classes),
        "random": random_image_set(part, per_class=per_class, seed=seed),
    }
    if encode is not None:
        sets["updated"] = stored_images(updated_images(crops, encode), classes)
    return sets
