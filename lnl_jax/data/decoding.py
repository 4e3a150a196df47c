"""Pictures from bytes, in the size that a network takes."""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lnl_jax._extras import require
from lnl_jax._files import MOST_BYTES, opened, read_at_most

if TYPE_CHECKING:
    from PIL.Image import Image

# Formats that Pillow reads by itself: for some others it starts another program.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
# 268 MB in colours. Larger ones take long, and a few bytes can ask for as many as they like.
MOST_PIXELS = 89_478_485


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
        with opened(self.path) as file:
            file.seek(self.offset)
            if self.length >= 0 and self.length <= MOST_BYTES:
                return file.read(self.length)
            return read_at_most(file, MOST_BYTES, self.name)


def decode(content: bytes, name: str, fit: Callable[["Image"], "Image"]) -> np.ndarray:
    """One picture: upright as its EXIF orientation says, grey of 16 bits scaled to 8.

    Args:
        content: the bytes of a file.
        name: what to call it in messages.
        fit: cuts out and resizes an RGB picture.

    Returns:
        uint8, ``[H, W, 3]``.

    Raises:
        ValueError: if the bytes are no picture, or not all of it, or it has too many pixels; names
            it.
    """
    with picture_of(content, name) as image:
        _turn_upright(image)
        picture = _of_8_bits(image).convert("RGB")
    return np.asarray(fit(picture))


@contextlib.contextmanager
def picture_of(content: bytes, name: str) -> Iterator["Image"]:
    """The picture as it is stored, its pixels read.

    Args:
        content: the bytes of a file.
        name: what to call it in messages.

    Yields:
        A picture of Pillow.

    Raises:
        ValueError: if the bytes are no picture, or not all of it, or it has too many pixels, or
            what is done with it fails; names it.
    """
    require("PIL")
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # What it warns of is refused here, or goes well.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise ValueError(f"{image.width} x {image.height} pixels are too many")
                image.load()
                yield image
    # What is damaged makes Pillow raise nearly anything.
    except Exception as error:
        cause = "not an image" if isinstance(error, Image.UnidentifiedImageError) else error
        cause = " ".join(str(cause).split()) or type(cause).__name__
        raise ValueError(f"{name} cannot be decoded ({cause}); remove it.") from None


def _turn_upright(image: "Image") -> None:
    require("PIL")
    from PIL import ImageOps

    # Pixels that can be read count for more than a note beside them that cannot.
    with contextlib.suppress(Exception):
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
