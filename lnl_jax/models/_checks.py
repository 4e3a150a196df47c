"""What the networks ask of their inputs."""

import jax.numpy as jnp
from jax import Array


def check_images(images: Array) -> None:
    """Raises where the images are not floating point of shape ``[B, H, W, C]``."""
    if images.ndim != 4 or not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images must be floating point of shape [B, H, W, C], got {images.dtype} of shape "
            f"{images.shape}; add the axis that is missing, and scale integers first."
        )


def check_mask(mask: Array | None, inputs: Array) -> None:
    """Raises where the mask is not one boolean per example."""
    if mask is not None and (mask.shape != inputs.shape[:1] or mask.dtype != jnp.bool_):
        raise ValueError(
            f"mask must be boolean of shape {inputs.shape[:1]}, one per example, got {mask.dtype} "
            f"of shape {mask.shape}."
        )


def check_size(images: Array, size: int) -> None:
    """Raises where the images are not squares of this size."""
    if images.shape[1:3] != (size, size):
        raise ValueError(
            f"images must have the shape [B, {size}, {size}, C], got {images.shape}; resize them, "
            f"as lnl_jax.data.preprocess.resize_and_crop(images, size={size}) does."
        )
