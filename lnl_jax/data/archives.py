"""Image sets from their public archives, in the binary formats that need no pickle."""

import gzip
import importlib.resources
import importlib.util
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from lnl_jax._extras import require
from lnl_jax.data.downloads import RemoteFile, download
from lnl_jax.data.npz import save_npz

PIXELS = 3 * 32 * 32
MNIST_NAMES = {"train": "train", "test": "t10k"}


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
    save_npz(folder / f"{name}.npz", ARCHIVES[name](paths))
    for path in paths.values():
        path.unlink()


def _cifar10(paths: Mapping[str, Path]) -> dict[str, np.ndarray]:
    with tarfile.open(paths["cifar-10-binary.tar.gz"]) as archive:
        train = [
            _records(archive, f"cifar-10-batches-bin/data_batch_{batch}.bin", 1)
            for batch in range(1, 6)
        ]
        test = _records(archive, "cifar-10-batches-bin/test_batch.bin", 1)
    return _arrays(train=np.concatenate(train), test=test)


def _cifar100(paths: Mapping[str, Path]) -> dict[str, np.ndarray]:
    with tarfile.open(paths["cifar-100-binary.tar.gz"]) as archive:
        parts = {
            part: _records(archive, f"cifar-100-binary/{part}.bin", 2) for part in ("train", "test")
        }
    coarse = {f"y_{part}_coarse": records[:, 0] for part, records in parts.items()}
    return _arrays(**parts) | coarse


def _records(archive: tarfile.TarFile, member: str, num_labels: int) -> np.ndarray:
    """One row for each image: its labels, then its pixels."""
    content = archive.extractfile(member).read()
    return np.frombuffer(content, np.uint8).reshape(-1, num_labels + PIXELS)


def _arrays(**parts: np.ndarray) -> dict[str, np.ndarray]:
    arrays = {}
    for part, records in parts.items():
        # The last label is the finest; the pixels come colour by colour.
        images = records[:, -PIXELS:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        arrays[f"x_{part}"] = np.ascontiguousarray(images)
        arrays[f"y_{part}"] = records[:, -PIXELS - 1]
    return arrays


def _mnist(paths: Mapping[str, Path]) -> dict[str, np.ndarray]:
    arrays = {}
    for part, prefix in MNIST_NAMES.items():
        arrays[f"x_{part}"] = _idx(paths[f"{prefix}-images-idx3-ubyte.gz"])
        arrays[f"y_{part}"] = _idx(paths[f"{prefix}-labels-idx1-ubyte.gz"])
    return arrays


def _idx(path: Path) -> np.ndarray:
    """An array of bytes: two zeros, the type, the number of dimensions, each size, the values."""
    content = gzip.decompress(path.read_bytes())
    num_dimensions = content[3]
    sizes = np.frombuffer(content, ">i4", num_dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * num_dimensions).reshape(sizes)


ARCHIVES: Mapping[str, Callable[[Mapping[str, Path]], dict[str, np.ndarray]]] = {
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "mnist": _mnist,
    "fashion_mnist": _mnist,
}
