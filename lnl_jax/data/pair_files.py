"""Images with captions in tar shards and in tables of paths: what is a pair, and what is not."""

import csv
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lnl_jax.data.decoding import Place

IMAGES = ("jpg", "jpeg", "png", "webp")
CAPTIONS = ("txt", "json")
COLUMNS = ("filepath", "title")
FORMS = (
    "it takes tar files of KEY.jpg (or .png, .webp) with KEY.txt, or a caption in KEY.json, as "
    "img2dataset writes them; or one .tsv with the columns filepath and title, as in open_clip."
)
BLOCK = tarfile.BLOCKSIZE


class Pair(NamedTuple):
    """An image and its caption."""

    place: Place
    caption: str


class Fault(NamedTuple):
    """What should have been a pair, or the rest of a file: its name, and what is wrong."""

    name: str
    reason: str


class Aside(NamedTuple):
    """What is no part of a pair, and was not meant to be."""

    name: str
    reason: str


Found = Iterator[Pair | Fault | Aside]


def of_table(path: Path) -> Found:
    """The rows of a table, with tabs between the fields; a field may be quoted as pandas does."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t", strict=True)
        try:
            header = next(reader, [])
            if not set(COLUMNS) <= set(header):
                raise ValueError(
                    f"{path} must begin with a line that names the columns filepath and title, "
                    f"with a tab between them; got {header}."
                )
            yield from _rows(path, reader, header)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path} is not UTF-8 (after line {reader.line_num}: {error.reason}); convert it, "
                "as iconv -f LATIN1 -t UTF-8 does with one that is Latin-1."
            ) from None


def _rows(path: Path, reader, header: list[str]) -> Found:
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = f"{error}; a field with quotes in it is quoted, and its quotes are doubled"
            yield Fault(f"{path}, line {start}", reason)
            continue
        if row:
            yield _pair_of_row(path, f"{path}, line {start}", row, header)


def _pair_of_row(path: Path, line: str, row: list[str], header: list[str]) -> Pair | Fault:
    named = dict(zip(header, row, strict=False))
    image, caption = (named.get(name, "").strip() for name in COLUMNS)
    if len(row) > len(header):
        reason = f"{len(row)} fields, where the first line names {len(header)}"
        return Fault(line, f"{reason}; a field with a tab in it is put between quotes")
    if not image or not caption:
        return Fault(line, f"no {'caption' if image else 'path'}; got {named}")
    place = path.parent / image
    if not place.is_file():
        return Fault(line, f"there is no file {place}")
    return Pair(Place(place, str(place)), caption)


def of_shard(path: Path) -> Found:
    """The pairs of a tar file, in the order of its images.

    A key is the name of a member up to its last dot, so keys may have dots in them.
    """
    images: dict[str, Place] = {}
    captions: dict[str, str] = {}
    size, faulty = path.stat().st_size, set()
    for member, content in _members(path):
        if isinstance(member, Fault):
            yield member
            continue
        where = f"{path}, {member.name}"
        key, _, ending = member.name.rpartition(".")
        ending = ending.lower()
        if ending in IMAGES:
            if key in images:
                faulty.add(key)
                yield Fault(where, f"the key has another image, {images[key].name}")
            elif not member.isfile() or member.offset_data + member.size > size:
                faulty.add(key)
                yield Fault(where, "a link" if not member.isfile() else "cut off")
            else:
                images[key] = Place(path, where, member.offset_data, member.size)
        elif ending in CAPTIONS:
            caption = _caption(content, ending, where)
            if isinstance(caption, Fault):
                faulty.add(key)
                yield caption
            else:
                captions[key] = captions.get(key) or caption if ending == "json" else caption
        else:
            yield Aside(where, "neither image nor caption")
    yield from _paired(path, images, captions, faulty)


def _paired(
    path: Path, images: dict[str, Place], captions: dict[str, str], faulty: set[str]
) -> Found:
    for key, place in images.items():
        if captions.get(key):
            yield Pair(place, captions[key])
        elif _main(key) in images and captions.get(_main(key)):
            yield Aside(place.name, "another image of a pair")
        elif key not in faulty:
            yield Fault(place.name, "no caption")
    for key in sorted(captions.keys() - images.keys() - faulty):
        yield Fault(f"{path}, {key}", "a caption without an image")


def _main(key: str) -> str:
    """Up to the first dot: ``1.mask.png`` stands beside the pair ``1``."""
    folder, slash, base = key.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _members(path: Path) -> Iterator[tuple[tarfile.TarInfo | Fault, bytes]]:
    """Everything but folders and hidden files, captions with their content."""
    count = 0
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                count += 1
                base = member.name.rpartition("/")[2]
                if member.isdir() or base.startswith("."):
                    continue
                read = member.isfile() and base.lower().rpartition(".")[2] in CAPTIONS
                yield member, shard.extractfile(member).read() if read else b""
            end = shard.offset
    except tarfile.TarError as error:
        if not count:
            reason = f"{path} is no uncompressed tar file ({error}); {FORMS}"
            raise ValueError(reason) from None
        yield Fault(str(path), f"cut off or damaged after {count} members ({error})"), b""
        return
    # The module takes a header that it cannot read for the end.
    with path.open("rb") as file:
        file.seek(end)
        if file.read(BLOCK) != bytes(BLOCK):
            yield Fault(str(path), f"cut off or damaged after {count} members"), b""


def _caption(text: bytes, ending: str, where: str) -> str | Fault:
    try:
        if ending == "txt":
            return text.decode().strip()
        return str(json.loads(text).get("caption") or "").strip()
    except (ValueError, AttributeError) as error:
        return Fault(where, f"no caption that can be read ({error})")
