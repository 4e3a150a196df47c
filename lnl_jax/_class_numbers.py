"""Class numbers on the host: one reader for all that holds labels, which says the repair."""

import numpy as np
from numpy.typing import ArrayLike

LARGEST = int(np.iinfo(np.int32).max)
LISTED = 8


def read_labels(
    labels: ArrayLike, num_classes: int | None = None, name: str = "labels"
) -> np.ndarray:
    """The labels as int32.

    Args:
        labels: integers of shape ``[N]``, signed or not.
        num_classes: K; None only asks that they are from 0 on and fit into int32.
        name: of the argument, for messages.

    Raises:
        ValueError: if they are not integers, have another shape, or are out of range; says what
            they look like and how that is repaired.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be integers of shape [N], got {labels.dtype} of shape {labels.shape}; "
            f"{_repair_of_form(labels, name)}."
        )
    outside = (labels < 0) | (labels > LARGEST - 1)
    if num_classes is not None:
        outside |= labels >= num_classes
    rows = np.flatnonzero(outside)
    if rows.size:
        bounds = "at least 0" if num_classes is None else f"from 0 to {num_classes - 1}"
        bounds = bounds if num_classes is not None or labels.min() < 0 else "less than 2**31 - 1"
        raise ValueError(
            f"{name} must be {bounds}; {rows.size} of {labels.size} are not, the first in row "
            f"{rows[0]}: {labels[rows[0]]}{_repair_of_range(labels, rows, num_classes, name)}."
        )
    return labels.astype(np.int32)


def count_classes(labels: ArrayLike, name: str = "labels") -> int:
    """K, one more than the largest label, if every class up to it has an example.

    Raises:
        ValueError: if a class has none, as where classes are numbered from 1; names such classes.
    """
    labels = read_labels(labels, name=name)
    if not labels.size:
        raise ValueError(f"{name} must hold at least one label, got none.")
    present = np.unique(labels)
    num_classes = int(present[-1]) + 1
    if len(present) == num_classes:
        return num_classes
    # Not an array of all numbers: one label may be a billion.
    gaps = np.flatnonzero(np.diff(present, prepend=-1) > 1)
    listed = [number for gap in gaps[:LISTED] for number in range(*_gap(present, gap))[:LISTED]][
        :LISTED
    ]
    missing = num_classes - len(present)
    more = f" and {missing - len(listed)} more" if missing > len(listed) else ""
    raise ValueError(
        f"{name} has no example of {missing} of {num_classes} classes: "
        f"{', '.join(map(str, listed))}{more}. {_repair_of_gaps(present, missing, name)}, or say "
        f"that classes may be empty: num_classes={num_classes}."
    )


def _repair_of_gaps(present: np.ndarray, missing: int, name: str) -> str:
    if present[-1] in _MARKS:
        return _dropping(present[-1], name)
    if present[0] == 1 and missing == 1:
        return f"Number the classes from 0 on: {name} - 1, and all other labels alike"
    return (
        "Number the classes from 0 on without gaps: "
        f"np.searchsorted(np.unique({name}), {name}), and all other labels alike"
    )


def _dropping(value: int, name: str) -> str:
    return (
        f"{value} commonly marks rows without a label: drop them from all arrays, "
        f"keep = {name} != {value}"
    )


def _gap(present: np.ndarray, index: int) -> tuple[int, int]:
    return (int(present[index - 1]) + 1 if index else 0), int(present[index])


def _repair_of_form(labels: np.ndarray, name: str) -> str:
    if labels.dtype.kind in "USO" or labels.dtype.kind == "T":
        return f"number the classes: names, {name} = np.unique({name}, return_inverse=True)"
    if labels.ndim == 2 and labels.shape[1] == 1:
        return f"take the one column: {name}[:, 0]"
    if labels.ndim == 2 and labels.shape[1] > 1:
        return f"if each row has a score for each class (one-hot), take {name}.argmax(axis=1)"
    if labels.ndim != 1:
        return "give one class number for each example"
    if labels.dtype.kind == "b":
        return f"cast them: {name}.astype(np.int64)"
    if labels.dtype.kind == "f":
        broken = np.flatnonzero(~(np.isfinite(labels) & (labels == np.trunc(labels))))
        if not broken.size:
            return f"cast them: {name}.astype(np.int64)"
        return (
            f"{broken.size} are no whole numbers, the first in row {broken[0]}: "
            f"{labels[broken[0]]:g}; drop such rows, or turn probabilities into class numbers"
        )
    return "give one class number for each example"


def _repair_of_range(
    labels: np.ndarray, rows: np.ndarray, num_classes: int | None, name: str
) -> str:
    values = np.unique(labels[rows])
    lowest = labels.min()
    if num_classes is not None and lowest == 1 and values.tolist() == [num_classes]:
        return f"; they are numbered from 1: subtract it, {name} - 1"
    if len(values) == 1 and (values[0] == -1 or values[0] in _MARKS):
        return f"; {_dropping(values[0], name)}"
    return ""


# What "ignore" or a wrapped -1 is in unsigned labels.
_MARKS = tuple(int(np.iinfo(dtype).max) for dtype in (np.uint8, np.uint16, np.uint32, np.uint64))
