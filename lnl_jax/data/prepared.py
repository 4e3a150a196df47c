"""Image sets that TensorFlow Datasets has prepared on this machine."""

import importlib.util
import os
from pathlib import Path

import numpy as np

from lnl_jax._extras import require
from lnl_jax._files import brief
from lnl_jax.data import tfrecords
from lnl_jax.data.dataset import PARTS


def default_folder() -> Path:
    """Where TensorFlow Datasets keeps what it prepares."""
    return Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def find_prepared(folder: Path, name: str) -> Path | None:
    """The newest version of a set prepared in `folder`, in a format that needs no TensorFlow."""
    found = {path.parent for path in folder.glob(f"{name}/*/{name}-train.array_record*")}
    found |= {path.parent for path in folder.glob(f"{name}/*/{name}-train.tfrecord*")}
    return max(found, key=_version, default=None)


def _version(folder: Path) -> list[int]:
    return [int(part) if part.isdigit() else -1 for part in folder.name.split(".")]


def read_prepared(folder: Path) -> dict[str, np.ndarray]:
    """The images and labels of a prepared set, under the keys of `load_npz`.

    TensorFlow Datasets shuffles what it stores. Where it kept an ``id`` the examples are put in
    order of it, so that a row number means the same in every copy of the set.

    Raises:
        ValueError: if a file is missing or broken; names it.
    """
    name = folder.parent.name
    arrays = {}
    for part in PARTS:
        if next(folder.glob(f"{name}-{part}.tfrecord*"), None):
            examples = tfrecords.read_part(folder, f"{name}-{part}")
        else:
            examples = _array_records(folder, part)
        if not examples:
            raise ValueError(f"{folder} has no example in its {part} part; prepare it again.")
        if "id" in examples[0]:
            examples.sort(key=lambda example: example["id"])
        arrays[f"x_{part}"] = np.stack([example["image"] for example in examples])
        arrays[f"y_{part}"] = np.array([example["label"] for example in examples])
        if "coarse_label" in examples[0]:
            # As the archive of CIFAR-100 brings it along.
            coarse = np.array([example["coarse_label"] for example in examples])
            arrays[f"y_{part}_coarse"] = coarse
    return arrays


def _array_records(folder: Path, part: str) -> list[dict]:
    require("tensorflow_datasets")
    import tensorflow_datasets as tfds

    # Reads the very folder that was found: asked by name, it would look for the version of its own
    # code and, where that is missing, raise an error about something else.
    try:
        builder = tfds.builder_from_directory(os.fspath(folder))
        return list(builder.as_data_source(split=part))
    # What is damaged makes the package raise nearly anything.
    except Exception as error:
        reason = brief(" ".join(str(error).split()), 300)
        raise ValueError(
            f"{folder}: its {part} part cannot be read ({reason}); prepare the set again."
        ) from None


def can_prepare() -> bool:
    """Whether TensorFlow is there, without which these image sets cannot be prepared."""
    return all(map(importlib.util.find_spec, ("tensorflow", "tensorflow_datasets")))


def prepare(folder: Path, name: str) -> None:
    """Downloads and prepares a set with TensorFlow Datasets."""
    require("tensorflow_datasets")
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=os.fspath(folder), file_format="array_record")
    builder.download_and_prepare()
