"""What functions on the host check of numbers and of class numbers, before anything is traced.

It needs NumPy alone. `_arguments.py` has what is asked of JAX's arrays.

A message names the argument, what was given and what to do.
"""

import math
import numbers
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

LARGEST = int(np.iinfo(np.int32).max)
LISTED = 8
# What "ignore" or a wrapped -1 is in unsigned labels.
_MARKS = tuple(int(np.iinfo(dtype).max) for dtype in (np.uint8, np.uint16, np.uint32, np.uint64))


def is_finite_number(value: float) -> bool:
    """Whether it is one real number, neither boolean nor infinite nor NaN."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    return number and math.isfinite(value)


def check_integer(name: str, value: int, *, at_least: int = 1, at_most: int | None = None) -> None:
    """Raises ValueError unless the value is an integer, Python's or NumPy's, within the bounds."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool | np.bool_)
    if not is_integer or value < at_least or (at_most is not None and value > at_most):
        to = " on" if at_most is None else f" to {at_most}"
        raise ValueError(f"{name} must be an integer from {at_least}{to}, got {value!r}.")


def check_number(
    name: str,
    value: float,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> None:
    """Raises ValueError unless the value is one finite number within the bounds."""
    within = (
        is_finite_number(value)
        and (at_least is None or value >= at_least)
        and (above is None or value > above)
        and (at_most is None or value <= at_most)
        and (below is None or value < below)
    )
    if not within:
        bounds = {"at least": at_least, "above": above, "at most": at_most, "below": below}
        allowed = " and ".join(f"{word} {v:g}" for word, v in bounds.items() if v is not None)
        raise ValueError(
            f"{name} must be a finite number{' ' * bool(allowed)}{allowed}, got {value!r}."
        )


def check_seed(name: str, value: int | Sequence[int]) -> None:
    """Raises ValueError unless the value is an integer from 0 on, or a sequence of such."""
    for one in value if isinstance(value, list | tuple | np.ndarray) else (value,):
        check_integer(name, one, at_least=0)


def common_length(dataset: Mapping) -> int:
    """N, or raises ValueError where the columns of a data set differ in it, or there are none."""
    lengths = {name: len(values) for name, values in dataset.items()}
    if len(set(lengths.values())) != 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items()) or "none"
        raise ValueError(f"dataset must hold columns of one length, got {shown}.")
    return next(iter(lengths.values()))


def check_generator(name: str, rng: np.random.Generator) -> None:
    """Raises ValueError unless random numbers can be drawn from it."""
    if not isinstance(rng, np.random.Generator):
        raise ValueError(
            f"{name} must be a numpy.random.Generator, got {type(rng).__name__}; "
            "np.random.default_rng(0) makes one of a seed."
        )


def host_array(name: str, values: ArrayLike, dtype: DTypeLike = None) -> np.ndarray:
    """NumPy's array.

    Raises:
        ValueError: for rows of unlike lengths, and for what is not of the dtype that is asked for;
            of complex numbers NumPy would drop the imaginary part.
    """
    try:
        if dtype is not None and np.dtype(dtype).kind != "c" and np.iscomplexobj(values):
            raise TypeError
        return np.asarray(values, dtype)
    except (TypeError, ValueError, OverflowError):
        text = " ".join(str(values).split())[:200]
        raise ValueError(f"{name} must be an array of numbers, got {text}.") from None


def read_class_numbers(
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
    labels = host_array(name, labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be integers of shape [N], got {labels.dtype} of shape "
            f"{labels.shape}{_repair_of_form(labels, name)}."
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


def host_classes(
    labels: ArrayLike, size: int, num_classes: int | None = None, name: str = "labels"
) -> np.ndarray:
    """The classes of the examples on the host, int32, ``[N]``.

    Raises:
        ValueError: unless they are N integers from 0 to K - 1.
    """
    labels = read_class_numbers(labels, num_classes, name)
    if len(labels) != size:
        raise ValueError(f"{name} must have one entry per example, {size}, got {len(labels)}.")
    return labels


def read_records(name: str, values: np.ndarray) -> np.ndarray:
    """The values at each record of a training, float64, ``[T, N, K]``.

    Raises:
        ValueError: unless they have three axes and a record.
    """
    values = host_array(name, values, np.float64)
    if values.ndim != 3 or not len(values):
        raise ValueError(
            f"{name} must have the shape [T, N, K], a record of the training first; got "
            f"{values.shape}."
        )
    return values


def count_classes(labels: ArrayLike, name: str = "labels") -> int:
    """K, one more than the largest label, if every class up to it has an example.

    Raises:
        ValueError: if a class has none, as where classes are numbered from 1; names such classes.
    """
    labels = read_class_numbers(labels, name=name)
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
    if labels.dtype.kind == "f" and labels.ndim == 1:
        broken = np.flatnonzero(~(np.isfinite(labels) & (labels == np.trunc(labels))))
        if broken.size:
            return (
                f"; {broken.size} are no whole numbers, the first in row {broken[0]}: "
                f"{labels[broken[0]]:g}; drop such rows, or turn probabilities into class numbers"
            )
    usual = labels.dtype.kind in "iufbOSTU"
    found = repair_of_classes(name, labels, labels.shape[:1]) if usual else ""
    return found or "; give one class number for each example"


def repair_of_classes(name: str, labels: ArrayLike, batch_shape: tuple[int, ...]) -> str:
    """As `repair_of_labels`, where a distribution is no label either."""
    found = repair_of_labels(name, labels, batch_shape, -1)
    if not found and labels.ndim == len(batch_shape) + 1:
        return f"; if each example has a score for each class, take {name}.argmax(-1)"
    return found


def repair_of_labels(name: str, labels: ArrayLike, batch_shape: tuple[int, ...], axis: int) -> str:
    """What to do with labels of a common other form, to be added to what was given.

    Args:
        name: of the argument.
        labels: NumPy's or JAX's, wherever they are.
        batch_shape: the shape that one class for each example has.
        axis: of the classes, where there are some.
    """
    # Whether they are whole numbers; JAX's of half a byte are of no kind that NumPy knows.
    kind = labels.dtype.kind
    if kind in "OSTU" and labels.ndim:
        return f"; number the classes: names, {name} = np.unique({name}, return_inverse=True)"
    if labels.shape == batch_shape:
        return f"; cast class numbers: {name}.astype(np.int32)"
    if labels.shape == (*batch_shape, 1):
        return f"; drop the last axis: {name}[{':' if len(batch_shape) == 1 else '...'}, 0]"
    if labels.ndim == len(batch_shape) + 1 and kind in "iub":
        return f"; take the class of one-hot labels, {name}.argmax({axis})"
    return ""


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
