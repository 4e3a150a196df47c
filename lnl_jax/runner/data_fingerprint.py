"""Whether the files that a run reads are those that an earlier session of it read."""

import hashlib
import os
import pathlib
import stat
from collections.abc import Iterator, Mapping
from typing import Any

# Of more than this the beginnings and ends of some files are read, not all of all.
WHOLE_BYTES = 1_000_000_000
SAMPLES = 1_000
SAMPLE_BYTES = 65_536
# Of more files than this only the names: asking for the size of each takes minutes on a network.
SIZED_FILES = 20_000


def fingerprints(data_dir: str | None, arguments: Mapping[str, Any]) -> dict[str, str]:
    """What is read besides the arguments: the data folder, and what arguments point at.

    Of a data folder with an entry that an argument names, such as ``cifar10.npz``, it is that
    entry: other sets may come into the folder.

    Args:
        data_dir: the folder, None for none.
        arguments: by name; text that is a path is a file or folder that is read.

    Returns:
        By option, a fingerprint of what is there.
    """
    found = {}
    texts = {name: value for name, value in arguments.items() if isinstance(value, str)}
    if data_dir is not None and os.path.exists(data_dir):
        folder, names = pathlib.Path(data_dir), set(texts.values())
        entries = sorted(folder.iterdir()) if folder.is_dir() else [folder]
        named = [entry for entry in entries if entry.name in names or entry.stem in names]
        found["--data_dir"] = fingerprint(*(named or entries))
    for name, text in texts.items():
        if os.sep in text and os.path.exists(text):
            found[f"--{name}"] = fingerprint(pathlib.Path(text))
    return found


def fingerprint(*paths: pathlib.Path) -> str:
    """Of files, and of all files in folders: their names below there and what they hold.

    Args:
        *paths: of files and folders; links are followed.

    Returns:
        How many files there are, how large they are, and a digest.
    """
    files = {name: file for path in paths for name, file in _files(path)}
    digest = hashlib.sha256("\0".join(files).encode("utf-8", "surrogateescape"))
    if len(files) > SIZED_FILES:
        every = -(-len(files) // SAMPLES)
        sizes, chosen, size_known = {}, list(files)[::every], False
    else:
        sizes = {name: file.stat().st_size for name, file in files.items()}
        size_known = True
        digest.update(repr(list(sizes.values())).encode())
        every = -(-len(files) // SAMPLES) or 1
        chosen = list(files) if sum(sizes.values()) <= WHOLE_BYTES else list(files)[::every]
    whole = size_known and sum(sizes.values()) <= WHOLE_BYTES
    for name in chosen:
        for part in _parts(files[name], whole=whole):
            digest.update(part)
    size = f", {sum(sizes.values()):,} bytes" if size_known else ""
    return f"{len(files):,} file{'s' * (len(files) != 1)}{size}, sha256 {digest.hexdigest()[:16]}"


def _files(path: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """The regular files, by their names below the folder that the path is in."""
    if not path.is_dir():
        if path.is_file():
            yield path.name, path
        return
    seen = set()
    for folder, names, files in os.walk(path, followlinks=True):
        here = os.path.realpath(folder)
        if here in seen:  # a link to a folder around it
            names.clear()
            continue
        seen.add(here)
        names.sort()
        for name in sorted(files):
            file = pathlib.Path(folder, name)
            if file.is_file():
                yield str(file.relative_to(path.parent)), file


def _parts(path: pathlib.Path, *, whole: bool) -> Iterator[bytes]:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(handle, "rb") as file:
        size = os.fstat(handle).st_size
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return
        if not whole:
            yield file.read(SAMPLE_BYTES)
            file.seek(max(size - SAMPLE_BYTES, 0))
            yield file.read(SAMPLE_BYTES)
            return
        while part := file.read(1 << 20):
            yield part
