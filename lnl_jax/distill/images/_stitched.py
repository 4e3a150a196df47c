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

from lnl_jax import data
from lnl_jax._extras import require
from lnl_jax.data.decoding import decode
from lnl_jax.data.preprocess import CLIP_MEAN
from lnl_jax.distill.images._distilled import updated_images
from lnl_jax.distill.images._folder import Reading
from lnl_jax.distill.images._patches import on_zeros, random_images, ranked_crops, stitch

QUALITY = 90


class PatchPool(NamedTuple):
    """Among which patches of real images a distilled set is chosen.

    Attributes:
        factor: patches in a row of a distilled image.
        pool: images of a class among which patches are chosen.
        crops: of each of them.
        seed: of pool and crops.
    """

    factor: int = 2
    pool: int = 300
    crops: int = 5
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class JpegSet:
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

    def first(self, *, classes: int, most: int) -> np.ndarray:
        """The first few images of the first classes, from 0 to 1, class by class."""
        rows = np.arange(len(self.label)).reshape(-1, np.bincount(self.label)[0])
        return self[rows[:classes, :most].ravel()] / np.float32(255)

    def file(self, classes: Sequence[str]) -> bytes:
        """A ``.zip`` with a folder for each class."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for number, (content, label) in enumerate(zip(self.content, self.label, strict=True)):
                # Of a fixed date: the same images make the same file.
                file.writestr(zipfile.ZipInfo(f"{classes[label]}/{number}.jpg"), content)
        return buffer.getvalue()


def check_patch_counts(
    per_class: Sequence[int], label: np.ndarray, pool: PatchPool, image_size: int
) -> None:
    """Whether the smallest class has patches enough.

    Args:
        per_class: sizes of the distilled set, images of each class.
        label: of the real images, ``[N]``.
        pool: among which patches are chosen.
        image_size: rows and columns of a distilled image.

    Raises:
        ValueError: if not, or if patches do not fill an image.
    """
    if image_size % pool.factor:
        raise ValueError(f"factor must divide the image_size of {image_size}, got {pool.factor}.")
    least = min(np.bincount(label).min(), pool.pool)
    most = least // pool.factor**2
    if min(per_class) < 1 or max(per_class) > most:
        raise ValueError(
            f"per_class must be from 1 to {most}: an image takes {pool.factor**2} patches of "
            f"as many images, and {least} of the smallest class are looked at; got {per_class}. "
            "Give a smaller factor, or a larger pool where the class has more images."
        )


def choose_patches(
    part: data.ImageFolder,
    predict: Callable[[Any], jax.Array],
    count: int,
    pool: PatchPool,
    reading: Reading,
) -> np.ndarray:
    """RDED's choice: patches that a teacher is surest of, from different images of a class.

    Args:
        part: real images.
        predict: the teacher, images from 0 to 1 to scores.
        count: patches of each class.
        pool: among which ones.
        reading: how images are read.

    Returns:
        Row of the image and number of its crop, the best first, ``[K, count, 2]``.
    """
    rows = _pooled_rows(part.label, pool)
    score = jax.jit(lambda crops, labels: _losses(predict, crops, labels, pool.factor))
    # As many images at a time as make a batch of crops.
    at_once = max(reading.batch_size // pool.crops, 1)
    plan = data.epoch_plan(len(rows), at_once)
    plan["position"] = rows[plan["position"]]
    crops = {"image": _crops(part, pool, reading), "label": part.label}
    found = [
        np.asarray(score(batch["image"], batch["label"]))
        for batch in data.stream(crops, plan, num_threads=reading.num_threads)
    ]
    losses = np.concatenate(found)[: len(rows)]
    chosen = []
    for label in range(len(part.classes)):
        members = np.flatnonzero(part.label[rows] == label)
        order, best = ranked_crops(losses[members])
        chosen.append(np.stack([rows[members[order]], best], 1)[:count])
    return np.stack(chosen).astype(np.int32)


def stitched_jpegs(
    part: data.ImageFolder,
    chosen: np.ndarray,
    per_class: int,
    pool: PatchPool,
    reading: Reading,
) -> JpegSet:
    """The chosen patches, decoded again and put side by side.

    Args:
        part: real images.
        chosen: of `choose_patches`, with the same pool and reading.
        per_class: images of each class.
        pool: how patches were found.
        reading: how images are read.

    Returns:
        The distilled set.
    """
    wanted = chosen[:, : per_class * pool.factor**2]
    plan = {"position": wanted[..., 0], "mask": np.ones(wanted.shape[:2], bool)}
    crops = {"image": _crops(part, pool, reading)}
    content = []
    batches = data.stream(crops, plan, num_threads=reading.num_threads)
    for number, batch in enumerate(batches):
        best = batch["image"][np.arange(len(wanted[number])), wanted[number, :, 1]]
        content += map(_jpeg, stitch(best, per_class, pool.factor))
    return JpegSet(tuple(content), np.repeat(np.arange(len(part.classes)), per_class))


def random_jpegs(part: data.ImageFolder, per_class: int, reading: Reading, seed: int) -> JpegSet:
    """The middles of random real images, the control of a distilled set.

    Args:
        part: real images.
        per_class: images of each class.
        reading: how images are read.
        seed: of the choice.

    Returns:
        The set.
    """
    rows = random_images(part.label, per_class, np.random.default_rng((seed, 2)))
    plan = data.epoch_plan(len(rows), reading.batch_size)
    mask, plan["position"] = plan["mask"], rows[plan["position"]]
    middles = {"image": data.MiddleImages(part.files, reading.size)}
    batches = data.stream(middles, plan, num_threads=reading.num_threads)
    content = [
        _jpeg(image)
        for batch, real in zip(batches, mask, strict=True)
        for image in batch["image"][real]
    ]
    return JpegSet(tuple(content), part.label[rows])


def updated_jpegs(
    found: JpegSet, encode: Callable[[jax.Array], jax.Array], *, at_once: int = 64
) -> list[bytes]:
    """A distilled set after HeLlO's image update, so many images at a time.

    Args:
        found: the set.
        encode: the adapted tower, images from 0 to 1 to features.
        at_once: images that are updated together.

    Returns:
        The content of the updated set, as JPEGs; their classes are the same.

    References:
        "Heavy Labels Out!" (HeLlO, ICCV 2025), by `image_update`, on whole images.
    """
    count, content = len(found.label), []
    for start in range(0, count, at_once):
        # Filled up, so that one program is compiled.
        positions = np.resize(np.arange(start, min(start + at_once, count)), min(at_once, count))
        pixels = updated_images(found[positions] / np.float32(255), encode)
        rounded = np.clip(np.round(255 * pixels), 0, 255).astype(np.uint8)
        content += map(_jpeg, rounded[: count - start])
    return content


def stitched_sets(
    part: data.ImageFolder,
    chosen: np.ndarray,
    per_class: Sequence[int],
    pool: PatchPool,
    reading: Reading,
) -> dict[int, dict[str, JpegSet]]:
    """Distilled sets of several sizes, and the random ones that they are compared with.

    Args:
        part: real images.
        chosen: of `choose_patches`, for the largest size.
        per_class: images of each class.
        pool: how patches were found; its seed is that of the random images too.
        reading: how images are read.

    Returns:
        The sets `distilled` and `random` of each size.
    """
    return {
        count: {
            "distilled": stitched_jpegs(part, chosen, count, pool, reading),
            "random": random_jpegs(part, count, reading, pool.seed),
        }
        for count in per_class
    }


def _pooled_rows(label: np.ndarray, pool: PatchPool) -> np.ndarray:
    """Rows of random images of every class, of all where there are fewer than the pool takes."""
    rng = np.random.default_rng((pool.seed, 4))
    classes = range(label.max() + 1)
    members = [rng.permutation(np.flatnonzero(label == one)) for one in classes]
    return np.concatenate([rows[: pool.pool] for rows in members])


def _crops(part: data.ImageFolder, pool: PatchPool, reading: Reading) -> data.CroppedImages:
    return data.CroppedImages(
        part.files,
        reading.size // pool.factor,
        (pool.seed, 5),
        crops=pool.crops,
        min_area=0.25,
        max_ratio=1.0,
        flip_rate=0.0,
    )


def _losses(predict: Callable, crops: jax.Array, labels: jax.Array, factor: int) -> jax.Array:
    """Cross-entropies of crops in the middle of the mean colour, ``[B, crops]``."""
    mean = jnp.asarray(CLIP_MEAN)
    flat = crops.reshape(-1, *crops.shape[2:]) / 255 - mean[None, None, None]
    images = on_zeros(flat, factor) + mean[None, None, None]
    repeated = jnp.repeat(labels, crops.shape[1])
    losses = optax.softmax_cross_entropy_with_integer_labels(predict(images), repeated)
    return losses.reshape(crops.shape[:2])


def _jpeg(pixels: np.ndarray) -> bytes:
    require("PIL")
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=QUALITY)
    return buffer.getvalue()


def decoded_batches(
    images: JpegSet, positions: np.ndarray, *, num_threads: int
) -> Iterator[dict[str, np.ndarray]]:
    """The images at some positions, decoded in threads.

    Args:
        images: the set.
        positions: ``[steps, B]``.
        num_threads: that decode.

    Yields:
        Batches with `image`, bytes ``[B, H, W, 3]``, and `label`.
    """
    plan = {"position": positions, "mask": np.ones(positions.shape, bool)}
    rows = {"image": images, "label": images.label}
    yield from data.stream(rows, plan, num_threads=num_threads)
