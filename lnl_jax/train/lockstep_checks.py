"""What runs in lockstep are asked to be: data sets and settings of one length, rows that exist."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

PyTree = Any
# position and mask -> the batches of some steps
Rows = Mapping[str, np.ndarray]


def check_rows(rows: Rows, size: int | None) -> None:
    """Raises ValueError unless these are positions of so many examples and a boolean mask."""
    kinds = [np.asarray(rows[name]).dtype.kind for name in ("position", "mask") if name in rows]
    if kinds not in (["i", "b"], ["u", "b"]):
        raise ValueError(
            "rows must be a dict of position, integers, and mask, boolean, as "
            "lnl_jax.data.epoch_plan gives them; got "
            f"{ {name: str(np.asarray(values).dtype) for name, values in rows.items()} }."
        )
    position = np.asarray(rows["position"])
    # A gather would take the nearest example for one that is not there.
    if size is not None and position.size and not 0 <= position.min() <= position.max() < size:
        raise ValueError(
            f"rows: position must be from 0 to {size - 1}, the training examples, got "
            f"{position.min()} to {position.max()}."
        )


def num_examples(train: PyTree, axis: int) -> int:
    """How many training examples there are."""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(train)]
    flat = [shape for shape in shapes if len(shape) <= axis]
    if flat:
        raise ValueError(f"train must hold arrays with an axis of examples, got shape {flat[0]}.")
    sizes = sorted({shape[axis] for shape in shapes})
    if len(sizes) != 1:
        raise ValueError(f"train must hold arrays of as many examples each, got {sizes}.")
    return sizes[0]


def leading_axis(name: str, tree: PyTree) -> int:
    """The length of the leading axis of all arrays, 0 where there are none.

    Raises:
        ValueError: if one is a scalar, or they have unlike leading axes.
    """
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(tree)]
    if () in shapes:
        raise ValueError(f"{name} must hold arrays with a leading axis, got a scalar.")
    lengths = sorted({shape[0] for shape in shapes})
    if len(lengths) > 1:
        raise ValueError(f"{name} must have one leading axis, got lengths {lengths}.")
    return lengths[0] if lengths else 0


def check_train(data_set: PyTree) -> None:
    """Raises ValueError unless this is a dict with its training examples."""
    if not isinstance(data_set, Mapping) or "train" not in data_set:
        raise ValueError(
            "a data set must be a dict with its training examples under 'train', got "
            f"{sorted(data_set) if isinstance(data_set, Mapping) else type(data_set).__name__}."
        )


def check_runs(settings: PyTree, data_sets: PyTree) -> tuple[int, int]:
    """How many data sets and settings there are.

    Raises:
        ValueError: if there are none, or arrays have unlike leading axes.
    """
    check_train(data_sets)
    count, width = leading_axis("data_sets", data_sets), leading_axis("settings", settings)
    if not count or not width:
        raise ValueError(
            f"there must be at least one data set and one setting, got {count} and {width}."
        )
    return count, width
