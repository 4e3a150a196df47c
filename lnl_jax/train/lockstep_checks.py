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
    if not {"position", "mask"} <= set(rows) or np.asarray(rows["mask"]).dtype != bool:
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
    sizes = sorted({np.shape(leaf)[axis] for leaf in jax.tree.leaves(train)})
    if len(sizes) != 1:
        raise ValueError(f"train must hold arrays of as many examples each, got {sizes}.")
    return sizes[0]


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
    lengths = {
        name: sorted({np.shape(leaf)[0] for leaf in jax.tree.leaves(tree)} or {0})
        for name, tree in (("data_sets", data_sets), ("settings", settings))
    }
    for name, found in lengths.items():
        if len(found) > 1:
            raise ValueError(f"{name} must have one leading axis, got lengths {found}.")
    (count,), (width,) = lengths.values()
    if not count or not width:
        raise ValueError(
            f"there must be at least one data set and one setting, got {count} and {width}."
        )
    return count, width
