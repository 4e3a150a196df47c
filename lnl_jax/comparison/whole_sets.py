"""Data sets in one part, whose labels are judged: what ``--dataset NAME`` chooses.

Those of a user's own are given: which of them are right is not known, unless a column says so.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lnl_jax import data
from lnl_jax.runner.arguments import StudyError


def digits(data_dir: str | None) -> data.Labelled:
    """Scikit-learn's digits, whose labels are right."""
    del data_dir
    whole = data.digits()
    columns = {name: whole[name] for name in ("label", "index")} | {"clean_label": whole["label"]}
    columns["image"] = np.uint8(np.rint(255 * whole["x"].reshape(-1, 8, 8, 1)))
    return data.Labelled(columns, tuple("0123456789"), whole["index"])


def cifar10(data_dir: str | None) -> data.Labelled:
    """The training part of CIFAR-10, or of the part of it that there is."""
    return training_part(data.cifar10(data_dir))


def cifar100(data_dir: str | None) -> data.Labelled:
    """The training part of CIFAR-100."""
    return training_part(data.cifar100(data_dir))


def mnist(data_dir: str | None) -> data.Labelled:
    """The training part of MNIST."""
    return training_part(data.mnist(data_dir))


def letter(data_dir: str | None) -> data.Labelled:
    """The training part of letter."""
    return training_part(data.letter(data_dir))


def splits_of_npz(
    data_dir: str | None, *, name: str = "data", num_classes: int | None = None
) -> data.Splits:
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
        names = tuple(map(str, names))
        if twice := [one for one in names if names.count(one) > 1]:
            raise StudyError(f"class_names of {name}.npz must differ, got {twice[0]} twice.")
        splits = splits._replace(class_names=names)
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


def folder(
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


def npz(
    data_dir: str | None, *, name: str = "data", num_classes: int | None = None
) -> data.Labelled:
    """The training part of NAME.npz in --data_dir."""
    return training_part(splits_of_npz(data_dir, name=name, num_classes=num_classes))


def tfds(
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


WHOLE_SETS: dict[str, Callable] = {
    "digits": digits,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "mnist": mnist,
    "letter": letter,
    "csv": csv,
    "folder": folder,
    "npz": npz,
    "tfds": tfds,
}
