"""Distilled images out of real ones: the patches a teacher likes, stitched; easy ones, tiled."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lnl_jax._arguments import check_range
from lnl_jax._host_arguments import check_integer, host_classes
from lnl_jax.data.resampling import crop_and_resize


def random_images(labels: np.ndarray, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Random real images of every class: the control that every table needs.

    Args:
        labels: integers, ``[N]``.
        per_class: images of each class.
        rng: the generator.

    Returns:
        Row numbers, class by class, ``[K * per_class]``.

    Raises:
        ValueError: if a class has fewer images, or the labels are no classes.
    """
    check_integer("per_class", per_class)
    labels = host_classes(labels, len(labels))
    rows = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if per_class > len(members):
            raise ValueError(
                f"per_class must be from 1 to the {len(members)} images of class {label}, "
                f"got {per_class}."
            )
        rows.append(rng.permutation(members)[:per_class])
    return np.concatenate(rows)


def patch_selection(
    score: Callable[[Array, Array], Array],
    images: np.ndarray,
    labels: np.ndarray,
    per_class: int,
    key: Array,
    *,
    factor: int = 1,
    pool: int = 300,
    crops: int = 5,
    min_area: float = 0.25,
) -> tuple[np.ndarray, np.ndarray]:
    """RDED: of every image its most realistic crop, of a class the best ones, stitched.

    Square crops of `pool` random images of a class are resized to ``1 / factor`` of the image and
    scored on zeros of the full size; the best of each image are sorted, and the first
    ``per_class * factor**2`` fill the grids: image j has in cell k the crop ``k * per_class + j``,
    so that good and less good ones are in each.

    Args:
        score: ``(images [B, H, W, C], labels [B])`` to losses ``[B]``: a teacher's cross-entropy.
        images: real ones, floating, ``[N, H, W, C]``.
        labels: integers, ``[N]``.
        per_class: distilled images of each class.
        key: of the random numbers.
        factor: crops in a row of an image; it divides H and W.
        pool: images of a class that are looked at, all if there are fewer.
        crops: of each image, at least 1.
        min_area: of a crop, as a fraction, above 0.

    Returns:
        Images ``[K * per_class, H, W, C]``, class by class, and their labels.

    Raises:
        ValueError: if a class has too few images, `factor` does not divide the sides, the labels
            are no classes, or a number is out of range.

    References:
        Sun et al., "On the Diversity and Realism of Distilled Dataset: An Efficient Dataset
        Distillation Paradigm" (RDED, CVPR 2024), section 3.
    """
    check_factor(factor, images)
    labels = host_classes(labels, len(images))
    for name, count in (("per_class", per_class), ("pool", pool), ("crops", crops)):
        check_integer(name, count)
    check_range("min_area", min_area, above=0, at_most=1)
    wanted = per_class * factor**2
    found, classes = [], np.unique(labels)
    scored = jax.jit(lambda crops, label: score(on_zeros(crops, factor), label))
    for label, one in zip(classes, jax.random.split(key, len(classes)), strict=True):
        members = np.flatnonzero(labels == label)
        pick, cut = jax.random.split(one)
        members = np.asarray(jax.random.permutation(pick, members))[:pool]
        if not 1 <= wanted <= len(members):
            raise ValueError(
                f"per_class * factor**2 must be from 1 to the {len(members)} images that are "
                f"looked at of class {label}, got {wanted}."
            )
        repeated = jnp.repeat(jnp.asarray(images[members]), crops, 0)
        small = shrunk(crop_and_resize(repeated, _squares(cut, len(repeated), min_area)), factor)
        losses = np.asarray(scored(small, jnp.full(len(small), label))).reshape(-1, crops)
        order, best = ranked_crops(losses)
        chosen = np.asarray(small)[(order * crops + best)[:wanted]]
        found.append(stitch(chosen, per_class, factor))
    return np.concatenate(found), np.repeat(classes, per_class)


def ranked_crops(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RDED's order: of every image its most realistic crop, the most realistic image first.

    Args:
        losses: of the crops of N images, ``[N, crops]``: a teacher's cross-entropy.

    Returns:
        Numbers of the images, and of the crop of each, ``[N]``.

    Raises:
        ValueError: if the losses have another shape, or one is NaN.

    Example:
        >>> ranked_crops(np.array([[3.0, 2.0], [1.0, 4.0]]))
        (array([1, 0]), array([0, 1]))
    """
    if losses.ndim != 2 or not losses.shape[1] or np.isnan(losses).any():
        raise ValueError(
            f"losses must be numbers of shape [N, crops], got the shape {losses.shape} with "
            f"{np.isnan(losses).sum()} NaN."
        )
    order = np.argsort(losses.min(1), kind="stable")
    return order, losses.argmin(1)[order]


def on_zeros(patches: Array, factor: int) -> Array:
    """Patches in the middle of an image of zeros, as RDED scores them.

    Args:
        patches: ``[B, h, w, C]``.
        factor: how many times as large the image is, at least 1.

    Returns:
        ``[B, factor * h, factor * w, C]``.

    Raises:
        ValueError: if `factor` is less than 1.
    """
    check_integer("factor", factor)
    rows, columns = (side * (factor - 1) for side in patches.shape[1:3])
    pads = [(0, 0), (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0)]
    return jnp.pad(patches, pads)


def stitch(patches: np.ndarray, count: int, factor: int) -> np.ndarray:
    """Grids of patches: image j has in cell k the patch ``k * count + j``.

    Args:
        patches: ``[count * factor**2, h, w, C]``.
        count: images.
        factor: patches in a row.

    Returns:
        ``[count, h * factor, w * factor, C]``.

    Raises:
        ValueError: if the patches are not as many.
    """
    check_integer("count", count)
    check_integer("factor", factor)
    if patches.ndim != 4 or len(patches) != count * factor**2:
        raise ValueError(
            f"patches must have the shape [{count * factor**2}, h, w, C], got {patches.shape}."
        )
    height, width, channels = patches.shape[1:]
    grid = patches.reshape(factor, factor, count, height, width, channels)
    grid = grid.transpose(2, 0, 3, 1, 4, 5)
    return grid.reshape(count, factor * height, factor * width, channels)


def prune_and_combine(
    difficulty: np.ndarray, images: np.ndarray, labels: np.ndarray, per_class: int, *, factor: int
) -> tuple[np.ndarray, np.ndarray]:
    """Prune and combine of PCA: the easiest images of each class, whole, shrunk and tiled.

    The augmentation that belongs to it crops within one tile: `tile_boxes`.

    Args:
        difficulty: larger is harder, such as `el2n`, ``[N]``.
        images: real ones, floating, ``[N, H, W, C]``.
        labels: integers, ``[N]``.
        per_class: distilled images of each class.
        factor: tiles in a row; it divides H and W.

    Returns:
        Images ``[K * per_class, H, W, C]`` and their labels.

    Raises:
        ValueError: if a class has too few images, `factor` does not divide the sides, the labels
            are no classes, or a difficulty is missing or NaN.

    References:
        Xiao et al., "Rethinking Large-scale Dataset Compression: Shifting Focus From Labels to
        Images" (2025), the framework PCA.
    """
    check_factor(factor, images)
    check_integer("per_class", per_class)
    labels = host_classes(labels, len(images))
    if difficulty.shape != labels.shape or np.isnan(difficulty).any():
        raise ValueError(
            f"difficulty must be numbers of shape {labels.shape}, got the shape {difficulty.shape} "
            f"with {np.isnan(difficulty).sum()} NaN."
        )
    wanted, found = per_class * factor**2, []
    classes = np.unique(labels)
    for label in classes:
        members = np.flatnonzero(labels == label)
        if not 1 <= wanted <= len(members):
            raise ValueError(
                f"per_class * factor**2 must be from 1 to the {len(members)} images of class "
                f"{label}, got {wanted}."
            )
        easy = members[np.argsort(difficulty[members], kind="stable")[:wanted]]
        found.append(
            stitch(np.asarray(shrunk(jnp.asarray(images[easy]), factor)), per_class, factor)
        )
    return np.concatenate(found), np.repeat(classes, per_class)


def tile_boxes(key: Array, boxes: Array, *, factor: int) -> Array:
    """Puts crops of a whole image into one random tile each.

    Args:
        key: of the random numbers.
        boxes: fractions of a tile, as of `draw_geometry`, ``[B, 4]``.
        factor: tiles in a row, at least 1.

    Returns:
        Fractions of the image, ``[B, 4]``.

    Raises:
        ValueError: if `factor` is less than 1.
    """
    check_integer("factor", factor)
    tile = jax.random.randint(key, (len(boxes), 2), 0, factor)
    return jnp.concatenate([tile + boxes[:, :2], boxes[:, 2:]], 1) / factor


def shrunk(images: Array, factor: int) -> Array:
    """Means of squares of pixels.

    Args:
        images: ``[B, H, W, C]``.
        factor: sides of a square; it divides H and W.

    Returns:
        ``[B, H / factor, W / factor, C]``.
    """
    size, height, width, channels = images.shape
    cells = images.reshape(size, height // factor, factor, width // factor, factor, channels)
    return cells.mean((2, 4))


def check_factor(factor: int, images: Array) -> None:
    """Raises ValueError unless the images ``[N, H, W, C]`` are cut into whole parts."""
    check_integer("factor", factor)
    if np.ndim(images) != 4:
        raise ValueError(f"images must have the shape [N, H, W, C], got {np.shape(images)}.")
    height, width = np.shape(images)[1:3]
    if height % factor or width % factor:
        raise ValueError(f"factor must divide the sides {height} and {width}, got {factor}.")


def _squares(key: Array, count: int, min_area: float) -> Array:
    area, place = jax.random.split(key)
    sides = jnp.sqrt(jax.random.uniform(area, (count, 1), minval=min_area, maxval=1.0))
    starts = jax.random.uniform(place, (count, 2)) * (1 - sides)
    return jnp.concatenate([starts, sides, sides], 1)
