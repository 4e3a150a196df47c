"""Data sets of a user's own, as what ``--dataset NAME --dataset.KEYWORD VALUE`` chooses.

Their labels are given: which of them are right is not known, unless a column says so.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lnl_jax import data
from lnl_jax.runner.arguments import StudyError


def npz(data_dir: str | None, *, name: str = "data", num_classes: int | None = None) -> data.Splits:
    """Images or features: NAME.npz in --data_dir; class_names there name the classes."""
    if data_dir is None:
        raise StudyError(f"dataset npz reads {name}.npz from a folder: give --data_dir DIR.")
    splits = data.load_npz(data_dir, name, num_classes=num_classes)
    names = splits.extras.get("class_names")
    if names is not None:
        if np.shape(names) != (splits.num_classes,):
            raise StudyError(
                f"class_names of {name}.npz must name {splits.num_classes} classes, got "
                f"{np.size(names)}."
            )
        splits = splits._replace(class_names=tuple(map(str, names)))
    return splits._replace(given="clean_label" not in splits.train)


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
        csv_whole(
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
    return data.hold_out_test(
        folder_whole(data_dir, path=path, size=size, skip_unreadable=skip_unreadable), test_share
    )


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


def csv_whole(
    data_dir: str | None,
    *,
    file: str = "labels.csv",
    label: str = "label",
    image: str | None = None,
    clean_label: str | None = None,
    ignore: str = "",
    size: int = 32,
    skip_unreadable: bool = False,
) -> data.Labelled:
    """All rows of a CSV file: features as columns, or images named in one."""
    return data.csv_table(
        Path(data_dir or ".", file).expanduser(),
        label=label,
        image=image,
        clean_label=clean_label,
        ignore=[name.strip() for name in ignore.split(",") if name.strip()],
        size=size,
        skip_unreadable=skip_unreadable,
    )


def folder_whole(
    data_dir: str | None,
    *,
    path: str | None = None,
    size: int = 32,
    skip_unreadable: bool = False,
) -> data.Labelled:
    """All images in a folder for each class, CLASS/*.jpg, in --data_dir or in a path."""
    place = path or data_dir
    if place is None:
        raise StudyError("dataset folder reads CLASS/*.jpg: give --data_dir DIR.")
    return data.labelled_folder(place, size=size, skip_unreadable=skip_unreadable)


def npz_whole(
    data_dir: str | None, *, name: str = "data", num_classes: int | None = None
) -> data.Labelled:
    """The training part of NAME.npz in --data_dir."""
    return training_part(npz(data_dir, name=name, num_classes=num_classes))


def tfds_whole(
    data_dir: str | None,
    *,
    name: str = "iris",
    inputs: str | None = None,
    label: str = "label",
    size: int | None = None,
) -> data.Labelled:
    """The training part of what TensorFlow Datasets has prepared."""
    return training_part(
        data.prepared_set(name, data_dir, inputs=inputs, label=label, test="train", size=size)
    )


def training_part(splits: data.Splits) -> data.Labelled:
    """The training part as one whole.

    Args:
        splits: any set.

    Returns:
        `Labelled`; the label of a set that is not `given` is its ``clean_label``, too.
    """
    columns = dict(splits.train)
    if not splits.given:
        columns.setdefault("clean_label", columns["label"])
    names = splits.class_names or tuple(map(str, range(splits.num_classes)))
    return data.Labelled(columns, names, columns["index"])


OWN_SETS: dict[str, Callable] = {"csv": csv, "folder": folder, "npz": npz, "tfds": tfds}
OWN_WHOLE: dict[str, Callable] = {
    "csv": csv_whole,
    "folder": folder_whole,
    "npz": npz_whole,
    "tfds": tfds_whole,
}
