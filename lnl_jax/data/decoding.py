"""Pictures from bytes, in the size that a network takes."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lnl_jax._extras import require

if TYPE_CHECKING:
    from PIL.Image import Image


def decode(content: bytes, name: str, fit: Callable[["Image"], "Image"]) -> np.ndarray:
    """One picture.

    Args:
        content: the bytes of a file.
        name: what to call it in messages.
        fit: cuts out and resizes an RGB picture.

    Returns:
        uint8, ``[H, W, 3]``.

    Raises:
        ValueError: if the bytes are no picture, or not all of it; names it.
    """
    require("PIL")
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(fit(image.convert("RGB")))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        cause = "not an image" if isinstance(error, Image.UnidentifiedImageError) else error
        raise ValueError(f"{name} cannot be decoded ({cause}); remove it.") from None


def middle(image: "Image", size: int) -> "Image":
    """The largest square in the middle of a picture, resized."""
    require("PIL")
    from PIL import Image, ImageOps

    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)


def part(image: "Image", box: tuple[float, float, float, float], size: int) -> "Image":
    """A part of a picture, resized.

    Args:
        image: the picture.
        box: left, top, right and bottom of the part, in pixels.
        size: rows and columns of the result.
    """
    require("PIL")
    from PIL import Image

    # First by whole factors where it gets much smaller, which is several times as fast.
    return image.resize((size, size), Image.Resampling.BICUBIC, box, reducing_gap=3.0)
