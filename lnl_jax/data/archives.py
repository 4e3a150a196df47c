"""Image sets from their public archives, in the binary formats that need no pickle."""

import gzip
import importlib.resources
import importlib.util
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from lnl_jax._extras import require
from lnl_jax._files import MOST_BYTES, opened, read_at_most, read_bytes
from lnl_jax.data.downloads import RemoteFile, download
from lnl_jax.data.npz import save_npz

PIXELS = 3 * 32 * 32
MNIST_NAMES = {"train": "train", "test": "t10k"}
IDX_FILE = "train-images-idx3-ubyte"
# Of an archive, in bytes: five times as many as the largest set has.
MOST_UNPACKED = 1 << 30


def files_of(name: str) -> list[RemoteFile]:
    """Where the archives of an image set are, from the table in TensorFlow Datasets.

    Raises:
        ModuleNotFoundError: if TensorFlow Datasets is not installed.
    """
    require("tensorflow_datasets")
    spec = importlib.util.find_spec("tensorflow_datasets")
    # The package takes seconds to import; its files are there without that.
    package = importlib.resources.files(importlib.util.module_from_spec(spec))
    table = package.joinpath("url_checksums", f"{name}.txt").read_text()
    rows = [line.split("\t") for line in table.splitlines() if line]
    return [RemoteFile(url, int(size), sha256, file) for url, size, sha256, file in rows]


def fetch(name: str, folder: Path) -> None:
    """Downloads an image set and stores it as ``folder/NAME.npz``.

    Raises:
        ConnectionError: if an archive cannot be had; what has arrived stays.
        ValueError: if an archive is not the one expected; it is deleted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {file.name: download(file, folder) for file in files_of(name)}
    archive = ARCHIVES[name]
    if archive.tar:
        arrays = read_tar(name, paths[archive.tar])
    else:
        arrays = archive.parse(lambda part: _unpacked(paths[f"{part}.gz"]))
    save_npz(folder / f"{name}.npz", arrays)
    for path in paths.values():
        path.unlink()


def find(name: str, folder: Path) -> Path | None:
    """The archive of a set in a folder, or what was unpacked from it, if it is there."""
    archive = ARCHIVES[name]
    if archive.tar and os.path.lexists(folder / archive.tar):
        return folder / archive.tar
    for place in archive.places:
        for ending in ("", ".gz"):
            if os.path.lexists(folder / place / f"{archive.first}{ending}"):
                return folder / place
    return None


def read(name: str, source: Path) -> dict[str, np.ndarray]:
    """What `find` has found, under the keys of `load_npz`.

    Raises:
        ValueError: if it is broken or not complete; names it.
    """
    if source.name == ARCHIVES[name].tar:
        return read_tar(name, source)

    def content(part: str) -> bytes:
        path = source / part
        if os.path.lexists(path):
            return read_bytes(path)
        return _unpacked(path.with_name(f"{part}.gz"))

    return _parsed(name, source, content)


def read_tar(name: str, path: Path) -> dict[str, np.ndarray]:
    """The set in a tar file."""
    top = ARCHIVES[name].places[0]
    with opened(path) as packed, gzip.open(packed) as content:
        try:
            # Named, or an error would list all the others that were tried too.
            with tarfile.open(fileobj=_Bounded(content), mode="r:") as archive:
                return _parsed(name, path, lambda part: _member(archive, f"{top}/{part}"))
        # What is damaged makes the modules raise nearly anything.
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(
                f"{path} is broken or something else ({reason}); get it again."
            ) from None


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    """Never written anywhere, wherever its name points to, and never a link."""
    member = archive.getmember(name)
    if not member.isreg() or not 0 <= member.size <= MOST_BYTES:
        raise ValueError(f"{name} is no file of the set")
    return archive.extractfile(member).read()


class _Bounded:
    """What an archive unpacks to, up to the size that one of the sets may have."""

    def __init__(self, file: BinaryIO) -> None:
        self.tell, self._file = file.tell, file

    def seek(self, place: int) -> None:
        self._check(place)
        self._file.seek(place)

    def read(self, size: int = -1) -> bytes:
        self._check(self.tell() + size if size >= 0 else MOST_UNPACKED + 1)
        return self._file.read(size)

    def _check(self, place: int) -> None:
        if not 0 <= place <= MOST_UNPACKED:
            raise tarfile.ReadError(f"it unpacks to more than {MOST_UNPACKED:,} bytes")


def _unpacked(path: Path) -> bytes:
    with opened(path) as packed, gzip.open(packed) as content:
        return read_at_most(content, MOST_BYTES, path)


def _parsed(name: str, source: Path, content: Callable[[str], bytes]) -> dict[str, np.ndarray]:
    try:
        return ARCHIVES[name].parse(content)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{source} is broken or not complete ({reason}); get it again.") from None


def _cifar10(content: Callable[[str], bytes]) -> dict[str, np.ndarray]:
    train = [_records(content(f"data_batch_{batch}.bin"), 1) for batch in range(1, 6)]
    return _arrays(train=np.concatenate(train), test=_records(content("test_batch.bin"), 1))


def _cifar100(content: Callable[[str], bytes]) -> dict[str, np.ndarray]:
    parts = {part: _records(content(f"{part}.bin"), 2) for part in ("train", "test")}
    coarse = {f"y_{part}_coarse": records[:, 0] for part, records in parts.items()}
    return _arrays(**parts) | coarse


def _records(content: bytes, num_labels: int) -> np.ndarray:
    """One row for each image: its labels, then its pixels."""
    return np.frombuffer(content, np.uint8).reshape(-1, num_labels + PIXELS)


def _arrays(**parts: np.ndarray) -> dict[str, np.ndarray]:
    arrays = {}
    for part, records in parts.items():
        # The last label is the finest; the pixels come colour by colour.
        images = records[:, -PIXELS:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        arrays[f"x_{part}"] = np.ascontiguousarray(images)
        arrays[f"y_{part}"] = records[:, -PIXELS - 1]
    return arrays


def _mnist(content: Callable[[str], bytes]) -> dict[str, np.ndarray]:
    arrays = {}
    for part, prefix in MNIST_NAMES.items():
        arrays[f"x_{part}"] = _idx(content(f"{prefix}-images-idx3-ubyte"))
        arrays[f"y_{part}"] = _idx(content(f"{prefix}-labels-idx1-ubyte"))
    return arrays


def _idx(content: bytes) -> np.ndarray:
    """An array of bytes: two zeros, the type, the number of dimensions, each size, the values."""
    num_dimensions = content[3]
    sizes = np.frombuffer(content, ">i4", num_dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * num_dimensions).reshape(sizes)


class Archive(NamedTuple):
    """A public archive.

    Attributes:
        parse: from the content of a part to arrays, under the keys of `load_npz`.
        tar: the file that holds all parts; none where each has a file of its own.
        places: folders where the parts are once they are unpacked, the first one in the tar too.
        first: one of the parts.
    """

    parse: Callable[[Callable[[str], bytes]], dict[str, np.ndarray]]
    tar: str | None
    places: tuple[str, ...]
    first: str


ARCHIVES: Mapping[str, Archive] = {
    "cifar10": Archive(
        _cifar10, "cifar-10-binary.tar.gz", ("cifar-10-batches-bin", "."), "data_batch_1.bin"
    ),
    "cifar100": Archive(
        _cifar100, "cifar-100-binary.tar.gz", ("cifar-100-binary", "."), "train.bin"
    ),
    # Not in the folder itself: the files of both are called alike. The second is torchvision's.
    "mnist": Archive(_mnist, None, ("mnist", "MNIST/raw"), IDX_FILE),
    "fashion_mnist": Archive(_mnist, None, ("fashion_mnist", "FashionMNIST/raw"), IDX_FILE),
}
