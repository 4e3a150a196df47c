"""Data sets of a user's own, as what ``--dataset NAME --dataset.KEYWORD VALUE`` chooses.

Their labels are given: which of them are right is not known, unless a column says so.
"""

from collections.abc import Callable

from lnl_jax import data
from lnl_jax.comparison import whole_sets


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
    "npz": whole_sets.splits_of_npz,
    "tfds": tfds,
}
