"""20 Newsgroups as a table of words: a user's file, LIBSVM's two files, or scikit-learn's."""

import bz2
import functools
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lnl_jax._extras import require
from lnl_jax._files import MOST_BYTES, opened, read_at_most, read_bytes
from lnl_jax._host_arguments import check_integer
from lnl_jax.data.dataset import KEYS, PARTS, Splits, splits_of
from lnl_jax.data.downloads import check_connection
from lnl_jax.data.npz import check_folder, read_arrays

NEWS_FILES = {"train": "news20", "test": "news20.t"}
# Where scikit-learn gets the texts from.
NEWS_URL = "https://ndownloader.figshare.com"
# Of words: the set has 62,061, and no list of words has more than this.
MOST_WORDS = 10_000_000


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
    if columns[0] > MOST_WORDS:
        raise ValueError(
            f"{source}: a word has the number {columns[0]:,}; words are numbered up to at most "
            f"{MOST_WORDS:,}."
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


def _news_parts(folder: Path | None) -> tuple[dict[str, tuple], str]:
    if folder is not None and os.path.lexists(folder / "news20.npz"):
        path, arrays = read_arrays(folder, "news20", ", ".join(KEYS))
        return {part: _news_rows(arrays, part, path) for part in PARTS}, str(path)
    files = {part: _packed(folder, name) for part, name in NEWS_FILES.items()}
    if all(files.values()):
        return _news_of_libsvm(files), str(folder)
    if any(files.values()):
        there, missing = sorted(NEWS_FILES, key=lambda part: files[part] is None)
        raise ValueError(
            f"{files[there]} must stand beside {NEWS_FILES[missing]} or {NEWS_FILES[missing]}.bz2, "
            "the other part."
        )
    return _news_of_sklearn(), "scikit-learn's 20 newsgroups"


def _packed(folder: Path | None, name: str) -> Path | None:
    files = [] if folder is None else [folder / name, folder / f"{name}.bz2"]
    return next(filter(os.path.lexists, files), None)


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
    if file.suffix != ".bz2":
        return io.BytesIO(read_bytes(file))
    with opened(file) as packed, bz2.open(packed) as content:
        return io.BytesIO(read_at_most(content, MOST_BYTES, file))


def _news_of_libsvm(files: Mapping[str, Path]) -> dict[str, tuple]:
    require("sklearn")
    from sklearn.datasets import load_svmlight_files

    where = ", ".join(map(str, files.values()))
    try:
        contents = [_unpacked(file) for file in files.values()]
        train, y_train, test, y_test = load_svmlight_files(contents)
    # What is damaged makes the two modules raise nearly anything.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{where} must be in LIBSVM's format, lines of a label and word:count ({reason})."
        ) from None
    if not all(np.isfinite(labels).all() for labels in (y_train, y_test)):
        raise ValueError(f"{where}: labels must be finite.")
    # LIBSVM counts classes from 1.
    return {
        "train": (_of_matrix(train), np.int32(y_train) - 1),
        "test": (_of_matrix(test), np.int32(y_test) - 1),
    }


def _news_of_sklearn() -> dict[str, tuple]:
    require("sklearn")
    from sklearn.datasets import fetch_20newsgroups_vectorized

    fetch = functools.partial(fetch_20newsgroups_vectorized, normalize=False)
    try:
        try:
            found = {part: fetch(subset=part, download_if_missing=False) for part in PARTS}
        except OSError:
            # Asked first, as scikit-learn tries again and again, and knows no time limit.
            check_connection(NEWS_URL)
            found = {part: fetch(subset=part) for part in PARTS}
    except OSError as error:
        raise FileNotFoundError(
            f"news20 cannot be had through scikit-learn ({error}). Give data_dir, a folder with "
            f"news20.npz (keys {', '.join(KEYS)}, or compressed rows) or LIBSVM's files news20 and "
            "news20.t, or connect to the internet."
        ) from error
    return {part: (_of_matrix(one.data), np.int32(one.target)) for part, one in found.items()}
