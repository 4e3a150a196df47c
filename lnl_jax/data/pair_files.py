"""Images with captions in tar shards and in tables of paths: what is a pair, and what is not."""

import csv
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from lnl_jax._files import check_plain, lines_of, opened, opened_text, parse_json, shown
from lnl_jax.data.decoding import Place

IMAGES = ("jpg", "jpeg", "png", "webp")
CAPTIONS = ("txt", "json")
COLUMNS = ("filepath", "title")
FORMS = (
    "it takes tar files of KEY.jpg (or .png, .webp) with KEY.txt, or a caption in KEY.json, as "
    "img2dataset writes them; or one .tsv with the columns filepath and title, as in open_clip."
)
BLOCK = tarfile.BLOCKSIZE
# Of a caption, and of what a shard says beside its members, in bytes.
MOST_IN_A_CAPTION = 1 << 20


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
    with opened_text(path) as file:
        reader = csv.reader(lines_of(file, path), delimiter="\t", strict=True)
        try:
            try:
                header = next(reader, [])
            except csv.Error as error:
                raise ValueError(f"{path}, line 1 cannot be read ({error}).") from None
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
        return Fault(line, f"no {'caption' if image else 'path'}; got {shown(str(named))}")
    place = path.parent / image
    if not place.is_file():
        return Fault(line, f"there is no file {shown(str(place))}")
    return Pair(Place(place, str(place)), caption)


def of_shard(path: Path) -> Found:
    """The pairs of a tar file, in the order of its images.

    A key is the name of a member up to its last dot, so keys may have dots in them.
    """
    images: dict[str, Place] = {}
    captions: dict[str, str] = {}
    check_plain(path)
    size, faulty = path.stat().st_size, set()
    for member, content in _members(path):
        if isinstance(member, Fault):
            yield member
            continue
        where = f"{path}, {_printable(member.name)}"
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
            if content is None:
                reason = "no plain file" if not member.isfile() else f"{member.size:,} bytes long"
                caption = Fault(where, f"no caption that can be read: {reason}")
            else:
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
        yield Fault(f"{path}, {_printable(key)}", "a caption without an image")


def _main(key: str) -> str:
    """Up to the first dot: ``1.mask.png`` stands beside the pair ``1``."""
    folder, slash, base = key.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _printable(name: str) -> str:
    """Other bytes than those of UTF-8 are halves of characters, which cannot be printed."""
    return name.encode(errors="backslashreplace").decode()


class _Bounded:
    """A file of which nothing is read that a header asks for and no shard has."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self._file = file.seek, file.tell, file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= max(MOST_IN_A_CAPTION, tarfile.RECORDSIZE):
            raise tarfile.ReadError(f"a header asks for {size:,} bytes")
        return self._file.read(size)


def _members(path: Path) -> Iterator[tuple[tarfile.TarInfo | Fault, bytes | None]]:
    """Everything but folders and hidden files, captions with their content.

    The content of a caption is None where it is a link or too large.
    """
    count = 0
    try:
        with opened(path) as file, tarfile.open(fileobj=_Bounded(file), mode="r:") as shard:
            for member in shard:
                count += 1
                if member.size < 0:
                    # The module would come back to it for ever.
                    raise tarfile.ReadError(f"a size of {member.size}")
                base = member.name.rpartition("/")[2]
                if member.isdir() or base.startswith("."):
                    continue
                content = None
                if base.lower().rpartition(".")[2] in CAPTIONS and _is_short(member):
                    content = shard.extractfile(member).read()
                yield member, content
            end = shard.offset
    # What is damaged makes the module raise nearly anything.
    except Exception as error:
        if not count:
            reason = f"{path} is no uncompressed tar file ({error}); {FORMS}"
            raise ValueError(reason) from None
        yield Fault(str(path), f"cut off or damaged after {count} members ({error})"), None
        return
    # The module takes a header that it cannot read for the end.
    with opened(path) as file:
        file.seek(end)
        if file.read(BLOCK) != bytes(BLOCK):
            yield Fault(str(path), f"cut off or damaged after {count} members"), None


def _is_short(member: tarfile.TarInfo) -> bool:
    # One with holes in it holds more than it has.
    return member.isfile() and not member.issparse() and member.size <= MOST_IN_A_CAPTION


def _caption(text: bytes, ending: str, where: str) -> str | Fault:
    try:
        if ending == "txt":
            return text.decode().strip()
        caption = str(parse_json(text).get("caption") or "").strip()
        # JSON can hold halves of characters, which nothing takes for a text.
        return caption.encode().decode()
    except (ValueError, AttributeError) as error:
        return Fault(where, f"no caption that can be read ({error})")
