"""Images with captions from a folder: tar shards or a table of paths, decoded when asked for."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lnl_jax._host_arguments import check_integer
from lnl_jax.data.decoding import Place, decode, middle
from lnl_jax.data.pair_files import FORMS, Aside, Fault, Pair, of_shard, of_table


class DecodedImages:
    """Images of one size, which are read and decoded when they are indexed, as memory maps are.

    They are turned upright as their EXIF orientation says.

    Args:
        places: of the N images.
        size: rows and columns; the middle of the image is cut out and resized.
    """

    def __init__(self, places: Sequence[Place], size: int) -> None:
        check_integer("size", size, at_least=1)
        self.places, self.size = list(places), size

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """The images at some positions, uint8, ``[B, size, size, 3]``.

        Raises:
            ValueError: if one cannot be read; names it.
        """
        return np.stack([self._decoded(self.places[position]) for position in positions])

    def _decoded(self, place: Place) -> np.ndarray:
        return decode(place.content(), place.name, lambda image: middle(image, self.size))


class ImageText(NamedTuple):
    """Pairs of an image and its caption.

    Attributes:
        image: `DecodedImages`, N of them, to be indexed with positions, also by `stream`.
        caption: N strings.
        skipped: what the folder holds besides, a line each: its name, and why it is not used.
    """

    image: DecodedImages
    caption: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    @property
    def places(self) -> list[Place]:
        """Where the bytes of the images are."""
        return self.image.places

    def take(self, rows: Sequence[int] | np.ndarray) -> "ImageText":
        """Some of the pairs.

        Args:
            rows: their positions.

        Returns:
            The `ImageText` of these; no image is read.
        """
        places = [self.image.places[row] for row in rows]
        return ImageText(
            DecodedImages(places, self.image.size),
            tuple(self.caption[row] for row in rows),
            self.skipped,
        )


def image_text(
    folder: str | os.PathLike[str], *, image_size: int, skip_unreadable: bool = False
) -> ImageText:
    """The pairs of a folder of tar shards, or of a table of paths and captions.

    Only captions and the places of images are read here, by going once through the shards, so that
    pairs can be drawn in any order later; the order is that of the names of the shards, then of
    their members. Shards must not be compressed: images are already. Whether an image can be
    decoded shows when it is drawn, or before that in `readable`.

    Args:
        folder: has ``*.tar``, with ``KEY.jpg``, ``.jpeg``, ``.png`` or ``.webp`` and its caption as
            ``KEY.txt`` or under ``"caption"`` in ``KEY.json``, where KEY may have dots; or one
            ``*.tsv`` in UTF-8 with the columns ``filepath``, relative to the folder, and ``title``,
            whose fields may be quoted as csv and pandas do.
        image_size: rows and columns of the images that come out.
        skip_unreadable: what is no whole pair is left out, and named in `skipped`, instead of an
            error: an image without a caption, a caption without an image or in no UTF-8, a row with
            too many fields or without its file, the rest of a shard that is cut off.

    Returns:
        `ImageText`. What is neither image nor caption is named in `skipped`.

    Raises:
        FileNotFoundError: if the folder has no shards and no table.
        ValueError: if a shard or the table cannot be read at all, or, unless `skip_unreadable`, if
            something is no whole pair; names the first, and says how many there are.
    """
    folder = Path(folder)
    shards, tables = sorted(folder.glob("*.tar")), sorted(folder.glob("*.tsv"))
    if not shards and not tables:
        raise FileNotFoundError(f"no .tar and no .tsv in {folder}: {FORMS}")
    if shards and tables or len(tables) > 1:
        raise ValueError(
            f"{folder} has {len(shards)} .tar and {len(tables)} .tsv; leave there one table or "
            "shards alone."
        )
    read = of_table(tables[0]) if tables else (one for path in shards for one in of_shard(path))
    found = list(read)
    pairs = [one for one in found if isinstance(one, Pair)]
    faults = [one for one in found if isinstance(one, Fault)]
    if faults and not skip_unreadable:
        others = f" ({len(faults) - 1} more are no whole pairs)" if len(faults) > 1 else ""
        raise ValueError(
            f"{faults[0].name}: {faults[0].reason}{others}. Mend it, or leave out what is no whole "
            "pair: skip_unreadable."
        )
    if not pairs:
        raise ValueError(f"no image with a caption in {folder}: {FORMS}")
    skipped = tuple(f"{one.name}: {one.reason}" for one in found if isinstance(one, Fault | Aside))
    return ImageText(
        DecodedImages([pair.place for pair in pairs], image_size),
        tuple(pair.caption for pair in pairs),
        skipped,
    )
