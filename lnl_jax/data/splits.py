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
