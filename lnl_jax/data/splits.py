"""Splits of a data set."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from lnl_jax._host_arguments import check_generator, check_integer, check_number, common_length

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
        ValueError: if `fraction` is out of range or leaves one side empty, or a class of the column
            ``label``, where there is one, has no example on one side; names it.

    Example:
        >>> rest, part = hold_out({"index": np.arange(10)}, 0.2, np.random.default_rng(0))
        >>> len(rest["index"]), len(part["index"])
        (8, 2)
    """
    check_generator("rng", rng)
    size = common_length(dataset)
    check_number("fraction", fraction)
    held = round(fraction * size) if 0 < fraction < 1 else 0
    if not 0 < held < size:
        raise ValueError(
            f"fraction must hold out some but not all of {size} examples, got {fraction}."
        )
    chosen = np.zeros(size, bool)
    chosen[rng.permutation(size)[:held]] = True
    if "label" in dataset:
        _check_classes(dataset["label"], "label", {"held out": chosen, "left": ~chosen})
    return _rows(dataset, ~chosen), _rows(dataset, chosen)


def k_fold(
    dataset: Dataset, folds: int, rng: np.random.Generator | None = None, *, by: str = "label"
) -> list[tuple[Dataset, Dataset]]:
    """Holds out every part once, in turn: parts of equal size that have all classes in proportion.

    Args:
        dataset: arrays with the same leading dimension N.
        folds: how many parts, at least 2. Where N is not a multiple of it, some examples of large
            classes are held out by none, so that all parts are of one size.
        rng: picks the parts, class by class; the counts of a class in two of them differ by one at
            most. None cuts contiguous parts instead, for a data set whose order is random already;
            then it is the last examples that are held out by none.
        by: the column of the classes; nothing is asked of classes where there is no such column.

    Returns:
        For each fold the rest and the part held out, each in the old order.

    Raises:
        ValueError: if `folds` is less than 2 or more than N, or a class has no example in a fold;
            names both.

    Example:
        >>> rows = {"index": np.arange(6), "label": np.array([0, 0, 0, 1, 1, 1])}
        >>> parts = k_fold(rows, 3, np.random.default_rng(0))
        >>> [part["label"].tolist() for _, part in parts]
        [[0, 1], [0, 1], [0, 1]]
    """
    size = common_length(dataset)
    check_integer("folds", folds, at_least=2)
    if folds > size:
        raise ValueError(f"folds must be from 2 to the {size} examples, got {folds}.")
    classes = dataset.get(by)
    if rng is None:
        order = np.arange(size // folds * folds).reshape(folds, -1)
    else:
        check_generator("rng", rng)
        order = _dealt(np.zeros(size, int) if classes is None else classes, by, folds, rng)
    parts = []
    for number, rows in enumerate(order):
        held = np.zeros(size, bool)
        held[rows] = True
        if classes is not None:
            sides = {f"in fold {number} of {folds}": held, f"outside of fold {number}": ~held}
            _check_classes(classes, by, sides)
        parts.append((_rows(dataset, ~held), _rows(dataset, held)))
    return parts


def fold_numbers(labels: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """The fold that holds each example out, shuffled, classes in proportion, none left over.

    As `k_fold` deals them, but the folds differ in size by one where N is no multiple of them: for
    scores of all examples by models that have not seen them.

    Args:
        labels: integers, ``[N]``.
        folds: how many, at least 2.
        rng: deals the examples, class by class.

    Returns:
        int32, ``[N]``, from 0 to ``folds - 1``; the counts of a class in two folds differ by one at
        most, and so do their sizes.

    Raises:
        ValueError: if `folds` is less than 2, or a class has fewer examples; names the class.

    Example:
        >>> fold_numbers(np.array([0, 0, 0, 1, 1]), 2, np.random.default_rng(0)).tolist()
        [1, 0, 0, 0, 1]
    """
    check_integer("folds", folds, at_least=2)
    check_generator("rng", rng)
    names, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    _check_counts(names, counts, folds, "labels")
    found = np.empty(len(numbers), np.int32)
    found[_by_class(numbers, rng)] = np.arange(len(numbers)) % folds
    return found


def subset(dataset: Dataset, size: int, rng: np.random.Generator, *, by: str = "label") -> Dataset:
    """Some examples at random, classes in proportion.

    Args:
        dataset: arrays with the same leading dimension N.
        size: how many, from 1 to N.
        rng: the generator that picks them.
        by: the column of the classes.

    Returns:
        Arrays with leading dimension `size`, in the old order; of each class the number that its
        share of N gives, rounded up or down. ``index`` goes along.

    Raises:
        ValueError: if `size` is out of range, or so small that a class has no example; names it.
            If there is no such column.

    Example:
        >>> rows = {"label": np.array([0, 0, 0, 0, 1, 1])}
        >>> subset(rows, 3, np.random.default_rng(0))["label"].tolist()
        [0, 0, 1]
    """
    check_generator("rng", rng)
    whole = common_length(dataset)
    if by not in dataset:
        raise ValueError(
            f"by must be a column of the data set, one of {', '.join(dataset)}; got {by!r}."
        )
    check_integer("size", size, at_least=1)
    if size > whole:
        raise ValueError(f"size must be at most the {whole} examples there are, got {size}.")
    order = _by_class(dataset[by], rng)
    chosen = np.zeros(whole, bool)
    # Evenly spaced along the classes, which stand one after the other.
    chosen[order[(np.arange(size) * whole + whole // 2) // size]] = True
    _check_classes(dataset[by], by, {f"among {size} of {whole} examples": chosen})
    return _rows(dataset, chosen)


def _dealt(classes: np.ndarray, by: str, folds: int, rng: np.random.Generator) -> np.ndarray:
    """The rows that each fold holds out, ``[folds, N // folds]``: dealt in turn, class by class."""
    names, numbers, counts = np.unique(classes, return_inverse=True, return_counts=True)
    _check_counts(names, counts, folds, by)
    order = _by_class(numbers, rng)
    # What is left over comes from the largest classes, so that no fold loses the last of a class.
    dealt = np.ones(len(order), bool)
    for _ in range(len(order) % folds):
        largest = counts.argmax()
        dealt[np.flatnonzero(dealt & (numbers[order] == largest))[-1]] = False
        counts[largest] -= 1
    return order[dealt].reshape(-1, folds).T


def _check_counts(names: np.ndarray, counts: np.ndarray, folds: int, by: str) -> None:
    if counts.min() < folds:
        few = counts.argmin()
        raise ValueError(
            f"{by}: class {names[few]} has {counts[few]} of {counts.sum()} examples, so that a "
            f"fold of {folds} would have none of it; use fewer folds or leave the class out."
        )


def _by_class(classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All rows, class by class, shuffled within each."""
    order = rng.permutation(len(classes))
    return order[np.argsort(classes[order], kind="stable")]


def _check_classes(classes: np.ndarray, by: str, sides: dict[str, np.ndarray]) -> None:
    names, numbers = np.unique(classes, return_inverse=True)
    for where, chosen in sides.items():
        missing = np.setdiff1d(np.arange(len(names)), numbers[chosen])
        if missing.size:
            more = f" and {missing.size - 1} other classes" if missing.size > 1 else ""
            raise ValueError(
                f"{by}: class {names[missing[0]]}{more} of {len(names)} has no example {where}; "
                "mix the rows, take more examples, or leave the class out."
            )


def _rows(dataset: Dataset, chosen: np.ndarray) -> Dataset:
    return {name: values[chosen] for name, values in dataset.items()}


def stack(data_sets: Sequence[Mapping]) -> dict[str, Any]:
    """Data sets of equal sizes with a leading axis.

    Args:
        data_sets: dicts of arrays, or of dicts of them, with the same keys.

    Returns:
        One such dict, with an axis of the data sets in front of every array.

    Raises:
        ValueError: if an array has another shape in another data set; names it.
    """

    def stacked(path: Any, *arrays: Any) -> np.ndarray:
        shapes = sorted(set(map(np.shape, arrays)))
        if len(shapes) > 1:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise ValueError(
                f"data_sets must be of one size, got {name} of shapes "
                f"{', '.join(map(str, shapes))}; leave examples out, or compare them one by one."
            )
        return np.stack(arrays)

    return jax.tree_util.tree_map_with_path(stacked, *data_sets)


def long_tailed(
    part: Mapping[str, np.ndarray],
    imbalance: float,
    rng: np.random.Generator,
    *,
    num_classes: int,
) -> dict[str, np.ndarray]:
    """Classes that shrink along their numbers: of class k ``n * imbalance ** (k / (K - 1))``.

    Args:
        part: arrays ``[N, ...]``, ``label`` among them.
        imbalance: size of the last class over that of the first, above 0, at most 1.
        rng: draws the examples that are kept; their order stays.
        num_classes: K, at least 2.

    Returns:
        The part, with ``index`` numbered from 0.

    Raises:
        ValueError: for an imbalance or a number of classes out of range, or no generator.

    Example:
        >>> part = {"label": np.repeat(np.arange(3), 100)}
        >>> few = long_tailed(part, 0.01, np.random.default_rng(0), num_classes=3)
        >>> np.bincount(few["label"]).tolist()
        [100, 10, 1]

    References:
        Cui et al., "Class-Balanced Loss Based on Effective Number of Samples" (CVPR 2019), section
        5.1.
    """
    check_number("imbalance", imbalance, above=0, at_most=1)
    check_integer("num_classes", num_classes, at_least=2)
    check_generator("rng", rng)
    kept = []
    for label, count in enumerate(np.bincount(part["label"], minlength=num_classes)):
        size = max(int(count * imbalance ** (label / (num_classes - 1))), 1)
        kept.append(rng.permutation(np.flatnonzero(part["label"] == label))[:size])
    rows = np.sort(np.concatenate(kept))
    found = {name: values[rows] for name, values in part.items()}
    return found | {"index": np.arange(len(rows), dtype=np.int32)}


def long_tailed_parts(
    dataset: Mapping[str, np.ndarray],
    imbalance: float,
    rng: np.random.Generator,
    *,
    num_classes: int,
    largest: int,
    test_per_class: int,
) -> tuple[Dataset, Dataset]:
    """A training part whose classes shrink geometrically in a random order, and a balanced test.

    Args:
        dataset: arrays ``[N, ...]``, ``label`` among them.
        imbalance: size of the smallest class over that of the largest, above 0, at most 1.
        rng: draws the order of the classes and the examples; these stay in theirs.
        num_classes: K, at least 2.
        largest: size of the first class: that of number k in the order is ``largest * imbalance **
            (k / (K - 1))``, at least 1.
        test_per_class: how many examples of each class are tested on.

    Returns:
        The training part and the test part, each with ``index`` numbered from 0.

    Raises:
        ValueError: for a number out of range, no generator, or a class with fewer examples.

    Example:
        >>> dataset = {"label": np.repeat(np.arange(3), 150)}
        >>> sizes = {"num_classes": 3, "largest": 100, "test_per_class": 50}
        >>> train, test = long_tailed_parts(dataset, 0.01, np.random.default_rng(0), **sizes)
        >>> sorted(np.bincount(train["label"]).tolist()), np.bincount(test["label"]).tolist()
        ([1, 10, 100], [50, 50, 50])
    """
    check_number("imbalance", imbalance, above=0, at_most=1)
    check_integer("num_classes", num_classes, at_least=2)
    check_integer("largest", largest)
    check_integer("test_per_class", test_per_class)
    check_generator("rng", rng)
    sizes = largest * imbalance ** (np.arange(num_classes) / (num_classes - 1))
    train, test = [], []
    for label, size in zip(rng.permutation(num_classes), sizes, strict=True):
        members = rng.permutation(np.flatnonzero(dataset["label"] == label))
        size = max(round(size), 1)
        if len(members) < test_per_class + size:
            raise ValueError(
                f"class {label} has {len(members)} examples, but {test_per_class} for the test and "
                f"{size} for training are wanted; lower largest or test_per_class."
            )
        test.append(members[:test_per_class])
        train.append(members[test_per_class:][:size])
    # The tables have a row for each training example, not for each one of the source.
    return tuple(
        {name: values[rows] for name, values in dataset.items()}
        | {"index": np.arange(len(rows), dtype=np.int32)}
        for rows in (np.sort(np.concatenate(part)) for part in (train, test))
    )


def class_halves(dataset: Mapping[str, np.ndarray]) -> tuple[Dataset, Dataset]:
    """Every other example of each class, and the rest, such as to validate and to test.

    Args:
        dataset: arrays ``[N, ...]``, ``label`` among them.

    Returns:
        Two parts, the examples by class; of an odd class the first one may have one more.

    Example:
        >>> first, second = class_halves({"label": np.array([0, 1, 0, 1, 0, 0])})
        >>> first["label"].tolist(), second["label"].tolist()
        ([0, 0, 1], [0, 0, 1])
    """
    order = np.argsort(dataset["label"], kind="stable")
    halves = (order[::2], order[1::2])
    return tuple({name: values[rows] for name, values in dataset.items()} for rows in halves)
