"""What the networks ask of their inputs."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import check_range
from lnl_jax._host_arguments import check_integer


def check_sizes(**sizes: int | Sequence[int] | None) -> None:
    """Raises ValueError unless all are integers from 1 on, or sequences of them; None passes."""
    for name, size in sizes.items():
        if isinstance(size, tuple | list):
            for place, one in enumerate(size):
                check_integer(f"{name}[{place}]", one)
        elif size is not None:
            check_integer(name, size)


def check_normalization(momentum: float, epsilon: float) -> None:
    """Raises ValueError where the running statistics or the divisor would make no sense."""
    check_range("momentum", momentum, at_least=0, at_most=1)
    check_range("epsilon", epsilon, above=0, below=math.inf)


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


def check_end_token(end_token: int | None, vocabulary: int) -> None:
    """Raises where the token that ends a text is outside the vocabulary."""
    if end_token is not None and not 0 <= end_token < vocabulary:
        raise ValueError(
            f"end_token must be from 0 to {vocabulary - 1}, as the vocabulary has {vocabulary} "
            f"tokens, got {end_token}."
        )


def check_ids(ids: ArrayLike, vocabulary: int, end_token: int | None) -> None:
    """Raises where texts hold tokens outside the vocabulary, or one does not end."""
    if not getattr(ids, "is_fully_addressable", True):
        return
    ids = np.asarray(ids)
    outside = np.argwhere((ids < 0) | (ids >= vocabulary))
    if len(outside):
        row, column = outside[0]
        raise ValueError(
            f"token {ids[row, column]} of text {row} is beyond the {vocabulary} of the text tower: "
            "the tokenizer is that of another checkpoint."
        )
    if end_token is not None:
        endless = np.flatnonzero(~(ids == end_token).any(1))
        if endless.size:
            raise ValueError(
                f"{endless.size} of {len(ids)} texts have no end token, {end_token}, the first is "
                f"text {endless[0]}: the tokenizer is that of another checkpoint, or cut it off."
            )
