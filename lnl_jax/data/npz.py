"""Data sets in NumPy's ``.npz`` files."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lnl_jax._files import read_npz
from lnl_jax.data.dataset import KEYS, Splits, splits_of


def load_npz(
    data_dir: str | os.PathLike,
    name: str,
    *,
    num_classes: int | None = None,
    class_names: tuple[str, ...] = (),
) -> Splits:
    """Any data set, from ``DIR/NAME.npz``.

    The file holds ``x_train``, ``y_train``, ``x_test`` and ``y_test``: tables ``[N, D]`` of numbers
    or images ``[N, H, W]`` or ``[N, H, W, C]`` of uint8, and labels from 0 to K - 1. Other arrays
    may come along:

    * ``y_train_NAME``, further labels such as those of one annotator, become ``label_NAME``; they
      may have classes of their own;
    * ``NAME_train`` becomes ``NAME`` where it has a value for each training example;
    * the same with ``test``; everything else goes to ``extras``.

    Args:
        data_dir: DIR.
        name: NAME, without ``.npz``.
        num_classes: K; by default the number of `class_names`, else 1 + the largest of ``y_train``,
            where every class must have an example. Give it where some may have none.
        class_names: of each class.

    Returns:
        The `Splits`.

    Raises:
        FileNotFoundError: if there is no such folder, or no such file in it.
        ValueError: if the file is broken or holds pickles, if a key is missing, if an array does
            not fit, or if a class has no example; names the file and the array.

    Example:
        >>> x, y = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 2, 1])
        >>> folder = tempfile.TemporaryDirectory()
        >>> np.savez(f"{folder.name}/small.npz", x_train=x, y_train=y, x_test=x, y_test=y)
        >>> splits = load_npz(folder.name, "small")
        >>> splits.train["image"].shape, splits.num_classes
        ((4, 8, 8, 1), 3)
        >>> folder.cleanup()
    """
    path, arrays = read_arrays(data_dir, name, ", ".join(KEYS))
    try:
        return splits_of(arrays, num_classes=num_classes, class_names=class_names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_arrays(
    data_dir: str | os.PathLike, name: str, holds: str
) -> tuple[Path, dict[str, np.ndarray]]:
    """The path of ``DIR/NAME.npz``, and what is in it; `holds` says what should be."""
    folder = check_folder(data_dir)
    path = folder / f"{name}.npz"
    # What is there and is no file is refused by its reader.
    if not os.path.lexists(path):
        others = ", ".join(sorted(file.name for file in folder.glob("*.npz"))) or "none"
        raise FileNotFoundError(
            f"{path} does not exist; the .npz files there: {others}. It holds {holds}."
        )
    return path, read_npz(path)


def check_folder(data_dir: str | os.PathLike) -> Path:
    """The folder, if it is one; a mistyped `data_dir` must not send anyone to the internet."""
    folder = Path(data_dir).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"data_dir must be a folder that exists, got {str(data_dir)!r}.")
    return folder


def save_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the file whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        unfinished = Path(folder, path.name)
        np.savez(unfinished, **arrays)
        os.replace(unfinished, path)
