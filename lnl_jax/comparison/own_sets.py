"""Data sets of a user's own, as what ``--dataset NAME --dataset.KEYWORD VALUE`` chooses.

Their labels are given: which of them are right is not known, unless a column says so.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lnl_jax import data
from lnl_jax.comparison import whole_sets
from lnl_jax.runner.arguments import StudyError


def csv(
    data_dir: str | None,
    *,
    file: str = "labels.csv",
    label: str = "label",
    image: str | None = None,
    clean_label: str | None = None,
    ignore: str = "",
    size: int = 32,
    skip_unreadable: bool = False,
    test_share: float = 0.2,
) -> data.Splits:
    """Features as columns of a CSV file, or images named in one."""
    return data.hold_out_test(
        whole_sets.csv(
            data_dir,
            file=file,
            label=label,
            image=image,
            clean_label=clean_label,
            ignore=ignore,
            size=size,
            skip_unreadable=skip_unreadable,
        ),
        test_share,
    )


def folder(
    data_dir: str | None,
    *,
    path: str | None = None,
    size: int = 32,
    skip_unreadable: bool = False,
    test_share: float = 0.2,
) -> data.Splits:
    """Images in a folder for each class, CLASS/*.jpg, in --data_dir or in a path."""
    whole = whole_sets.folder(data_dir, path=path, size=size, skip_unreadable=skip_unreadable)
    return data.hold_out_test(whole, test_share)


def folder_pair(
    data_dir: str | None,
    *,
    train: str = "train",
    test: str = "val",
    size: int = 32,
    skip_unreadable: bool = False,
) -> data.Splits:
    """Images from the web to train on, and others with right labels: two folders of CLASS/*.jpg.

    The paths are below --data_dir. What is trained on is as it was found, so its labels are given;
    those of the other folder should have been looked at.
    """
    whole = {
        name: whole_sets.folder(
            None,
            path=str(Path(data_dir or ".", path).expanduser()),
            size=size,
            skip_unreadable=skip_unreadable,
        )
        for name, path in (("train", train), ("test", test))
    }
    names = [one.class_names for one in whole.values()]
    if names[0] != names[1]:
        apart = sorted(set(names[0]) ^ set(names[1])) or ["their order"]
        raise StudyError(
            f"dataset folder_pair: {train} and {test} must have the same classes, got "
            f"{len(names[0])} and {len(names[1])}; {', '.join(apart[:3])} is in one alone."
        )
    parts = [
        {**one.columns, "index": np.arange(len(one.columns["label"]), dtype=np.int32)}
        for one in whole.values()
    ]
    return data.Splits(*parts, len(names[0]), tuple(names[0]), given=True)


def npz(data_dir: str | None, *, name: str = "data", num_classes: int | None = None) -> data.Splits:
    """Images or features: NAME.npz in --data_dir; class_names there name the classes."""
    return whole_sets.splits_of_npz(data_dir, name=name, num_classes=num_classes)


def tfds(
    data_dir: str | None,
    *,
    name: str = "iris",
    inputs: str | None = None,
    label: str = "label",
    test: str = "test",
    size: int | None = None,
) -> data.Splits:
    """What TensorFlow Datasets has prepared in --data_dir or in its own folder."""
    return data.prepared_set(name, data_dir, inputs=inputs, label=label, test=test, size=size)


OWN_SETS: dict[str, Callable] = {
    "csv": csv,
    "folder": folder,
    "folder_pair": folder_pair,
    "npz": npz,
    "tfds": tfds,
}
