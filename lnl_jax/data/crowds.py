"""Labels of many annotators: read from a user's files, or generated on real digits."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lnl_jax._host_arguments import check_generator, check_integer, read_class_numbers
from lnl_jax.data.csv_files import (
    check_column,
    check_true_classes,
    read_cells,
    read_numbers,
    read_rows,
    sorted_classes,
)
from lnl_jax.data.digits import NUM_CLASSES, digits
from lnl_jax.data.npz import read_arrays

# Numbers of items or annotators for each label, classes, and counts of words: more is a slip.
MOST_NUMBERED, MOST_CLASSES, MOST_COUNTS = 1000, 1_000_000, 1 << 30


class Crowd(NamedTuple):
    """What annotators said of items, and what else is known of these.

    Attributes:
        annotations: the labels, a row each: item, annotator, class; int32, ``[M, 3]``.
        class_names: of the K classes.
        item_names: of the N items.
        annotator_names: of the J annotators.
        truth: the class of each item, int32, ``[N]``; None where it is not known.
        x: features of the items, float32, ``[N, D]``; None where there are none.
        tests: other examples by the name of where they come from, each with ``x`` and ``label``.

    Example:
        >>> crowd = generated_crowd(np.random.default_rng(0), num_items=50)
        >>> crowd.x.shape, len(crowd.class_names)
        ((50, 64), 10)
    """

    annotations: np.ndarray
    class_names: tuple[str, ...]
    item_names: tuple[str, ...]
    annotator_names: tuple[str, ...]
    truth: np.ndarray | None = None
    x: np.ndarray | None = None
    tests: dict[str, dict[str, np.ndarray]] = {}  # noqa: RUF012


def crowd_csv(
    file: str | os.PathLike,
    *,
    item: str = "item",
    annotator: str = "annotator",
    label: str = "label",
    truth: str | None = None,
    features: str | os.PathLike | None = None,
) -> Crowd:
    r"""The labels of annotators, from a CSV file with a line of column names and a line a label.

    Items, annotators and classes are numbered in the order of their names, classes that are whole
    numbers by size.

    Args:
        file: in UTF-8, separated by commas, semicolons or tabs.
        item: the column with the name of what was labelled.
        annotator: the column with the name of who labelled it.
        label: the column with the class that was given.
        truth: a column with the true class, the same in all lines of an item; None where it is not
            known.
        features: another CSV file, with the column `item` and numbers in all others, a line for
            each item; lines of items without labels are passed over. None for no features.

    Returns:
        The `Crowd`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a column is missing (close ones are named), a field is empty, an item has two
            true classes or no features, no true class is a given one, or a feature is no finite
            number; names file, column and line.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> file = Path(folder.name, "labels.csv")
        >>> _ = file.write_text("item,annotator,label\na,ann,cat\na,bob,dog\nb,bob,dog\n")
        >>> crowd = crowd_csv(file)
        >>> crowd.class_names, crowd.annotations.tolist()
        (('cat', 'dog'), [[0, 0, 0], [0, 1, 1], [1, 1, 1]])
        >>> folder.cleanup()
    """
    names, rows, lines = read_rows(Path(file).expanduser())

    def column(argument: str, name: str) -> list[str]:
        check_column(argument, name, names, file)
        return read_cells(rows, lines, names.index(name), names, file)

    chosen = {"item": item, "annotator": annotator, "label": label}
    columns = [column(argument, name) for argument, name in chosen.items()]
    items, item_number = np.unique(columns[0], return_inverse=True)
    annotators, annotator_number = np.unique(columns[1], return_inverse=True)
    true = None if truth is None else column("truth", truth)
    if true is not None:
        check_true_classes("truth", file, label, columns[2], true)
    classes = tuple(sorted_classes({*columns[2], *(true or ())}))
    number = {name: at for at, name in enumerate(classes)}
    labels = [number[name] for name in columns[2]]
    annotations = np.stack([item_number, annotator_number, labels], 1).astype(np.int32)
    if true is not None:
        true = _one_each(item_number, [number[name] for name in true], items, truth, file, lines)
    x = None if features is None else _features(Path(features).expanduser(), item, items.tolist())
    return Crowd(annotations, classes, tuple(items.tolist()), tuple(annotators.tolist()), true, x)


def crowd_npz(data_dir: str | os.PathLike, *, name: str) -> Crowd:
    """The labels of annotators, from ``DIR/NAME.npz``.

    The file holds ``annotations``, rows of item, annotator and class, numbers from 0 on; and where
    known the true classes ``y`` (or ``y_train``), features ``x_train``, and other examples
    ``x_test`` and ``y_test``. Counts of words may stand for features: ``bow_indptr_train``,
    ``bow_indices_train`` and ``bow_counts_train``, the rows of a sparse matrix.

    Args:
        data_dir: DIR.
        name: NAME, without ``.npz``.

    Returns:
        The `Crowd`, whose `tests` has ``test``, where there is one; numbers are the names.

    Raises:
        FileNotFoundError: if there is no such folder or file.
        ValueError: if the file is broken, has no annotations, or its arrays do not fit.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> np.savez(f"{folder.name}/small.npz", annotations=[[0, 0, 1], [0, 1, 1], [1, 1, 0]])
        >>> crowd_npz(folder.name, name="small").class_names
        ('0', '1')
        >>> folder.cleanup()
    """
    path, arrays = read_arrays(data_dir, name, "annotations")
    try:
        return _crowd_of(arrays)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _crowd_of(arrays: dict[str, np.ndarray]) -> Crowd:
    annotations = arrays.get("annotations", np.zeros(0))
    if annotations.ndim != 2 or annotations.shape[1] != 3 or annotations.dtype.kind not in "iu":
        found = f"{annotations.dtype} of shape {annotations.shape}"
        raise ValueError(
            "it must hold annotations, integers [M, 3] of item, annotator and class; it has "
            f"{found if 'annotations' in arrays else ', '.join(sorted(arrays))}."
        )
    columns = [
        read_class_numbers(annotations[:, at], name=f"annotations[:, {at}]") for at in range(3)
    ]
    if not len(annotations):
        raise ValueError("annotations must have a row for each label; there is none.")
    # Those who are numbered but never named would be as many as somebody's slip says.
    num_items, num_annotators, num_classes = (int(column.max()) + 1 for column in columns)
    for what, count in (("item", num_items), ("annotator", num_annotators)):
        if count > MOST_NUMBERED * len(annotations):
            raise ValueError(
                f"annotations must number each {what} from 0 on; there are {len(annotations)} rows "
                f"and a number {count - 1}."
            )
    truth = arrays.get("y", arrays.get("y_train"))
    if truth is not None:
        truth = read_class_numbers(truth, name="y")
        num_classes = max(num_classes, int(truth.max(initial=-1)) + 1)
    if num_classes > max(MOST_CLASSES, len(annotations)):
        raise ValueError(f"classes must be numbered from 0 on; there is a class {num_classes - 1}.")
    sets = {part: _part(arrays, part) for part in ("train", "test")}
    width = max((sparse.shape[1] for sparse in sets.values() if sparse is not None), default=0)
    sets = {
        part: None if x is None else np.pad(x, ((0, 0), (0, width - x.shape[1])))
        for part, x in sets.items()
    }
    for what, values in (("y", truth), ("x_train", sets["train"])):
        if values is not None and len(values) != num_items:
            raise ValueError(f"{what} must be of {num_items} items, got {len(values)}.")
    tests = {}
    if sets["test"] is not None and "y_test" in arrays:
        label = read_class_numbers(arrays["y_test"], num_classes, "y_test")
        if len(label) != len(sets["test"]):
            raise ValueError(f"y_test must be of {len(sets['test'])} rows, got {len(label)}.")
        tests["test"] = {"x": sets["test"], "label": label}
    numbers = [tuple(map(str, range(n))) for n in (num_classes, num_items, num_annotators)]
    return Crowd(np.stack(columns, 1), *numbers, truth, sets["train"], tests)


def generated_crowd(
    rng: np.random.Generator, *, num_items: int = 1000, num_annotators: int = 40, labels: int = 5
) -> Crowd:
    """Real digits with the labels of generated annotators, of whom a fifth guess.

    An annotator is right with a probability of its own, from 0.5 to 0.95, less on every third item,
    which is hard; wrong labels are mostly of the next class. Those who guess give a class of their
    own liking half of the time. It stands in where there are no real annotations, and says nothing
    of people.

    Args:
        rng: draws digits, annotators and labels.
        num_items: N.
        num_annotators: J.
        labels: of each item, by as many annotators.

    Returns:
        The `Crowd`; its `tests` are the other digits: ``test``, as they are, and ``moved``, by half
        a pixel.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> crowd = generated_crowd(np.random.default_rng(0), num_items=50)
        >>> crowd.annotations.shape, sorted(crowd.tests)
        ((250, 3), ['moved', 'test'])
    """
    check_generator("rng", rng)
    everything = digits()
    check_integer("num_items", num_items, at_least=10, at_most=len(everything["label"]) - 10)
    check_integer("num_annotators", num_annotators, at_least=2)
    check_integer("labels", labels, at_most=num_annotators)
    order = rng.permutation(len(everything["label"]))
    chosen, others = order[:num_items], order[num_items:]
    truth = everything["label"][chosen]
    # In turn, so that everybody has some; a rotation of the annotators at each round.
    places = np.arange(num_items * labels)
    annotator = rng.permutation(num_annotators)[places % num_annotators]
    item = np.repeat(np.arange(num_items), labels)
    guesses = rng.random(num_annotators) < 0.2
    skill = np.where(guesses, 0, rng.uniform(0.5, 0.95, num_annotators))[annotator]
    skill *= np.where(item % 3 == 0, 0.7, 1)
    wrong = np.where(rng.random(len(item)) < 0.7, 1, rng.integers(1, NUM_CLASSES, len(item)))
    wrong = (truth[item] + wrong) % NUM_CLASSES
    habit = rng.integers(0, NUM_CLASSES, num_annotators)[annotator]
    guess = np.where(rng.random(len(item)) < 0.5, habit, rng.integers(0, NUM_CLASSES, len(item)))
    given = np.where(rng.random(len(item)) < skill, truth[item], wrong)
    given = np.where(guesses[annotator], guess, given)
    present = np.unique(annotator)
    annotations = np.stack([item, np.searchsorted(present, annotator), given], 1)
    pixels = everything["x"][others].reshape(-1, 8, 8)
    label = everything["label"][others]
    moved = (pixels + np.pad(pixels, ((0, 0), (0, 0), (1, 0)))[..., :8]) / 2
    tests = {"test": {"x": everything["x"][others], "label": label}}
    tests["moved"] = {"x": moved.reshape(len(moved), -1), "label": label}
    sizes = (NUM_CLASSES, num_items, len(present))
    numbers = [tuple(map(str, range(size))) for size in sizes]
    return Crowd(np.int32(annotations), *numbers, truth, everything["x"][chosen], tests)


def _part(arrays: dict[str, np.ndarray], part: str) -> np.ndarray | None:
    """Features of a part, or its counts of words as such."""
    if f"x_{part}" in arrays:
        x = arrays[f"x_{part}"]
        if x.ndim < 2 or x.dtype.kind not in "biuf" or not x.size:
            raise ValueError(
                f"x_{part} must hold numbers, [N, D], got {x.dtype} of shape {x.shape}."
            )
        return np.float32(x).reshape(len(x), -1)
    names = [f"bow_{kind}_{part}" for kind in ("indptr", "indices", "counts")]
    if names[0] not in arrays:
        return None
    if missing := [name for name in names if name not in arrays]:
        raise ValueError(f"{missing[0]} is missing, beside {names[0]}.")
    starts, columns = (read_class_numbers(arrays[name], name=name) for name in names[:2])
    counts, rows = arrays[names[2]], np.diff(starts)
    if not len(starts) or starts[0] or (rows < 0).any() or starts[-1] != len(columns):
        raise ValueError(
            f"{names[0]} must rise from 0 to {len(columns)}, the length of {names[1]}."
        )
    if counts.shape != columns.shape or counts.dtype.kind not in "biuf":
        raise ValueError(
            f"{names[2]} must hold a number for each of {names[1]}, got {counts.dtype} of shape "
            f"{counts.shape}."
        )
    shape = len(rows), int(columns.max(initial=-1)) + 1
    if shape[0] * shape[1] > MOST_COUNTS:
        raise ValueError(f"{names[1]} makes a table of {shape[0]:,} x {shape[1]:,} numbers.")
    found = np.zeros(shape, np.float32)
    found[np.repeat(np.arange(len(rows)), rows), columns] = counts
    return found


def _one_each(
    item: np.ndarray,
    classes: Sequence[int],
    names: np.ndarray,
    column: str,
    file: object,
    lines: Sequence[int],
) -> np.ndarray:
    """The class of each item, the same in all of its rows."""
    classes = np.int32(classes)
    found = np.zeros(len(names), np.int32)
    found[item] = classes
    other = np.flatnonzero(found[item] != classes)
    if other.size:
        raise ValueError(
            f"{file}: column {column} must be the same in all rows of an item; row {other[0]} "
            f"(line {lines[other[0]]}) has another for {names[item[other[0]]]}."
        )
    return found


def _features(file: Path, item: str, items: Sequence[str]) -> np.ndarray:
    """The numbers of the items, in their order, ``[N, D]``."""
    names, rows, lines = read_rows(file)
    check_column("item", item, names, file)
    at = names.index(item)
    found = read_cells(rows, lines, at, names, file)
    row_of = {name: row for row, name in enumerate(found)}
    if len(row_of) < len(found):
        twice = next(name for row, name in enumerate(found) if row_of[name] != row)
        raise ValueError(f"{file} has several rows of the item {twice}; keep one.")
    missing = [name for name in items if name not in row_of]
    if missing:
        raise ValueError(
            f"{file} has no row of {len(missing)} of {len(items)} items that have labels, the "
            f"first is {missing[0]}."
        )
    others = [index for index in range(len(names)) if index != at]
    if not others:
        raise ValueError(f"{file} has no column of features beside {item}; add numbers.")
    return read_numbers(rows, lines, others, names, file)[[row_of[name] for name in items]]
