"""Files that somebody else wrote: plain ones only, read within bounds, and nothing in them runs.

A message names the file, what is wrong with it and where. It needs NumPy alone.
"""

import errno
import io
import json
import math
import os
import stat
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO, TextIO

import numpy as np

# Of a file that is read as a whole, in bytes: no picture, list of names or vocabulary has more.
MOST_BYTES = 1 << 28
# Of a line of text, in characters.
MOST_IN_A_LINE = 1 << 24
# What is packed may grow to this without a question, beyond it by so much; no data are like that.
FREELY_UNPACKED, MOST_GROWTH = 1 << 30, 200
# Of the header of an array, in bytes.
MOST_IN_A_HEADER = 1 << 16
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_plain(path: str | os.PathLike, at_most: float = math.inf) -> None:
    """Raises ValueError for a pipe or a device, at which reading would wait or never end, a folder.

    Links are followed. A file of more bytes than `at_most` is refused too.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ValueError(f"{path} is a link that leads to itself; put a file there.") from None
    except ValueError:
        # A zero byte is in no name.
        raise ValueError(f"{str(path)!r} cannot be the path of a file.") from None
    _check_mode(path, found.st_mode)
    if found.st_size > at_most:
        raise ValueError(
            f"{path} is too large, {found.st_size:,} bytes; at most {at_most:,} are read."
        )


def _check_mode(path: str | os.PathLike, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise ValueError(f"{path} is {kind} and no file; put a file there.")


def opened(path: str | os.PathLike) -> BinaryIO:
    """A plain file, opened to be read.

    Raises:
        OSError: if it is not there or may not be read.
        ValueError: if it is no plain file; says what it is.
    """
    check_plain(path)
    # What became a pipe in between must not be waited for.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    file = os.fdopen(descriptor, "rb")
    try:
        _check_mode(path, os.fstat(descriptor).st_mode)
    except ValueError:
        file.close()
        raise
    return file


def opened_text(path: str | os.PathLike) -> TextIO:
    """A plain file in UTF-8, with its ends of lines as they are; a mark at its start is dropped."""
    return io.TextIOWrapper(opened(path), encoding="utf-8-sig", newline="")


def read_bytes(path: str | os.PathLike, at_most: int = MOST_BYTES) -> bytes:
    """All of a plain file.

    Raises:
        OSError: if it is not there or may not be read.
        ValueError: if it is no plain file, or larger than `at_most`.
    """
    with opened(path) as file:
        return read_at_most(file, at_most, path)


def read_at_most(file: BinaryIO, at_most: int, name: object) -> bytes:
    """The rest of a stream; ValueError that has the `name` if that is more than `at_most`."""
    content = file.read(at_most + 1)
    if len(content) > at_most:
        raise ValueError(f"{name} is too large: at most {at_most:,} bytes are read of such a file.")
    return content


def read_json(path: str | os.PathLike) -> Any:
    """The value in a JSON file.

    Raises:
        OSError: if it is not there or may not be read.
        ValueError: if it is no plain file or not JSON; names it.
    """
    content = read_bytes(path)
    try:
        return parse_json(content.decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}).") from None


def parse_json(text: str | bytes) -> Any:
    """The value; ValueError also where it is nested deeper than Python reads."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def lines_of(file: TextIO, path: object) -> Iterator[str]:
    """The lines of a text, none of them longer than `MOST_IN_A_LINE`."""
    number = 0
    while line := file.readline(MOST_IN_A_LINE + 1):
        number += 1
        if len(line) > MOST_IN_A_LINE:
            raise ValueError(
                f"{path}, line {number} has more than {MOST_IN_A_LINE:,} characters; a line holds "
                "one example."
            )
        yield line


def check_unpacked(packed: int, unpacked: int) -> None:
    """Raises ValueError where unpacking would fill the memory: a bomb, or far too much."""
    if unpacked > max(FREELY_UNPACKED, MOST_GROWTH * packed):
        raise ValueError(f"its {packed:,} bytes would unpack to {unpacked:,}")
    if unpacked > _memory():
        raise ValueError(f"it holds {unpacked:,} bytes, more than the memory of this machine")


def _memory() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        # Where it is not told.
        return math.inf


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file, whose sizes are compared before one is made.

    Raises:
        OSError: if it is not there or may not be read.
        ValueError: if it is broken, encrypted, a bomb, or holds anything but arrays of numbers and
            text; names the file and, where one array is at fault, that.
    """
    arrays: dict[str, np.ndarray] = {}
    with opened(path) as file:
        key = None
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                packed = os.fstat(file.fileno()).st_size
                check_unpacked(packed, sum(member.file_size for member in members))
                for member in members:
                    key = member.filename.removesuffix(".npy")
                    with archive.open(member) as stream:
                        arrays[key] = _array(stream, member.file_size)
        # What is damaged makes these two packages raise nearly anything.
        except Exception as error:
            reason = _words(error)
            if key is not None and isinstance(error, ValueError):
                raise ValueError(
                    f"{path}: {ascii(key)[1:-1]} cannot be read ({reason}). Arrays of objects are "
                    "pickles and are refused, since reading one can run any program; store numbers "
                    "or text."
                ) from None
            where = "" if key is None else f" at {ascii(key)[1:-1]}"
            raise ValueError(
                f"{path} is no .npz file or is broken{where} ({reason}): get it again."
            ) from None
    return arrays


def read_npy(path: str | os.PathLike) -> np.ndarray:
    """The array of an ``.npy`` file.

    Raises:
        OSError: if it is not there or may not be read.
        ValueError: if it is broken, or a pickle.
    """
    with opened(path) as file:
        return parse_npy(file, os.fstat(file.fileno()).st_size, path)


def parse_npy(file: BinaryIO, size: int, name: object) -> np.ndarray:
    """The array in a stream of so many bytes; ValueError that has the `name` if it is none."""
    try:
        return _array(file, size)
    except Exception as error:
        raise ValueError(f"{name} is no array of numbers or text ({_words(error)}).") from None


def _array(file: BinaryIO, size: int) -> np.ndarray:
    """An array, made only where the bytes are as many as its header says."""
    head = file.read(12)
    form = np.lib.format
    if not head.startswith(form.MAGIC_PREFIX) or head[6:7] not in (b"\1", b"\2"):
        raise ValueError("it does not begin as an array does")
    length = head[8:10] if head[6:7] == b"\1" else head[8:12]
    if int.from_bytes(length, "little") > MOST_IN_A_HEADER:
        raise ValueError("its header is too long")
    file.seek(0)
    with warnings.catch_warnings():
        # Of how the header is written.
        warnings.simplefilter("ignore")
        read = {1: form.read_array_header_1_0, 2: form.read_array_header_2_0}
        shape, _, dtype = read[form.read_magic(file)[0]](file)
        if dtype.hasobject:
            raise ValueError("it holds objects")
        needed, there = math.prod(shape) * dtype.itemsize, size - file.tell()
        if needed != there or min(shape, default=0) < 0 or not dtype.itemsize:
            raise ValueError(
                f"its header tells of {dtype} of shape {shape}, {needed:,} bytes, but {there:,} "
                "follow"
            )
        file.seek(0)
        return form.read_array(file, allow_pickle=False)


def brief(text: str, most: int = 80) -> str:
    """A piece of a file for a message, not longer than is read there."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def shown(text: str) -> str:
    """The same between quotes, with what cannot be printed as escapes."""
    return repr(brief(text))


def _words(error: BaseException) -> str:
    """What an error says, in one line of characters that every terminal has."""
    text = " ".join(str(error).split()) or type(error).__name__
    return ascii(text)[1:-1][:300]
