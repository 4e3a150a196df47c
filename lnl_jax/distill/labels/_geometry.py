"""Crop, flip and CutMix of a step, drawn again from a seed instead of stored."""

import hashlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lnl_jax._arguments import check_range
from lnl_jax._host_arguments import check_integer
from lnl_jax.data.resampling import crop_and_resize
from lnl_jax.distill._checks import check_seed, check_step, class_distributions


class Geometry(NamedTuple):
    """What is done to the images of one step.

    Attributes:
        rows: which images of the distilled set, ``[B]``.
        boxes: top, left, height and width of the crops, as fractions, ``[B, 4]``.
        flips: which crops are mirrored, ``[B]``.
        partners: whose pixels are pasted, as places in the batch, ``[B]``.
        paste: top, left, bottom and right of the pasted part, in pixels, ``[4]``.
        area: the fraction of the pixels that is pasted, ``[]``.
    """

    rows: Array
    boxes: Array
    flips: Array
    partners: Array
    paste: Array
    area: Array


def draw_geometry(
    seed: int,
    step: Any,
    *,
    count: int,
    batch_size: int,
    size: tuple[int, int],
    min_area: float = 0.08,
    alpha: float = 1.0,
    flip_rate: float = 0.5,
) -> Geometry:
    r"""The geometry of a step: a pure function of seed and step.

    A pass over the images is a permutation, cut into batches. The area of a crop is uniform from
    `min_area` to 1, its ratio of the sides log-uniform from 3/4 to 4/3 (sides are cut at the image,
    where torchvision draws again), its place uniform. CutMix is one box for the batch,
    :math:`\sqrt{1 - w}` times the sides with :math:`w \sim \mathrm{Beta}(\alpha, \alpha)`.

    Args:
        seed: of the whole run.
        step: number of the step, from 0; may be traced.
        count: images in the distilled set.
        batch_size: images per step, at most `count`; what is left of a pass is dropped.
        size: height and width of the images, in pixels.
        min_area: of the crops, as a fraction; 1 never crops.
        alpha: of CutMix; 0 never mixes.
        flip_rate: of the crops that are mirrored.

    Returns:
        The geometry.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> import functools
        >>> draw = functools.partial(draw_geometry, count=4, batch_size=4, size=(8, 8))
        >>> geometry = jax.jit(draw)(0, 3)
        >>> sorted(geometry.rows.tolist())
        [0, 1, 2, 3]

    References:
        Shen and Xing, "A Fast Knowledge Distillation Framework for Visual Recognition" (FKD, ECCV
        2022), which stores the coordinates; Yun et al., "CutMix" (ICCV 2019), section 3.1.
    """
    check_seed(seed)
    check_step(step)
    check_integer("count", count)
    check_integer("batch_size", batch_size, at_most=count)
    for name, side in zip(("height", "width"), size, strict=True):
        check_integer(f"size: the {name}", side)
    check_range("min_area", min_area, above=0, at_most=1)
    check_range("alpha", alpha, at_least=0, below=math.inf)
    check_range("flip_rate", flip_rate, at_least=0, at_most=1)
    steps = count // batch_size
    run = jax.random.key(seed, impl="threefry2x32")
    order = jax.random.permutation(jax.random.fold_in(run, 2 * (step // steps)), count)
    rows = jax.lax.dynamic_slice_in_dim(order, (step % steps) * batch_size, batch_size)
    crop, flip, partner, mix = jax.random.split(jax.random.fold_in(run, 2 * step + 1), 4)
    paste, area = _paste(mix, size, alpha)
    return Geometry(
        rows,
        _boxes(crop, batch_size, min_area),
        jax.random.bernoulli(flip, flip_rate, (batch_size,)),
        jax.random.permutation(partner, batch_size),
        paste,
        area,
    )


def apply_geometry(images: Array, geometry: Geometry) -> Array:
    """The augmented batch of a step.

    Args:
        images: the whole distilled set, ``[N, H, W, C]``.
        geometry: of `draw_geometry`.

    Returns:
        Crops, mirrored and mixed, floating, ``[B, H, W, C]``.
    """
    crops = crop_and_resize(images[geometry.rows], geometry.boxes)
    crops = jnp.where(geometry.flips[:, None, None, None], crops[:, :, ::-1], crops)
    top, left, bottom, right = geometry.paste
    rows, columns = (jnp.arange(length) for length in crops.shape[1:3])
    inside = ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))[
        None
    ]
    return jnp.where(inside[None, :, :, None], crops[geometry.partners], crops)


def mixed_labels(labels: Array, geometry: Geometry, *, num_classes: int) -> Array:
    """The classes of a step's images, mixed by the area that is pasted.

    Args:
        labels: of the whole distilled set, integers, ``[N]``.
        geometry: of `draw_geometry`.
        num_classes: K.

    Returns:
        Distributions, ``[B, K]``; NaN where a label is outside ``[0, K)``.

    Raises:
        ValueError: if the labels are not integers, or `num_classes` is less than 1.
    """
    check_integer("num_classes", num_classes)
    truth = class_distributions("labels", labels, jnp.shape(labels)[:1], num_classes)
    base = truth[geometry.rows]
    # Where nothing is pasted, it does not matter whose label is no class.
    pasted = jnp.where(geometry.area > 0, truth[geometry.rows[geometry.partners]], 0)
    return (1 - geometry.area) * base + geometry.area * pasted


def geometry_fingerprint(draw: Callable[[int], Geometry]) -> str:
    """What a stored label file remembers of the geometry: a hash of the first four steps.

    It changes with every argument of `draw_geometry`, and with JAX's generator should a release
    draw other numbers.

    Args:
        draw: step to geometry, such as ``functools.partial(draw_geometry, 0, count=...)``.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for step in range(4):
        # Rounded: other devices may differ in the last bit of a root.
        for values in draw(step):
            rounded = np.round(np.asarray(values, np.float64), 4) + 0.0
            digest.update(rounded.tobytes())
    return digest.hexdigest()[:32]


def _boxes(key: Array, count: int, min_area: float) -> Array:
    area, ratio, place = jax.random.split(key, 3)
    area = jax.random.uniform(area, (count,), minval=min_area, maxval=1.0)
    log_ratio = jax.random.uniform(ratio, (count,), minval=-1.0, maxval=1.0) * np.log(4 / 3)
    if min_area == 1:
        area, log_ratio = jnp.ones(count), jnp.zeros(count)
    sides = jnp.sqrt(jnp.stack([area * jnp.exp(log_ratio), area * jnp.exp(-log_ratio)], 1))
    sides = jnp.minimum(sides, 1)
    starts = jax.random.uniform(place, (count, 2)) * (1 - sides)
    return jnp.concatenate([starts, sides], 1)


def _paste(key: Array, size: tuple[int, int], alpha: float) -> tuple[Array, Array]:
    if not alpha:
        return jnp.zeros(4, jnp.int32), jnp.float32(0)
    weight, middle = jax.random.split(key)
    part = jnp.sqrt(1 - jax.random.beta(weight, alpha, alpha))
    lengths = jnp.asarray(size)
    covered = jnp.floor(lengths * part).astype(jnp.int32)
    start = jax.random.randint(middle, (2,), 0, lengths) - covered // 2
    stop = jnp.minimum(start + covered, lengths)
    start = jnp.maximum(start, 0)
    area = jnp.prod(stop - start) / jnp.prod(lengths)
    return jnp.concatenate([start, stop]), area.astype(jnp.float32)
