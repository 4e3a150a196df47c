"""Splits of a data set."""

import numpy as np

Dataset = dict[str, np.ndarray]


def hold_out(
    dataset: Dataset, fraction: float, rng: np.random.Generator
) -> tuple[Dataset, Dataset]:
    """Splits off a random part.

    Args:
        dataset: arrays with the same leading dimension N.
        fraction: of the examples to hold out, more than 0 and less than 1; rounded to a number.
        rng: the generator that picks them.

    Returns:
        The rest and the part held out, each in the old order. ``index`` goes along, so it still
        says which row of the full set an example is.

    Raises:
        ValueError: if `fraction` is out of range or leaves one side empty.

    Example:
        >>> rest, part = hold_out({"index": np.arange(10)}, 0.2, np.random.default_rng(0))
        >>> len(rest["index"]), len(part["index"])
        (8, 2)
    """
    size = len(next(iter(dataset.values())))
    held = round(fraction * size) if 0 < fraction < 1 else 0
    if not 0 < held < size:
        raise ValueError(
            f"fraction must hold out some but not all of {size} examples, got {fraction}."
        )
    chosen = np.zeros(size, bool)
    chosen[rng.permutation(size)[:held]] = True
    return (
        {name: values[~chosen] for name, values in dataset.items()},
        {name: values[chosen] for name, values in dataset.items()},
    )


def k_fold(dataset: Dataset, folds: int) -> list[tuple[Dataset, Dataset]]:
    """Holds out every part once, in turn: contiguous parts of equal size.

    Args:
        dataset: arrays with the same leading dimension N.
        folds: how many parts, at least 2. Where N is not a multiple of it, the last examples are
            held out by none, so that all parts are of one size.

    Returns:
        For each fold the rest and the part held out, each in the old order.

    Raises:
        ValueError: if `folds` is less than 2 or more than N.

    Example:
        >>> [part["index"].tolist() for _, part in k_fold({"index": np.arange(5)}, 2)]
        [[0, 1], [2, 3]]
    """
    size = len(next(iter(dataset.values())))
    if not 2 <= folds <= size:
        raise ValueError(f"folds must be from 2 to the {size} examples, got {folds}.")
    length = size // folds
    parts = []
    for start in range(0, folds * length, length):
        held = np.zeros(size, bool)
        held[start : start + length] = True
        rest = {name: values[~held] for name, values in dataset.items()}
        parts.append((rest, {name: values[held] for name, values in dataset.items()}))
    return parts
