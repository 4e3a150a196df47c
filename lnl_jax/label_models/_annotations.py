"""Who gave which label to what: the triples that all models of annotators read."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from lnl_jax._host_arguments import (
    LARGEST,
    LISTED,
    check_integer,
    host_array,
    host_classes,
    read_class_numbers,
)

COLUMNS = ("item", "annotator", "label")


class Annotations(NamedTuple):
    """The labels that annotators gave, one row each, as `read_annotations` returns them.

    Attributes:
        item: which item was labelled, integers from 0 to N - 1, ``[M]``.
        annotator: who labelled it, integers from 0 to J - 1, ``[M]``.
        label: as what, integers from 0 to K - 1, ``[M]``.
        num_items: N.
        num_annotators: J.
        num_classes: K.

    Example:
        >>> given = read_annotations([[0, 0, 1], [0, 1, 1], [1, 1, 0]])
        >>> given.num_items, given.num_annotators, given.num_classes
        (2, 2, 2)
    """

    item: np.ndarray
    annotator: np.ndarray
    label: np.ndarray
    num_items: int
    num_annotators: int
    num_classes: int


def read_annotations(
    annotations: Annotations | ArrayLike, num_classes: int | None = None
) -> Annotations:
    """Checks the labels that annotators gave, as triples of item, annotator and label.

    Every item and every annotator has a label, so that all are known something of; items that
    nobody labelled are for a classifier, not for a model of annotators.

    Args:
        annotations: integers, ``[M, 3]``, the columns item, annotator and label, in any order of
            rows; or `Annotations`, which are returned as they are.
        num_classes: K, at least 2; None takes one more than the largest label.

    Returns:
        `Annotations`.

    Raises:
        ValueError: if the triples have another shape or type, if an item or annotator has no label,
            if there is one annotator or class, if a label is no class, or if an annotator labelled
            an item twice; names the column and the row.

    Example:
        >>> read_annotations([[0, 0, 1], [0, 1, 1], [1, 1, 0]]).label.tolist()
        [1, 1, 0]
    """
    if isinstance(annotations, Annotations):
        if num_classes not in (None, annotations.num_classes):
            raise ValueError(
                f"num_classes must be that of the annotations, {annotations.num_classes}, or None; "
                f"got {num_classes}."
            )
        return annotations
    item, annotator, label = _columns(annotations)
    num_items = _count_all("item", item)
    num_annotators = _count_all("annotator", annotator)
    if num_annotators < 2:
        raise ValueError(
            "annotations must be of at least two annotators, got one: nobody agrees or disagrees "
            "with it; take its labels as they are, or look for errors with a classifier."
        )
    num_classes = int(label.max()) + 1 if num_classes is None else num_classes
    check_integer("num_classes", num_classes)
    if num_classes < 2:
        raise ValueError(
            "annotations must be of at least two classes, got one: there is nothing to decide; if "
            "others may come, give num_classes."
        )
    label = host_classes(label, len(item), num_classes, "annotations[:, 2]")
    _refuse_duplicates(item, annotator)
    return Annotations(item, annotator, label, num_items, num_annotators, int(num_classes))


def _repair(given: np.ndarray) -> str:
    """What to do with a table of another form: a column for each annotator, or names."""
    if given.ndim == 2 and given.shape[1] > 3 and given.dtype.kind in "iu":
        return (
            "Of a table of items by annotators, -1 for no label: item, annotator = "
            "np.nonzero(table >= 0); np.stack([item, annotator, table[item, annotator]], -1)"
        )
    return "Names are numbered column by column: np.unique(names, return_inverse=True)[1]"


def _columns(annotations: ArrayLike) -> np.ndarray:
    triples = host_array("annotations", annotations)
    if triples.ndim != 2 or triples.shape[1] != 3 or triples.dtype.kind not in "iu":
        raise ValueError(
            f"annotations must be integers of shape [M, 3], the columns {', '.join(COLUMNS)}; got "
            f"{triples.dtype} of shape {triples.shape}. {_repair(triples)}."
        )
    if not len(triples):
        raise ValueError("annotations must hold at least one label, got none.")
    columns = triples.T
    return np.stack(
        [
            read_class_numbers(column, name=f"annotations[:, {at}]")
            for at, column in enumerate(columns)
        ]
    )


def _count_all(name: str, numbers: np.ndarray) -> int:
    """One more than the largest number, if each up to it occurs."""
    count = int(numbers.max()) + 1
    # An array of all numbers only where they are about as many as there are rows.
    if count <= 4 * len(numbers):
        present = np.flatnonzero(np.bincount(numbers))
    else:
        present = np.unique(numbers)
    if len(present) == count:
        return count
    gaps = np.flatnonzero(np.diff(present, prepend=-1) > 1)
    missing = [
        number
        for gap in gaps[:LISTED]
        for number in range(int(present[gap - 1]) + 1 if gap else 0, int(present[gap]))[:LISTED]
    ][:LISTED]
    rest = count - len(present) - len(missing)
    listed = ", ".join(map(str, missing)) + f" and {rest} more" * (rest > 0)
    raise ValueError(
        f"annotations have no label of {count - len(present)} of {count} {name}s: {listed}. Number "
        f"those with labels from 0 on: np.unique({name}, return_inverse=True)[1]."
    )


def _refuse_duplicates(item: np.ndarray, annotator: np.ndarray) -> None:
    pairs = item * np.int64(annotator.max() + 1) + annotator
    # Sorting the pairs is several times faster than sorting rows by them.
    if (np.diff(np.sort(pairs)) == 0).any():
        order = np.argsort(pairs, kind="stable")
        same = np.diff(pairs[order]) == 0
        first, second = order[np.flatnonzero(same)[0] :][:2]
        raise ValueError(
            f"annotations must hold one label of an annotator for an item; {same.sum()} are there "
            f"again, the first of item {item[second]} by annotator {annotator[second]} in rows "
            f"{first} and {second}. Keep one of them, or number visits as annotators of their own."
        )


def vote_counts(annotations: Annotations) -> np.ndarray:
    """How often an item was given each class, float64, ``[N, K]``."""
    return class_sums(annotations, None)


def class_sums(annotations: Annotations, values: np.ndarray | None) -> np.ndarray:
    """The sum of the values ``[M]`` over the labels of each item and class, ``[N, K]``."""
    size = annotations.num_items * annotations.num_classes
    cell = annotations.item.astype(np.int64) * annotations.num_classes + annotations.label
    return np.float64(np.bincount(cell, values, size)).reshape(-1, annotations.num_classes)


def of_annotators(annotations: Annotations, values: np.ndarray) -> np.ndarray:
    """The sum of the values ``[M]`` over the labels of each annotator, ``[J]``."""
    return np.bincount(annotations.annotator, values, annotations.num_annotators)


def mean_of_annotators(annotations: Annotations, values: np.ndarray) -> np.ndarray:
    """The mean of the values ``[M]`` over the labels of each annotator, ``[J]``."""
    labels = np.bincount(annotations.annotator, minlength=annotations.num_annotators)
    return of_annotators(annotations, values) / labels


def incidence(annotations: Annotations) -> sparse.csr_array:
    """1 where an annotator gave an item a label, ``[N, J K]``, of which M are stored."""
    shape = (annotations.num_items, annotations.num_annotators * annotations.num_classes)
    columns = annotations.annotator * np.int64(annotations.num_classes) + annotations.label
    columns = columns.astype(np.int32 if shape[1] <= LARGEST else np.int64)
    ones = np.ones(len(columns))
    triples = sparse.coo_array((ones, (annotations.item, columns)), shape)
    # No pair is there twice, so that none need be looked for.
    triples.has_canonical_format = True
    return triples.tocsr()
