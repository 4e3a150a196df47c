"""Sets of many classes or columns: news20 and ALOI, Kuzushiji-49 and Tiny-ImageNet.

Each is taken from a user's file or folder first, then from the cache, ``$XDG_CACHE_HOME/lnl_jax``
or ``~/.cache/lnl_jax``, then from its public source, compared with a checksum where there is one.
"""

import bz2
import io
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lnl_jax._extras import require
from lnl_jax._files import read_bytes
from lnl_jax._host_arguments import check_integer
from lnl_jax.data.dataset import KEYS, PARTS, Splits, splits_of
from lnl_jax.data.decoding import decode
from lnl_jax.data.downloads import RemoteFile, check_connection, download
from lnl_jax.data.image_sets import cache_folder
from lnl_jax.data.npz import check_folder, load_npz, read_arrays, save_npz
from lnl_jax.data.tables import OpenMLTable, load_table

NEWS_FILES = {"train": "news20", "test": "news20.t"}
K49 = "https://codh.rois.ac.jp/kmnist/dataset/k49"
K49_FILES = {
    "x_train": ("k49-train-imgs.npz", "7ac088b20481cf51dcd01ceaab89d821"),
    "y_train": ("k49-train-labels.npz", "44a8e1b893f81e63ff38d73cad420f7a"),
    "x_test": ("k49-test-imgs.npz", "d352e201d846ce6b94f42c990966f374"),
    "y_test": ("k49-test-labels.npz", "4da6f7a62e67a832d5eb1bd85c5ee448"),
}
TINY = "tiny-imagenet-200"
TINY_ZIP = RemoteFile(
    f"http://cs231n.stanford.edu/{TINY}.zip",
    248_100_043,
    "",
    f"{TINY}.zip",
    "90528d7ca1a48142e341f4ef8d21d0de",
)
TINY_SIZE = 64


def aloi(data_dir: str | os.PathLike | None = None) -> Splits:
    """ALOI: 108,000 pictures of 1,000 objects as 128 colour features; no official parts.

    Args:
        data_dir: a folder that may hold ``aloi.npz``; None, or a folder without it, asks OpenML. A
            fifth of each class, drawn once and for all, is for testing where the file has no
            ``x_test``.

    Returns:
        `Splits` with ``x``, float32, ``[N, 128]``.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        Geusebroek, Burghouts and Smeulders, "The Amsterdam Library of Object Images" (IJCV, 2005).
    """
    names = tuple(map(str, range(1_000)))
    return load_table(OpenMLTable("aloi", 42396, 128, (108_000, 0), names, names), data_dir)


def news20(data_dir: str | os.PathLike | None = None, *, words: int = 2_000) -> Splits:
    """20 Newsgroups as a bag of words: 20 classes, the words that most training texts have.

    Sparse counts become ``log(1 + count)`` of the chosen words, each text scaled to length 1.

    Args:
        data_dir: a folder that may hold ``news20.npz`` or the two files of LIBSVM's format,
            ``news20`` and ``news20.t``, packed as ``.bz2`` or not. The npz has ``x_train`` and
            ``x_test``, dense, or as the arrays of compressed rows, ``x_train_data``,
            ``x_train_indices``, ``x_train_indptr``, with ``y_train``. None, or a folder without
            them, asks scikit-learn, which downloads and caches the texts' counts.
        words: how many columns are kept.

    Returns:
        `Splits` with ``x``, float32, ``[N, words]``, or fewer columns where there are not as many.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        Lang, "NewsWeeder: Learning to Filter Netnews" (ICML, 1995).
    """
    check_integer("words", words)
    folder = None if data_dir is None else check_folder(data_dir)
    parts, source = _news_parts(folder)
    (train, y_train), (test, y_test) = (parts[part] for part in PARTS)
    columns = [int(one.columns) for one in (train, test)]
    if columns[0] != columns[1]:
        raise ValueError(
            f"{source}: both parts must have the same words, got {columns[0]} and {columns[1]} "
            "columns."
        )
    texts = np.bincount(train.indices[train.data != 0], minlength=columns[0])
    # Of equally frequent words those that come first.
    kept = np.sort(np.argsort(-texts, kind="stable")[:words])
    arrays = {"y_train": y_train, "y_test": y_test}
    for part, counts in zip(PARTS, (train, test), strict=True):
        x = np.log1p(np.maximum(counts.dense(kept), 0))
        length = np.linalg.norm(x, axis=1, keepdims=True)
        arrays[f"x_{part}"] = np.float32(x / np.where(length > 0, length, 1))
    try:
        return splits_of(arrays, num_classes=20)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def kuzushiji49(data_dir: str | os.PathLike | None = None) -> Splits:
    """Kuzushiji-49: 232,365 and 38,547 grey images of 49 hiragana, 28 by 28 pixels, unbalanced.

    Args:
        data_dir: a folder that may hold ``kuzushiji49.npz`` or the four official files,
            ``k49-train-imgs.npz`` and so on; None, or a folder without them, downloads these.

    Returns:
        `Splits` with ``image``, uint8, ``[N, 28, 28, 1]``.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        Clanuwat et al., "Deep Learning for Classical Japanese Literature" (2018).
    """

    def read(folder: Path) -> Mapping[str, np.ndarray] | None:
        files = {key: folder / name for key, (name, _) in K49_FILES.items()}
        if not all(file.is_file() for file in files.values()):
            return None
        found = {}
        for key, file in files.items():
            arrays = read_arrays(folder, file.stem, "arr_0")[1]
            if "arr_0" not in arrays:
                raise ValueError(f"{file}: arr_0 is missing; there are {', '.join(arrays)}.")
            found[key] = arrays["arr_0"]
        return found

    def fetch(folder: Path) -> None:
        for name, md5 in K49_FILES.values():
            if not (folder / name).is_file():
                remote = RemoteFile(f"{K49}/{name}", 0, "", name, md5)
                download(remote, folder).rename(folder / name)

    return _images("kuzushiji49", data_dir, (28, 28, 1), 49, read, fetch, K49)


def tiny_imagenet(data_dir: str | os.PathLike | None = None) -> Splits:
    """Tiny-ImageNet: 100,000 and 10,000 colour images of 200 classes, 64 by 64 pixels.

    The official validation part is the test part here: that for testing has no labels.

    Args:
        data_dir: a folder that may hold ``tiny_imagenet.npz``, ``tiny-imagenet-200.zip`` or what is
            unpacked from it, the folder ``tiny-imagenet-200``; None, or a folder without them,
            downloads the archive.

    Returns:
        `Splits` with ``image``, uint8, ``[N, 64, 64, 3]``; classes as in ``wnids.txt``.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        Le and Yang, "Tiny ImageNet Visual Recognition Challenge" (CS231N report, 2015).
    """

    def read(folder: Path) -> Mapping[str, np.ndarray] | None:
        if (folder / TINY).is_dir():
            place = folder / TINY
            return _tiny(place, lambda name: read_bytes(place / name), _below(place))
        archive = folder / TINY_ZIP.name
        if not archive.is_file():
            return None
        try:
            with zipfile.ZipFile(archive) as opened:
                names = [name.removeprefix(f"{TINY}/") for name in opened.namelist()]
                return _tiny(archive, lambda name: opened.read(f"{TINY}/{name}"), names)
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise ValueError(f"{archive} is broken ({error}); get it again.") from error

    def fetch(folder: Path) -> None:
        download(TINY_ZIP, folder).rename(folder / TINY_ZIP.name)

    shape = (TINY_SIZE, TINY_SIZE, 3)
    return _images("tiny_imagenet", data_dir, shape, None, read, fetch, TINY_ZIP.url)


def _images(
    name: str,
    data_dir: str | os.PathLike | None,
    shape: tuple[int, int, int],
    num_classes: int | None,
    read: Callable[[Path], Mapping[str, np.ndarray] | None],
    fetch: Callable[[Path], None],
    url: str,
) -> Splits:
    folder = None if data_dir is None else check_folder(data_dir)
    cache = cache_folder()
    for place in [cache] if folder is None else [folder, cache]:
        if (place / f"{name}.npz").is_file():
            splits = load_npz(place, name, num_classes=num_classes)
            return _sized(splits, shape, place / f"{name}.npz")
        if place.is_dir() and (arrays := read(place)) is not None:
            return _sized(_split(arrays, num_classes, place), shape, place)
    try:
        check_connection(url)
        cache.mkdir(parents=True, exist_ok=True)
        fetch(cache)
    except (ConnectionError, ModuleNotFoundError) as error:
        raise FileNotFoundError(
            f"{name} is neither in {folder or 'data_dir'} nor in {cache} and cannot be downloaded "
            f"({error}). Give data_dir, a folder with {name}.npz (keys {', '.join(KEYS)}) or what "
            f"stands at {url}, or connect to the internet."
        ) from error
    arrays = read(cache)
    save_npz(cache / f"{name}.npz", arrays)
    return _sized(_split(arrays, num_classes, cache), shape, cache)


def _split(arrays: Mapping[str, np.ndarray], num_classes: int | None, place: Path) -> Splits:
    try:
        return splits_of(arrays, num_classes=num_classes)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _sized(splits: Splits, shape: tuple[int, int, int], source: Path) -> Splits:
    for part in PARTS:
        columns = getattr(splits, part)
        found = columns["image" if "image" in columns else "x"].shape[1:]
        if found != shape:
            raise ValueError(
                f"{source}: x_{part} must hold images of {shape}, got {found}; resize them, or "
                "read them as a set of your own, npz."
            )
    return splits


def _below(folder: Path) -> list[str]:
    return [str(file.relative_to(folder).as_posix()) for file in folder.rglob("*.*")]


def _tiny(
    source: Path, content: Callable[[str], bytes], names: Sequence[str]
) -> dict[str, np.ndarray]:
    try:
        classes = content("wnids.txt").decode().split()
        lines = content("val/val_annotations.txt").decode().splitlines()
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{source} must hold wnids.txt, train/CLASS/images/*.JPEG, val/images/*.JPEG and "
            f"val/val_annotations.txt ({error}); get it again."
        ) from error
    number = {name: at for at, name in enumerate(classes)}
    train = sorted(one for one in names if one.startswith("train/") and one.endswith(".JPEG"))
    of_train = [one.split("/")[1] for one in train]
    test = [line.split("\t")[:2] for line in lines if line.strip()]
    for name in dict.fromkeys([*of_train, *(label for _, label in test)]):
        if name not in number:
            raise ValueError(f"{source}: {name} is a class that wnids.txt does not have.")
    return {
        "x_train": _pictures(train, content, source),
        "y_train": np.array([number[one] for one in of_train], np.int32),
        "x_test": _pictures([f"val/images/{file}" for file, _ in test], content, source),
        "y_test": np.array([number[label] for _, label in test], np.int32),
    }


def _pictures(names: Sequence[str], content: Callable[[str], bytes], source: Path) -> np.ndarray:
    found = np.empty((len(names), TINY_SIZE, TINY_SIZE, 3), np.uint8)
    for at, name in enumerate(names):
        picture = decode(content(name), f"{source}: {name}", lambda image: image)
        if picture.shape != found.shape[1:]:
            raise ValueError(
                f"{source}: {name} must be of {TINY_SIZE} by {TINY_SIZE} pixels, got "
                f"{picture.shape[0]} by {picture.shape[1]}; resize it, or read your images as a "
                "folder of your own."
            )
        found[at] = picture
    return found


def _news_parts(folder: Path | None) -> tuple[dict[str, tuple], str]:
    if folder is not None and (folder / "news20.npz").is_file():
        path, arrays = read_arrays(folder, "news20", ", ".join(KEYS))
        return {part: _news_rows(arrays, part, path) for part in PARTS}, str(path)
    files = {part: _packed(folder, name) for part, name in NEWS_FILES.items()}
    if all(files.values()):
        return _news_of_libsvm(files), str(folder)
    return _news_of_sklearn(), "scikit-learn's 20 newsgroups"


def _packed(folder: Path | None, name: str) -> Path | None:
    files = [] if folder is None else [folder / name, folder / f"{name}.bz2"]
    return next((file for file in files if file.is_file()), None)


class _Rows(NamedTuple):
    """Compressed rows: row i has the values from ``starts[i]`` to ``starts[i + 1]``."""

    data: np.ndarray
    indices: np.ndarray
    starts: np.ndarray
    columns: int

    def dense(self, kept: np.ndarray) -> np.ndarray:
        """Some columns of all rows, ``[N, len(kept)]``."""
        row = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        place = np.full(self.columns, -1)
        place[kept] = np.arange(len(kept))
        column = place[self.indices]
        there = column >= 0
        found = np.zeros((len(self.starts) - 1, len(kept)))
        np.add.at(found, (row[there], column[there]), self.data[there])
        return found


def _of_matrix(matrix: Any) -> _Rows:
    """That of SciPy."""
    rows = matrix.tocsr()
    return _Rows(rows.data, rows.indices, rows.indptr, rows.shape[1])


def _news_rows(arrays: Mapping[str, np.ndarray], part: str, path: Path) -> tuple:
    labels = arrays.get(f"y_{part}")
    keys = [f"x_{part}_{name}" for name in ("data", "indices", "indptr")]
    if labels is None or not (f"x_{part}" in arrays or all(key in arrays for key in keys)):
        raise ValueError(
            f"{path} must hold y_{part} and x_{part}, dense, or {', '.join(keys)}; there are "
            f"{', '.join(sorted(arrays))}."
        )
    if f"x_{part}" in arrays:
        x = arrays[f"x_{part}"]
        if x.ndim != 2 or x.dtype.kind not in "iuf":
            raise ValueError(
                f"{path}: x_{part} must hold numbers, [N, words], got {x.dtype} of {x.shape}."
            )
        indices = np.tile(np.arange(x.shape[1]), len(x))
        return _Rows(x.ravel(), indices, np.arange(len(x) + 1) * x.shape[1], x.shape[1]), labels
    data, indices, starts = (arrays[key] for key in keys)
    whole = [values.ndim == 1 and values.dtype.kind in "iu" for values in (indices, starts)]
    if (
        not all(whole)
        or data.shape != indices.shape
        or len(starts) != len(labels) + 1
        or (np.diff(np.int64(starts), prepend=0) < 0).any()
        or starts[-1] != len(data)
        or (indices < 0).any()
    ):
        raise ValueError(
            f"{path}: {', '.join(keys)} are no compressed rows, one for each of the "
            f"{len(labels)} labels, as scipy.sparse.csr_matrix has them."
        )
    others = [arrays.get(f"x_{one}_indices", indices) for one in PARTS]
    widest = max(int(one.max(initial=-1)) for one in others) + 1
    return _Rows(data, indices, starts, widest), labels


def _unpacked(file: Path) -> io.BytesIO:
    content = read_bytes(file)
    return io.BytesIO(bz2.decompress(content) if file.suffix == ".bz2" else content)


def _news_of_libsvm(files: Mapping[str, Path]) -> dict[str, tuple]:
    require("sklearn")
    from sklearn.datasets import load_svmlight_files

    contents = [
        io.BytesIO(
            bz2.decompress(file.read_bytes()) if file.suffix == ".bz2" else file.read_bytes()
        )
        for file in files.values()
    ]
    try:
        train, y_train, test, y_test = load_svmlight_files(contents)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{', '.join(map(str, files.values()))} must be in LIBSVM's format, lines of a label "
            f"and word:count ({error})."
        ) from error
    # LIBSVM counts classes from 1.
    return {
        "train": (_of_matrix(train), np.int32(y_train) - 1),
        "test": (_of_matrix(test), np.int32(y_test) - 1),
    }


def _news_of_sklearn() -> dict[str, tuple]:
    require("sklearn")
    from sklearn.datasets import fetch_20newsgroups_vectorized

    try:
        found = {
            part: fetch_20newsgroups_vectorized(subset=part, normalize=False) for part in PARTS
        }
    except OSError as error:
        raise FileNotFoundError(
            f"news20 cannot be had through scikit-learn ({error}). Give data_dir, a folder with "
            f"news20.npz (keys {', '.join(KEYS)}, or compressed rows) or LIBSVM's files news20 and "
            "news20.t, or connect to the internet."
        ) from error
    return {part: (_of_matrix(one.data), np.int32(one.target)) for part, one in found.items()}
