"""Distilled images: the patches a teacher likes, stitched; and optimised ones."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from lnl_jax.data.resampling import crop_and_resize

PyTree = Any


def random_images(labels: np.ndarray, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Random real images of every class: the control that every table needs.

    Args:
        labels: integers, ``[N]``.
        per_class: images of each class.
        rng: the generator.

    Returns:
        Row numbers, class by class, ``[K * per_class]``.

    Raises:
        ValueError: if a class has fewer images.
    """
    rows = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if per_class < 1 or per_class > len(members):
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
        crops: of each image.
        min_area: of a crop.

    Returns:
        Images ``[K * per_class, H, W, C]``, class by class, and their labels.

    Raises:
        ValueError: if a class has too few images, or `factor` does not divide the sides.

    References:
        Sun et al., "On the Diversity and Realism of Distilled Dataset: An Efficient Dataset
        Distillation Paradigm" (RDED, CVPR 2024), section 3.
    """
    height, width = images.shape[1:3]
    if height % factor or width % factor:
        raise ValueError(f"factor must divide the sides {height} and {width}, got {factor}.")
    wanted = per_class * factor**2
    found, classes = [], np.unique(labels)
    scored = jax.jit(lambda crops, label: score(_on_zeros(crops, factor), label))
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
        small = _shrunk(crop_and_resize(repeated, _squares(cut, len(repeated), min_area)), factor)
        losses = np.asarray(scored(small, jnp.full(len(small), label))).reshape(-1, crops)
        best = losses.argmin(1)
        order = np.argsort(losses.min(1), kind="stable")[:wanted]
        chosen = np.asarray(small)[order * crops + best[order]]
        found.append(stitch(chosen, per_class, factor))
    return np.concatenate(found), np.repeat(classes, per_class)


def stitch(patches: np.ndarray, count: int, factor: int) -> np.ndarray:
    """Grids of patches: image j has in cell k the patch ``k * count + j``.

    Args:
        patches: ``[count * factor**2, h, w, C]``.
        count: images.
        factor: patches in a row.

    Returns:
        ``[count, h * factor, w * factor, C]``.
    """
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
        ValueError: if a class has too few images.

    References:
        Xiao et al., "Rethinking Large-scale Dataset Compression: Shifting Focus From Labels to
        Images" (2025), the framework PCA.
    """
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
            stitch(np.asarray(_shrunk(jnp.asarray(images[easy]), factor)), per_class, factor)
        )
    return np.concatenate(found), np.repeat(classes, per_class)


def tile_boxes(key: Array, boxes: Array, *, factor: int) -> Array:
    """Puts crops of a whole image into one random tile each.

    Args:
        key: of the random numbers.
        boxes: fractions of a tile, as of `draw_geometry`, ``[B, 4]``.
        factor: tiles in a row.

    Returns:
        Fractions of the image, ``[B, 4]``.
    """
    tile = jax.random.randint(key, (len(boxes), 2), 0, factor)
    return jnp.concatenate([tile + boxes[:, :2], boxes[:, 2:]], 1) / factor


def batch_norm_gap(
    found: list[tuple[Array, Array]],
    wanted: list[tuple[Array, Array]],
    *,
    first_weight: float = 10.0,
) -> Array:
    r"""How far the statistics of a batch are from those of the real data.

    .. math:: \sum_l w_l \big( \lVert \mu_l - \hat\mu_l \rVert_2 +
        \lVert \sigma^2_l - \hat\sigma^2_l \rVert_2 \big)

    Norms, not squares, of what goes into each normalisation; their gradient is 0 at a perfect fit.

    Args:
        found: mean and biased variance of the batch at every normalisation, ``[C]`` each.
        wanted: the running ones of the teacher; those of one class in LPLD.
        first_weight: of the first; the others have 1.

    Returns:
        The gap, ``[]``.

    References:
        Yin et al., "Squeeze, Recover and Relabel: Dataset Condensation at ImageNet Scale From A New
        Perspective" (SRe2L, NeurIPS 2023), Eq. 9, with the weights of its code.
    """
    gaps = [
        _norm(mean - real_mean) + _norm(var - real_var)
        for (mean, var), (real_mean, real_var) in zip(found, wanted, strict=True)
    ]
    return sum(gaps[1:], first_weight * gaps[0])


def recover(
    objective: Callable[[Array, Array, Array], Array],
    shape: tuple[int, ...],
    key: Array,
    *,
    steps: int = 4000,
    learning_rate: float = 0.25,
    low: Array | float = 0.0,
    high: Array | float = 1.0,
    start: Array | None = None,
) -> Array:
    """SRe2L's recovery: images from noise that a teacher takes for real ones of their class.

    Adam with betas 0.5 and 0.9, the learning rate falls to 0 by a cosine; pixels are clipped after
    each step. The last iterate counts, as in the official code.

    Args:
        objective: ``(images, key, step)`` to a loss: cross-entropy of a random view plus a small
            multiple of `batch_norm_gap`.
        shape: of the images, ``[B, H, W, C]``.
        key: of the random numbers.
        steps: of Adam.
        learning_rate: the first.
        low: smallest pixel, broadcasts to the images.
        high: largest pixel.
        start: where to begin; None for standard normal pixels.

    Returns:
        The images.

    References:
        Yin et al., "Squeeze, Recover and Relabel: Dataset Condensation at ImageNet Scale From A New
        Perspective" (SRe2L, NeurIPS 2023), section 3.2.
    """
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, steps), b1=0.5, b2=0.9)
    begin, key = jax.random.split(key)
    images = jax.random.normal(begin, shape) if start is None else start

    @jax.jit
    def descend(images, state, key, step):
        gradient = jax.grad(objective)(images, jax.random.fold_in(key, step), step)
        update, state = tx.update(gradient, state)
        return jnp.clip(images + update, low, high), state

    state = tx.init(images)
    for step in range(steps):
        images, state = descend(images, state, key, jnp.int32(step))
    return images


def image_update(
    encode: Callable[[Array], Array],
    images: Array,
    *,
    factor: int = 2,
    steps: int = 50,
    learning_rate: float = 0.01,
) -> Array:
    r"""HeLlO's update: low-resolution patches whose features are those of the originals.

    .. math:: \min_q \lVert E(\mathrm{up}(q)) - E(p) \rVert^2, \qquad q_0 = \mathrm{down}(p)

    The features of the originals are fixed: were both sides free, blurring would solve it.

    Args:
        encode: the image tower, images to features.
        images: p, ``[B, H, W, C]``; `factor` divides H and W.
        factor: by which q is smaller.
        steps: of Adam.
        learning_rate: of Adam.

    Returns:
        up(q), with the shape of `images`.

    References:
        "Heavy Labels Out! Dataset Distillation with Label Space Lightening" (HeLlO, ICCV 2025), the
        image update, in our reading; the paper gains 0.1 points by it.
    """
    target = encode(images)
    tx = optax.adam(learning_rate)

    def loss(small):
        return jnp.square(encode(_enlarged(small, images.shape)) - target).mean(-1).sum()

    @jax.jit
    def descend(small, state):
        update, state = tx.update(jax.grad(loss)(small), state)
        return small + update, state

    small = _shrunk(images, factor)
    state = tx.init(small)
    for _ in range(steps):
        small, state = descend(small, state)
    return _enlarged(small, images.shape)


def _squares(key: Array, count: int, min_area: float) -> Array:
    area, place = jax.random.split(key)
    sides = jnp.sqrt(jax.random.uniform(area, (count, 1), minval=min_area, maxval=1.0))
    starts = jax.random.uniform(place, (count, 2)) * (1 - sides)
    return jnp.concatenate([starts, sides, sides], 1)


def _shrunk(images: Array, factor: int) -> Array:
    """Means of squares of pixels."""
    size, height, width, channels = images.shape
    cells = images.reshape(size, height // factor, factor, width // factor, factor, channels)
    return cells.mean((2, 4))


def _enlarged(images: Array, shape: tuple[int, ...]) -> Array:
    return jax.image.resize(images, shape, "bilinear")


def _on_zeros(patches: Array, factor: int) -> Array:
    """Patches in the middle of an image of zeros."""
    rows, columns = (side * (factor - 1) for side in patches.shape[1:3])
    pads = [(0, 0), (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0)]
    return jnp.pad(patches, pads)


def _norm(values: Array) -> Array:
    squares = jnp.square(values).sum()
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)
