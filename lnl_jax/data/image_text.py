"""Images with captions from a folder: tar shards or a table of paths, decoded when asked for."""

import csv
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lnl_jax.data.decoding import decode, middle

IMAGES = ("jpg", "jpeg", "png", "webp")
COLUMNS = ("filepath", "title")
FORMS = (
    "it takes tar files of KEY.jpg (or .png, .webp) with KEY.txt, or a caption in KEY.json, as "
    "img2dataset writes them; or one .tsv with the columns filepath and title, as in open_clip."
)


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


class DecodedImages:
    """Images of one size, which are read and decoded when they are indexed, as memory maps are.

    Args:
        places: of the N images.
        size: rows and columns; the middle of the image is cut out and resized.
    """

    def __init__(self, places: Sequence[Place], size: int) -> None:
        self.places, self.size = list(places), size

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """The images at some positions, uint8, ``[B, size, size, 3]``.

        Raises:
            ValueError: if one cannot be read; names it.
        """
        return np.stack([_decoded(self.places[position], self.size) for position in positions])


class ImageText(NamedTuple):
    """Pairs of an image and its caption.

    Attributes:
        image: `DecodedImages`, N of them, to be indexed with positions, also by `stream`.
        caption: N strings.
    """

    image: DecodedImages
    caption: tuple[str, ...]

    def take(self, rows: Sequence[int] | np.ndarray) -> "ImageText":
        """Some of the pairs.

        Args:
            rows: their positions.

        Returns:
            The `ImageText` of these; no image is read.
        """
        places = [self.image.places[row] for row in rows]
        return ImageText(
            DecodedImages(places, self.image.size), tuple(self.caption[row] for row in rows)
        )


def image_text(folder: str | os.PathLike[str], *, image_size: int) -> ImageText:
    """The pairs of a folder of tar shards, or of a table of paths and captions.

    Only captions and the places of images are read here, by going once through the shards, so that
    pairs can be drawn in any order later; the order is that of the names of the shards, then of
    their members. Shards must not be compressed: images are already.

    Args:
        folder: has ``*.tar``, with ``KEY.jpg``, ``.jpeg``, ``.png`` or ``.webp`` and its caption as
            ``KEY.txt`` or under ``"caption"`` in ``KEY.json``; or one ``*.tsv`` with the columns
            ``filepath``, relative to the folder, and ``title``.
        image_size: rows and columns of the images that come out.

    Returns:
        `ImageText`.

    Raises:
        FileNotFoundError: if the folder has no shards and no table.
        ValueError: if a shard or the table cannot be read, an image has no caption or a path no
            file; names it.
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
    read = _of_table(tables[0]) if tables else (pair for path in shards for pair in _of_shard(path))
    pairs = list(read)
    if not pairs:
        raise ValueError(f"no image in {folder}: {FORMS}")
    places, captions = zip(*pairs, strict=True)
    return ImageText(DecodedImages(places, image_size), captions)


def _of_table(path: Path) -> Iterator[tuple[Place, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if not set(COLUMNS) <= set(reader.fieldnames or ()):
            raise ValueError(
                f"{path} must begin with a line that names the columns filepath and title, with a "
                f"tab between them; got {reader.fieldnames}."
            )
        for row in reader:
            image, caption = (row[name] for name in COLUMNS)
            line = f"{path}, line {reader.line_num}"
            if not image or not caption or not caption.strip():
                raise ValueError(f"{line}: no {'caption' if image else 'path'}; got {row}.")
            if not (path.parent / image).is_file():
                raise ValueError(f"{line}: there is no file {path.parent / image}.")
            yield Place(path.parent / image, str(path.parent / image)), caption.strip()


def _of_shard(path: Path) -> Iterator[tuple[Place, str]]:
    images: dict[str, Place] = {}
    captions: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                directory, _, base = member.name.rpartition("/")
                key, _, ending = base.partition(".")
                key, ending = f"{directory}/{key}", ending.lower()
                where = f"{path}, {member.name}"
                if ending in IMAGES:
                    images[key] = Place(path, where, member.offset_data, member.size)
                elif ending in ("txt", "json"):
                    text = shard.extractfile(member).read()
                    captions[key] = _caption(text, ending, where) or captions.get(key, "")
    except tarfile.TarError as error:
        raise ValueError(f"{path} is no uncompressed tar file ({error}); {FORMS}") from None
    for key, place in images.items():
        if not captions.get(key):
            raise ValueError(f"{place.name} has no caption; {FORMS}")
        yield place, captions[key]


def _caption(text: bytes, ending: str, where: str) -> str:
    try:
        if ending == "txt":
            return text.decode().strip()
        return str(json.loads(text).get("caption") or "").strip()
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{where} holds no caption that can be read ({error}).") from None


def _decoded(place: Place, size: int) -> np.ndarray:
    with place.path.open("rb") as file:
        file.seek(place.offset)
        content = file.read(place.length)
    return decode(content, place.name, lambda image: middle(image, size))
