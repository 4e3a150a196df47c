"""The training and the test part of a data set, put together from plain arrays and checked."""

import types
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lnl_jax._host_arguments import check_integer, count_classes, read_class_numbers

KEYS = ("x_train", "y_train", "x_test", "y_test")
PARTS = ("train", "test")
# A further column under one of these names would replace something else.
TAKEN = ("image", "x", "label", "index", "mask")
# Of grey images and of colours, without and with transparency.
_CHANNELS = (1, 3, 4)


class Splits(NamedTuple):
    """A data set with a split of its own.

    Attributes:
        train: ``image``, uint8, ``[N, H, W, C]``, or ``x``, float32, ``[N, D]``; ``label``, int32;
            ``index``, the row numbers, int32; further columns, such as ``label_worse``.
        test: the same for the test part; ``index`` are its own rows.
        num_classes: K.
        class_names: of each class; empty where they are not known.
        generated: whether the data are made up.
        extras: arrays that came along and belong to neither part.
        given: whether the labels are as somebody gave them, so that it is not known which are
            right.
    """

    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    num_classes: int
    class_names: tuple[str, ...] = ()
    generated: bool = False
    extras: Mapping[str, np.ndarray] = types.MappingProxyType({})
    given: bool = False


def splits_of(
    arrays: Mapping[str, np.ndarray],
    *,
    num_classes: int | None = None,
    class_names: tuple[str, ...] = (),
) -> Splits:
    """Checks the arrays of a data set and sorts them into its parts.

    Args:
        arrays: ``x_train``, ``y_train``, ``x_test``, ``y_test`` and others, as in `load_npz`.
        num_classes: K; by default the number of `class_names`, else 1 + the largest of ``y_train``,
            where every class must have an example. Give it where some may have none.
        class_names: of each class.

    Returns:
        The `Splits`.

    Raises:
        ValueError: if a key is missing, an array does not fit, a class has no example, or there is
            one class alone; names it.

    Example:
        >>> x, y = np.zeros((2, 3)), np.array([0, 1])
        >>> splits = splits_of({"x_train": x, "y_train": y, "x_test": x, "y_test": y})
        >>> splits.num_classes, sorted(splits.train)
        (2, ['index', 'label', 'x'])
    """
    if missing := [key for key in KEYS if key not in arrays]:
        raise ValueError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; there are "
            f"{', '.join(sorted(arrays)) or 'none'}."
        )
    _check_alike(arrays)
    hint = ""
    if num_classes is not None:
        check_integer("num_classes", num_classes, at_least=1)
    elif class_names:
        num_classes = len(class_names)
    else:
        hint = " The number of classes was taken from y_train; give num_classes if it is larger."
        num_classes = count_classes(arrays["y_train"], "y_train")
    if num_classes < 2:
        raise ValueError(
            f"y_train must be of at least 2 classes, got {num_classes}; give num_classes where "
            "others have no example."
        )
    if class_names and len(class_names) != num_classes:
        raise ValueError(f"class_names must name {num_classes} classes, got {len(class_names)}.")
    parts = {part: _examples(arrays, part, num_classes, hint) for part in PARTS}
    extras = {}
    for key, values in arrays.items():
        if key not in KEYS:
            part, name, checked = _place(key, values, parts)
            columns = extras if part is None else parts[part]
            if name in columns or (part and name in TAKEN):
                raise ValueError(f"{key} would replace {name!r} of the {part} part; rename it.")
            columns[name] = checked
    return Splits(
        parts["train"], parts["test"], num_classes, class_names=tuple(class_names), extras=extras
    )


def _check_alike(arrays: Mapping[str, np.ndarray]) -> None:
    train, test = arrays["x_train"], arrays["x_test"]
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        raise ValueError(
            "x_train and x_test must agree in dtype and in every dimension but the first, "
            f"got {train.dtype} {train.shape} and {test.dtype} {test.shape}."
        )


def _examples(
    arrays: Mapping[str, np.ndarray], part: str, num_classes: int, hint: str
) -> dict[str, np.ndarray]:
    columns = _inputs(f"x_{part}", arrays[f"x_{part}"])
    (size,) = {len(values) for values in columns.values()}
    columns["label"] = _labels(f"y_{part}", arrays[f"y_{part}"], size, num_classes, hint)
    columns["index"] = np.arange(size, dtype=np.int32)
    return columns


def _inputs(key: str, values: np.ndarray) -> dict[str, np.ndarray]:
    if values.ndim not in (2, 3, 4) or values.dtype.kind not in "iuf" or not values.size:
        raise ValueError(
            f"{key} must hold numbers: a table [N, D] or images [N, H, W] or [N, H, W, C], "
            f"got {values.dtype} of shape {values.shape}."
        )
    if values.ndim == 2:
        return {"x": _finite(key, values)}
    if values.dtype != np.uint8:
        raise ValueError(
            f"{key} holds images of {values.dtype}; they must be uint8 from 0 to 255. Images from "
            "0 to 1 are stored right by np.rint(255 * images).astype(np.uint8)."
        )
    if values.ndim == 4 and values.shape[1] in _CHANNELS and values.shape[3] not in _CHANNELS:
        raise ValueError(
            f"{key} must hold images [N, H, W, C], got {values.shape}, which looks like "
            f"[N, C, H, W]; put the channels last: {key}.transpose(0, 2, 3, 1)."
        )
    return {"image": values if values.ndim == 4 else values[..., None]}


def _finite(key: str, values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if bad.size:
        raise ValueError(
            f"{key} must be finite in float32; {bad.size} of {len(values)} rows are not, the first "
            f"is row {bad[0]}: fill in or drop them."
        )
    return values


def _labels(
    key: str, values: np.ndarray, size: int, num_classes: int | None, hint: str = ""
) -> np.ndarray:
    if values.shape[:1] != (size,):
        raise ValueError(f"{key} must hold one label for each of {size} rows, got {values.shape}.")
    too_large = hint and values.dtype.kind in "iu" and values.ndim == 1 and values.min() >= 0
    try:
        return read_class_numbers(values, num_classes, key)
    except ValueError as error:
        raise ValueError(f"{error}{hint if too_large else ''}") from error


def _place(
    key: str, values: np.ndarray, parts: Mapping[str, Mapping]
) -> tuple[str | None, str, np.ndarray]:
    """The part that an array belongs to, its name there, and the array."""
    for part, columns in parts.items():
        size = len(columns["index"])
        if name := key.removeprefix(f"y_{part}_") if key.startswith(f"y_{part}_") else "":
            # They may be of other classes than the label, coarser ones or all that were noted.
            return part, f"label_{name}", _labels(key, values, size, None)
        name = key.removesuffix(f"_{part}")
        if name and name != key and values.shape[:1] == (size,):
            return part, name, values
    return None, key, values
