"""Parts of images brought to the old size by bilinear interpolation."""

import jax
import jax.numpy as jnp


def crop_and_resize(images: jax.Array, boxes: jax.Array) -> jax.Array:
    """Cuts a box from each image and resizes it to the size of the image.

    Two products with matrices of interpolation weights, rows and columns: on every backend faster
    than gathers, and differentiable in both arguments. There is no low-pass filter, which only
    boxes larger than the image would need.

    Args:
        images: ``[B, H, W, C]``; integers are interpolated as float32.
        boxes: ``[B, 4]``: top, left, height and width as fractions of the image.

    Returns:
        Floating, ``[B, H, W, C]``.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> images = jnp.arange(4.0).reshape(1, 2, 2, 1)
        >>> crop_and_resize(images, jnp.array([[0.0, 0.5, 1.0, 0.5]])).ravel().tolist()
        [0.75, 1.0, 2.75, 3.0]
    """
    if images.ndim != 4 or boxes.shape != (len(images), 4):
        raise ValueError(
            f"images must be [B, H, W, C] and boxes [B, 4], got {images.shape} and {boxes.shape}."
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        images = images.astype(jnp.float32)
    rows = _weights(boxes[:, 0], boxes[:, 2], images.shape[1]).astype(images.dtype)
    columns = _weights(boxes[:, 1], boxes[:, 3], images.shape[2]).astype(images.dtype)
    # A crop of the whole image is the image: a matrix unit must not round it to bfloat16.
    exact = jax.lax.Precision.HIGHEST
    narrow = jnp.einsum("bih,bhwc->biwc", rows, images, precision=exact)
    return jnp.einsum("bjw,biwc->bijc", columns, narrow, precision=exact)


def _weights(start: jax.Array, extent: jax.Array, length: int) -> jax.Array:
    """How much of each old place is in each new one, ``[B, length, length]``."""
    middles = (jnp.arange(length, dtype=jnp.float32) + 0.5) / length
    places = (start[:, None] + middles[None] * extent[:, None]) * length - 0.5
    places = jnp.clip(places, 0, length - 1)
    return jnp.maximum(0, 1 - jnp.abs(places[:, :, None] - jnp.arange(length)[None, None]))
