"""Images as a pretrained tower takes them: pure, compiled functions, one program per input size."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lnl_jax._host_arguments import check_integer
from lnl_jax.data.augment import to_float

__all__ = [
    "FlatPatches",
    "clip_images",
    "efficientnet_images",
    "naflex_patches",
    "resize_and_crop",
    "siglip_images",
]

# Of the images that CLIP was trained on, red, green and blue.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@functools.partial(jax.jit, static_argnames="size")
def resize_and_crop(images: jax.Array, *, size: int) -> jax.Array:
    """Resizes the shorter side to `size`, bicubic and without aliasing, and cuts out the middle.

    As Pillow does it: with the cubic of Keys with a = -1/2, columns before rows.

    Args:
        images: ``[B, H, W, C]``, from 0 to 255; uint8 or floating point.
        size: rows and columns of the result, static.

    Returns:
        ``[B, size, size, C]`` from 0 to 255, in the dtype of `images`.

    Raises:
        ValueError: if `images` has another shape or dtype, or `size` is not positive.

    Example:
        >>> images = jnp.full((1, 6, 4, 1), 7, jnp.uint8)
        >>> resize_and_crop(images, size=2)[0, :, :, 0].tolist()
        [[7, 7], [7, 7]]

    References:
        Keys, "Cubic Convolution Interpolation for Digital Image Processing" (1981), equation 15.
    """
    _check(images, size)
    height, width = images.shape[1:3]
    shorter = min(height, width)
    rows, columns = (size * side // shorter for side in (height, width))
    top, left = (round((side - size) / 2) for side in (rows, columns))
    images = _resized(images, rows, columns, jax.image.ResizeMethod.CUBIC)
    return images[:, top : top + size, left : left + size]


@functools.partial(jax.jit, static_argnames="size")
def clip_images(images: jax.Array, *, size: int) -> jax.Array:
    """Images for CLIP's image tower: resized, cut, and standardised by CLIP's colours.

    Args:
        images: ``[B, H, W, 3]``, from 0 to 255; uint8 or floating point. Grey images are repeated
            three times first.
        size: `image_size` of the tower, static.

    Returns:
        ``[B, size, size, 3]``, float32.

    Raises:
        ValueError: if `images` has another shape or dtype, or `size` is not positive.

    Example:
        >>> images = jnp.full((1, 4, 4, 3), 255, jnp.uint8)
        >>> clip_images(images, size=2)[0, 0, 0].round(3).tolist()
        [1.930, 2.075, 2.146]

    References:
        Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
        (ICML 2021), official code.
    """
    _check(images, size)
    _check_colours(images)
    cut = resize_and_crop(images, size=size)
    return to_float(cut, jnp.array(CLIP_MEAN), jnp.array(CLIP_STD))


@functools.partial(jax.jit, static_argnames="size")
def efficientnet_images(images: jax.Array, *, size: int) -> jax.Array:
    r"""Images for EfficientNet-Lite with its published weights: :math:`(v - 127) / 128`.

    Resized and cut as `resize_and_crop` does. The mean and deviation of ImageNet's colours, which
    the page of the converted weights shows, are not those of its training.

    Args:
        images: ``[B, H, W, 3]``, from 0 to 255, red first; uint8 or floating point.
        size: rows and columns, static; 224 in training, 32 at least. Small images are enlarged.

    Returns:
        ``[B, size, size, 3]``, float32.

    Raises:
        ValueError: if `images` has another shape or dtype, or `size` is not positive.

    Example:
        >>> images = jnp.full((1, 4, 4, 3), 255, jnp.uint8)
        >>> efficientnet_images(images, size=2)[0, 0, 0].tolist()
        [1.0, 1.0, 1.0]

    References:
        Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"
        (ICML 2019), official code of the Lite models.
    """
    _check(images, size)
    _check_colours(images)
    return (resize_and_crop(images, size=size).astype(jnp.float32) - 127) / 128


@functools.partial(jax.jit, static_argnames=("size", "method"))
def siglip_images(
    images: jax.Array,
    *,
    size: int,
    method: jax.image.ResizeMethod = jax.image.ResizeMethod.CUBIC,
) -> jax.Array:
    """Images for SigLIP: the whole of them resized to a square, from -1 to 1.

    Nothing is cut off; images that are no squares are distorted.

    Args:
        images: ``[B, H, W, 3]``, from 0 to 255; uint8 or floating point.
        size: `image_size` of the tower, static.
        method: of the interpolation, static; ``ResizeMethod.LINEAR`` for SigLIP 2.

    Returns:
        ``[B, size, size, 3]``, float32.

    Raises:
        ValueError: if `images` has another shape or dtype, or `size` is not positive.

    Example:
        >>> images = jnp.full((1, 6, 4, 3), 255, jnp.uint8)
        >>> siglip_images(images, size=2)[0, 0, 0].tolist()
        [1.0, 1.0, 1.0]

    References:
        Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (ICCV 2023), official code.
    """
    _check(images, size)
    _check_colours(images)
    return _resized(images, size, size, method).astype(jnp.float32) / 127.5 - 1


class FlatPatches(NamedTuple):
    """Images as patches, for towers that take any shape.

    Attributes:
        patches: ``[B, n, patch_size * patch_size * 3]``, float32, row by row, then zeros.
        where: which of them are real, boolean, ``[B, n]``.
        shapes: how many rows and columns of them an image has, int32, ``[B, 2]``.
    """

    patches: jax.Array
    where: jax.Array
    shapes: jax.Array


@functools.partial(jax.jit, static_argnames=("patch_size", "max_patches"))
def naflex_patches(
    images: jax.Array, *, patch_size: int = 16, max_patches: int = 256
) -> FlatPatches:
    """Images for SigLIP 2 NaFlex: resized to at most so many patches, of about their own shape.

    Rows and columns become the largest whole numbers of patches of one common scale that fit;
    bilinear and without aliasing; values from -1 to 1.

    Args:
        images: ``[B, H, W, 3]``, from 0 to 255; uint8 or floating point.
        patch_size: of the tower, static.
        max_patches: n, static.

    Returns:
        The `FlatPatches`: what the tower takes.

    Raises:
        ValueError: if `images` has another shape or dtype, or a size is not positive.

    Example:
        >>> images = jnp.full((1, 20, 40, 3), 255, jnp.uint8)
        >>> found = naflex_patches(images, patch_size=4, max_patches=9)
        >>> found.shapes.tolist(), int(found.where.sum()), found.patches.shape
        ([[2, 4]], 8, (1, 9, 48))

    References:
        Tschannen et al., "SigLIP 2: Multilingual Vision-Language Encoders with Improved Semantic
        Understanding, Localization, and Dense Features" (2025), section 2.4.
    """
    _check(images, patch_size)
    _check_colours(images)
    check_integer("max_patches", max_patches)
    batch, height, width, channels = images.shape
    rows, columns = _whole_patches(height / patch_size, width / patch_size, max_patches)
    linear = jax.image.ResizeMethod.LINEAR
    pixels = _resized(images, rows * patch_size, columns * patch_size, linear)
    pixels = pixels.astype(jnp.float32) / 127.5 - 1
    pixels = pixels.reshape(batch, rows, patch_size, columns, patch_size, channels)
    patches = pixels.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, -1)
    patches = jnp.pad(patches, ((0, 0), (0, max_patches - rows * columns), (0, 0)))
    where = jnp.broadcast_to(jnp.arange(max_patches) < rows * columns, (batch, max_patches))
    shapes = jnp.broadcast_to(jnp.array([rows, columns], jnp.int32), (batch, 2))
    return FlatPatches(patches, where, shapes)


def _whole_patches(height: float, width: float, most: int) -> tuple[int, int]:
    """Rows and columns, rounded up, at the largest scale where there are not too many."""

    def at(scale: float) -> tuple[int, int]:
        return tuple(max(math.ceil(scale * side), 1) for side in (height, width))

    low, high = 0.0, most / min(height, width)
    for _ in range(60):
        middle = (low + high) / 2
        rows, columns = at(middle)
        low, high = (middle, high) if rows * columns <= most else (low, middle)
    return at(low)


def _resized(
    images: jax.Array, rows: int, columns: int, method: jax.image.ResizeMethod
) -> jax.Array:
    """Columns first, as Pillow: it clips, and rounds whole grey levels, after each."""
    batch, height, _, channels = images.shape
    for shape in ((batch, height, columns, channels), (batch, rows, columns, channels)):
        if shape != images.shape:
            resized = jax.image.resize(images.astype(jnp.float32), shape, method, antialias=True)
            resized = jnp.clip(resized, 0, 255)
            whole = jnp.issubdtype(images.dtype, jnp.integer)
            images = (jnp.round(resized) if whole else resized).astype(images.dtype)
    return images


def _check_colours(images: jax.Array) -> None:
    if images.shape[-1] != 3:
        raise ValueError(
            f"images must have three channels, got the shape {images.shape}; repeat a grey one: "
            "jnp.repeat(images, 3, axis=-1)."
        )


def _check(images: jax.Array, size: int) -> None:
    floating = jnp.issubdtype(images.dtype, jnp.floating)
    if images.ndim != 4 or 0 in images.shape or not (floating or images.dtype == jnp.uint8):
        raise ValueError(
            "images must be uint8 or floating point of shape [B, H, W, C], got "
            f"{images.dtype} of shape {images.shape}."
        )
    check_integer("size", size, at_least=1)
