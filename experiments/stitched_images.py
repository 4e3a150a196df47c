"""Distilled images out of a folder: RDED's patches, stitched and stored as JPEG; random ones."""

import dataclasses
import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.arguments import StudyError
from experiments.folder_parts import Reading
from lnl_jax import data, distill
from lnl_jax.data.decoding import decode
from lnl_jax.data.preprocess import CLIP_MEAN

QUALITY = 90


class Selection(NamedTuple):
    """How patches are found.

    Attributes:
        factor: patches in a row of an image.
        pool: images of a class that are looked at.
        crops: of each of them.
        seed: of pool and crops.
    """

    factor: int
    pool: int
    crops: int
    seed: int


@dataclasses.dataclass(frozen=True)
class StoredImages:
    """Distilled images as they are stored; a few thousand JPEGs fit where their pixels would not.

    Attributes:
        content: N JPEGs, class by class.
        label: their classes, ``[N]``.
    """

    content: tuple[bytes, ...]
    label: np.ndarray

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        """The pixels at some positions, for `data.stream`."""
        return np.stack([decode(self.content[at], "", lambda image: image) for at in positions])

    def file(self, classes: Sequence[str]) -> bytes:
        """A ``.zip`` with a folder for each class."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for number, (content, label) in enumerate(zip(self.content, self.label, strict=True)):
                # Of a fixed date: the same images make the same file.
                file.writestr(zipfile.ZipInfo(f"{classes[label]}/{number}.jpg"), content)
        return buffer.getvalue()


def check_counts(per_class: Sequence[int], label: np.ndarray, selection: Selection) -> None:
    """Whether the smallest class has patches enough.

    Raises:
        StudyError: if not.
    """
    least = min(np.bincount(label).min(), selection.pool)
    most = least // selection.factor**2
    if max(per_class) > most:
        raise StudyError(
            f"per_class must be from 1 to {most}: an image takes {selection.factor**2} patches of "
            f"as many images, and {least} of the smallest class are looked at; got {per_class}. "
            "Give a smaller factor, or a larger pool where the class has more images."
        )


def choose_patches(
    part: data.ImageFolder,
    predict: Callable[[Any], jax.Array],
    count: int,
    selection: Selection,
    reading: Reading,
) -> np.ndarray:
    """RDED's choice: patches that a teacher is surest of, from different images of a class.

    Args:
        part: real images.
        predict: the teacher, images from 0 to 1 to scores.
        count: patches of each class.
        selection: among which ones.
        reading: how images are read.

    Returns:
        Row of the image and number of its crop, the best first, ``[K, count, 2]``.
    """
    rows = _pool(part.label, selection)
    score = jax.jit(lambda crops, labels: _losses(predict, crops, labels, selection.factor))
    # As many images at a time as make a batch of crops.
    at_once = max(reading.batch_size // selection.crops, 1)
    plan = data.epoch_plan(len(rows), at_once)
    plan["position"] = rows[plan["position"]]
    crops = {"image": _crops(part, selection, reading), "label": part.label}
    found = [
        np.asarray(score(batch["image"], batch["label"]))
        for batch in data.stream(crops, plan, num_threads=reading.num_threads)
    ]
    losses = np.concatenate(found)[: len(rows)]
    chosen = []
    for label in range(len(part.classes)):
        members = np.flatnonzero(part.label[rows] == label)
        order, best = distill.images.ranked_crops(losses[members])
        chosen.append(np.stack([rows[members[order]], best], 1)[:count])
    return np.stack(chosen).astype(np.int32)


def stitched(
    part: data.ImageFolder,
    chosen: np.ndarray,
    per_class: int,
    selection: Selection,
    reading: Reading,
) -> StoredImages:
    """The chosen patches, decoded again and put side by side.

    Args:
        part: real images.
        chosen: of `choose_patches`, with the same selection and reading.
        per_class: images of each class.
        selection: how patches were found.
        reading: how images are read.
    """
    wanted = chosen[:, : per_class * selection.factor**2]
    plan = {"position": wanted[..., 0], "mask": np.ones(wanted.shape[:2], bool)}
    crops = {"image": _crops(part, selection, reading)}
    content = []
    batches = data.stream(crops, plan, num_threads=reading.num_threads)
    for number, batch in enumerate(batches):
        best = batch["image"][np.arange(len(wanted[number])), wanted[number, :, 1]]
        content += map(_jpeg, distill.images.stitch(best, per_class, selection.factor))
    return StoredImages(tuple(content), np.repeat(np.arange(len(part.classes)), per_class))


def random_middles(
    part: data.ImageFolder, per_class: int, reading: Reading, seed: int
) -> StoredImages:
    """Random real images, the control."""
    rows = distill.images.random_images(part.label, per_class, np.random.default_rng((seed, 2)))
    plan = data.epoch_plan(len(rows), reading.batch_size)
    mask, plan["position"] = plan["mask"], rows[plan["position"]]
    middles = {"image": data.MiddleImages(part.files, reading.size)}
    batches = data.stream(middles, plan, num_threads=reading.num_threads)
    content = [
        _jpeg(image)
        for batch, real in zip(batches, mask, strict=True)
        for image in batch["image"][real]
    ]
    return StoredImages(tuple(content), part.label[rows])


def _pool(label: np.ndarray, selection: Selection) -> np.ndarray:
    """Rows of random images of every class, of all where there are fewer than the pool takes."""
    rng = np.random.default_rng((selection.seed, 4))
    classes = range(label.max() + 1)
    members = [rng.permutation(np.flatnonzero(label == one)) for one in classes]
    return np.concatenate([rows[: selection.pool] for rows in members])


def _crops(part: data.ImageFolder, selection: Selection, reading: Reading) -> data.CroppedImages:
    return data.CroppedImages(
        part.files,
        reading.size // selection.factor,
        (selection.seed, 5),
        crops=selection.crops,
        min_area=0.25,
        max_ratio=1.0,
        flip_rate=0.0,
    )


def _losses(predict: Callable, crops: jax.Array, labels: jax.Array, factor: int) -> jax.Array:
    """Cross-entropies of crops in the middle of the mean colour, ``[B, crops]``."""
    mean = jnp.asarray(CLIP_MEAN)
    flat = crops.reshape(-1, *crops.shape[2:]) / 255 - mean[None, None, None]
    images = distill.images.on_zeros(flat, factor) + mean[None, None, None]
    repeated = jnp.repeat(labels, crops.shape[1])
    losses = optax.softmax_cross_entropy_with_integer_labels(predict(images), repeated)
    return losses.reshape(crops.shape[:2])


def _jpeg(pixels: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=QUALITY)
    return buffer.getvalue()


def first_images(images: StoredImages, *, classes: int, most: int) -> np.ndarray:
    """The first few of the first classes, from 0 to 1, class by class, for a figure."""
    per_class = np.bincount(images.label)[0]
    rows = np.arange(len(images.label)).reshape(-1, per_class)[:classes, :most]
    return images[rows.ravel()] / np.float32(255)


def batches_of(
    images: StoredImages, positions: np.ndarray, *, num_threads: int
) -> Iterator[dict[str, np.ndarray]]:
    """Decoded batches ``[B, H, W, 3]``, uint8, for positions ``[steps, B]``."""
    plan = {"position": positions, "mask": np.ones(positions.shape, bool)}
    rows = {"image": images, "label": images.label}
    return data.stream(rows, plan, num_threads=num_threads)
