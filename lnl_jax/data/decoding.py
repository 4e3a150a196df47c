"""Pictures from bytes, in the size that a network takes."""

import contextlib
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lnl_jax._extras import require

if TYPE_CHECKING:
    from PIL.Image import Image

# What Pillow raises for data that follow no format, of a picture or of its EXIF block.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error)


class Place(NamedTuple):
    """Where the bytes of an image are.

    Attributes:
        path: the file.
        name: what to call the image in messages.
        offset: of its first byte.
        length: in bytes; -1 means to the end of the file.
    """

    path: Path
    name: str
    offset: int = 0
    length: int = -1

    def content(self) -> bytes:
        """The bytes, read now."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


def decode(content: bytes, name: str, fit: Callable[["Image"], "Image"]) -> np.ndarray:
    """One picture: upright as its EXIF orientation says, grey of 16 bits scaled to 8.

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
            _turn_upright(image)
            picture = _of_8_bits(image).convert("RGB")
    except (*BROKEN, Image.DecompressionBombError) as error:
        cause = "not an image" if isinstance(error, Image.UnidentifiedImageError) else error
        raise ValueError(f"{name} cannot be decoded ({cause}); remove it.") from None
    return np.asarray(fit(picture))


def _turn_upright(image: "Image") -> None:
    require("PIL")
    from PIL import ImageOps

    image.load()
    # Pixels that can be read count for more than a note beside them that cannot.
    with contextlib.suppress(*BROKEN):
        ImageOps.exif_transpose(image, in_place=True)


def _of_8_bits(image: "Image") -> "Image":
    """White stays white: Pillow would cut grey levels of 16 bits off at 255."""
    require("PIL")
    from PIL import Image

    if not image.mode.startswith("I"):
        return image
    levels = np.asarray(image).astype(np.float32).clip(0, 65535)
    return Image.fromarray(np.rint(levels / 257).astype(np.uint8))


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
