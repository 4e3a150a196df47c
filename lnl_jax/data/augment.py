"""Augmentation of a batch of images: pure functions of a key, for use inside compiled steps.

Images are ``[B, H, W, C]``. What moves or hides pixels keeps the dtype, so uint8 images are best
augmented as they are and standardised last, by `to_float`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax._host_arguments import check_integer, check_number
from lnl_jax.data.mixing import cutmix, mixup
from lnl_jax.data.views import (
    color_jitter,
    gaussian_blur,
    random_affine,
    random_grayscale,
    random_resized_crop,
)

__all__ = [
    "channel_statistics",
    "color_jitter",
    "cutmix",
    "cutout",
    "gaussian_blur",
    "mixup",
    "random_affine",
    "random_crop",
    "random_flip",
    "random_grayscale",
    "random_resized_crop",
    "simclr_view",
    "to_float",
]


def random_crop(key: jax.Array, images: jax.Array, *, padding: int = 4) -> jax.Array:
    r"""Pads each image with zeros and cuts a random part of the old size.

    Args:
        key: of the random numbers.
        images: ``[B, H, W, C]``.
        padding: pixels added on each side, static; the offsets are uniform on
            :math:`\{0, \dots, 2\,\text{padding}\}`, per image and direction.

    Returns:
        The parts, with the shape and dtype of `images`.

    Raises:
        ValueError: if `images` has not four dimensions, or `padding` is negative.

    Example:
        >>> images = jnp.arange(9, dtype=jnp.uint8).reshape(1, 3, 3, 1)
        >>> random_crop(jax.random.key(1), images, padding=1)[0, :, :, 0].tolist()
        [[1, 2, 0], [4, 5, 0], [7, 8, 0]]

    References:
        He et al., "Deep Residual Learning for Image Recognition" (2016), Section 4.2.
    """
    _check_images(images)
    check_integer("padding", padding, at_least=0)
    size, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = jax.random.randint(key, (2, size), 0, 2 * padding + 1)
    rows = rows[:, None] + jnp.arange(height)[None]
    columns = columns[:, None] + jnp.arange(width)[None]
    # One gather with all its indices known to be inside: inside a compiled loop it is several times
    # as fast on a CPU as a dynamic slice for each image.
    found = padded.at[jnp.arange(size)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return found.get(mode="promise_in_bounds")


def random_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors each image, left to right, with probability 1/2.

    Args:
        key: of the random numbers.
        images: ``[B, H, W, C]``.

    Returns:
        The images, with the shape and dtype of `images`.

    Raises:
        ValueError: if `images` has not four dimensions.

    Example:
        >>> images = jnp.arange(6, dtype=jnp.uint8).reshape(2, 1, 3, 1)
        >>> random_flip(jax.random.key(3), images)[:, 0, :, 0].tolist()
        [[2, 1, 0], [3, 4, 5]]
    """
    _check_images(images)
    flipped = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(flipped, images[:, :, ::-1], images)


def simclr_view(key: jax.Array, images: jax.Array) -> jax.Array:
    """A view as SimCLR and iSogCLR train on: crop, flip, colours, grey, blur.

    The settings are those of the official iSogCLR code, the defaults of the parts. Images of one
    channel are not coloured.

    Args:
        key: of the random numbers.
        images: from 0 to 255, ``[B, H, W, C]``.

    Returns:
        float32 from 0 to 255, with the shape of `images`.

    Raises:
        ValueError: if `images` has not four dimensions.

    Example:
        >>> images = jnp.full((2, 8, 8, 1), 7, jnp.uint8)
        >>> bool((abs(jax.jit(simclr_view)(jax.random.key(0), images) - 7) < 1e-3).all())
        True

    References:
        Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (ICML
        2020), appendix A.
    """
    keys = jax.random.split(key, 5)
    images = random_flip(keys[1], random_resized_crop(keys[0], images))
    if images.shape[-1] == 3:
        images = random_grayscale(keys[3], color_jitter(keys[2], images))
    return gaussian_blur(keys[4], images)


def cutout(key: jax.Array, images: jax.Array, *, size: int, fill: float = 0) -> jax.Array:
    """Hides a square of each image; its middle is a random pixel, so it may reach outside.

    The square covers rows ``row - size // 2`` to ``row - size // 2 + size - 1`` for a row that is
    uniform on the image, and columns likewise.

    Args:
        key: of the random numbers.
        images: ``[B, H, W, C]``.
        size: side of the square in pixels; 0 hides nothing.
        fill: the value of hidden pixels. The mean colour is zero only once the images are
            standardised.

    Returns:
        The images, with the shape and dtype of `images`.

    Raises:
        ValueError: if `images` has not four dimensions, `size` is negative or `fill` not finite.

    Example:
        >>> images = jnp.ones((1, 3, 4, 1), jnp.uint8)
        >>> cutout(jax.random.key(0), images, size=2)[0, :, :, 0].tolist()
        [[1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]

    References:
        DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout"
        (2017), Section 3.2.
    """
    _check_images(images)
    check_integer("size", size, at_least=0)
    if not isinstance(fill, jax.Array):
        check_number("fill", fill)
    count, height, width, _ = images.shape
    hidden = [
        _between(length, jax.random.randint(one, (count,), 0, length) - size // 2, size)
        for one, length in zip(jax.random.split(key), (height, width), strict=True)
    ]
    hidden = hidden[0][:, :, None, None] & hidden[1][:, None, :, None]
    return jnp.where(hidden, jnp.asarray(fill, images.dtype), images)


def to_float(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Standardises images: ``(images / 255 - mean) / std``.

    Args:
        images: from 0 to 255, of any dtype, ``[..., H, W, C]``.
        mean: of each channel, of images from 0 to 1, ``[C]``: see `channel_statistics`.
        std: likewise the standard deviations, ``[C]``.

    Returns:
        float32, with the shape of `images`.

    Raises:
        ValueError: if `mean` and `std` have not the shape ``[C]``.

    Example:
        >>> image = jnp.array([0, 255], jnp.uint8).reshape(1, 2, 1)
        >>> to_float(image, jnp.array([0.5]), jnp.array([0.25])).ravel().tolist()
        [-2.0, 2.0]
    """
    channels = images.shape[-1:]
    if jnp.shape(mean) != channels or jnp.shape(std) != channels:
        raise ValueError(
            f"mean and std must have the shape {channels} of the channels, got {jnp.shape(mean)} "
            f"and {jnp.shape(std)}."
        )
    shape = (1,) * (images.ndim - 1) + channels
    mean, std = (jnp.asarray(values, jnp.float32).reshape(shape) for values in (mean, std))
    return (images.astype(jnp.float32) / 255 - mean) / std


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of images from 0 to 255, divided by 255.

    Computed on the host, in double precision, of the training images once.

    Args:
        images: ``[N, H, W, C]``; may be a memory map.

    Returns:
        The mean and the standard deviation, float32, ``[C]``; the deviation of a channel that
        never changes is given as 1, so that it can be divided by.

    Raises:
        ValueError: if `images` has not four dimensions, or is empty.

    Example:
        >>> mean, std = channel_statistics(np.array([0, 255], np.uint8).reshape(1, 1, 2, 1))
        >>> mean.tolist(), std.tolist()
        ([0.5], [0.5])
    """
    _check_images(images)
    if 0 in images.shape:
        raise ValueError(f"images must not be empty, got the shape {images.shape}.")
    sums = np.zeros((2, images.shape[-1]))
    for start in range(0, len(images), 1000):
        values = np.asarray(images[start : start + 1000], np.float64) / 255
        sums += values.sum((0, 1, 2)), np.square(values).sum((0, 1, 2))
    mean, square = sums / (images.size // images.shape[-1])
    # What rounding leaves of a constant channel is no deviation.
    variance = np.where(square - mean**2 > 1e-12, square - mean**2, 1)
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)


def _between(length: int, start: jax.Array, size: int) -> jax.Array:
    """Which of the places from 0 to length - 1 lie in a range each, ``[B, length]``."""
    places = jnp.arange(length)[None] - start[:, None]
    return (places >= 0) & (places < size)


def _check_images(images: jax.Array) -> None:
    if jnp.ndim(images) != 4:
        raise ValueError(f"images must have the shape [B, H, W, C], got {jnp.shape(images)}.")
