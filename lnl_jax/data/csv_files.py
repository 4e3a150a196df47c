"""A table of text, CSV: features as columns, or a column of paths of images, and a label column."""

import csv
import difflib
import itertools
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lnl_jax._files import brief, lines_of, opened_text, shown
from lnl_jax._host_arguments import check_integer
from lnl_jax.data.labelled import Labelled, labelled, read_images

DELIMITERS = ",;\t"


def csv_table(
    file: str | os.PathLike,
    *,
    label: str = "label",
    image: str | None = None,
    clean_label: str | None = None,
    ignore: Sequence[str] = (),
    size: int = 32,
    skip_unreadable: bool = False,
) -> Labelled:
    r"""Any data set, from a CSV file with a line of column names.

    Fields are separated by commas, semicolons or tabs, whichever the first line has most of. Rows
    are counted from 0 after it, lines from 1 with it; empty lines are passed over.

    Args:
        file: in UTF-8.
        label: the column of the given classes: names or numbers, which are sorted, by size where
            all are whole numbers.
        image: a column of paths of images, as from the folder of the file; None takes all other
            columns as features, which must be numbers.
        clean_label: a column of the true classes, where they are known.
        ignore: columns that are no features.
        size: rows and columns of images; the square in the middle of each is resized.
        skip_unreadable: leaves out images that are missing or cannot be decoded.

    Returns:
        `Labelled`, with ``x``, float32, ``[N, D]``, or ``image``, uint8, ``[N, size, size, 3]``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is empty, a column is missing (close ones are named), a row has other than
            so many fields, a label is empty or nan, no true class is a given one, a column of
            features has no name, a feature is no finite number, or an image cannot be read; names
            the row and the column.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> file = Path(folder.name, "animals.csv")
        >>> _ = file.write_text("legs,wings,label\n4,0,cat\n2,2,bird\n4,0,bird\n")
        >>> found = csv_table(file)
        >>> found.class_names, found.columns["label"].tolist(), found.columns["x"].tolist()[1]
        (('bird', 'cat'), [1, 0, 0], [2.0, 2.0])
        >>> folder.cleanup()
    """
    check_integer("size", size)
    names, rows, lines = read_rows(Path(file).expanduser())
    chosen = {"label": label, "image": image, "clean_label": clean_label}
    for argument, name in chosen.items():
        if name is not None:
            check_column(argument, name, names, file)
    for name in ignore:
        check_column("ignore", name, names, file)
    kinds = [name for name in ("label", "clean_label") if chosen[name] is not None]
    texts = {
        name: read_cells(rows, lines, names.index(chosen[name]), names, file) for name in kinds
    }
    classes = sorted_classes({text for column in texts.values() for text in column})
    if len(classes) < 2:
        raise ValueError(f"{file} must have at least 2 classes, got {brief(classes[0])} alone.")
    if clean_label is not None:
        check_true_classes("clean_label", file, label, texts["label"], texts["clean_label"])
    number = {name: at for at, name in enumerate(classes)}
    columns = {
        name: np.array([number[text] for text in column], np.int32)
        for name, column in texts.items()
    }
    row = np.arange(len(rows))
    if image is None:
        left_out = {label, clean_label, *ignore}
        at = [index for index, name in enumerate(names) if name not in left_out]
        leave = "leave the column out: ignore"
        columns["x"] = read_numbers(rows, lines, at, names, file, leave)
        return labelled(columns, classes, row)
    paths = read_cells(rows, lines, names.index(image), names, file)
    paths = [str(Path(file).expanduser().parent / path) for path in paths]
    called = [
        f"row {at} (line {line}): {brief(path, 300)}"
        for at, line, path in zip(row, lines, paths, strict=True)
    ]
    images, kept, skipped = read_images(paths, size, skip_unreadable=skip_unreadable, names=called)
    columns = {name: values[kept] for name, values in columns.items()} | {"image": images}
    return labelled(columns, classes, row[kept], [paths[at] for at in kept], skipped)


def read_rows(file: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """The names of the columns, the rows, and the line on which each ends."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}.")
    try:
        with opened_text(file) as opened:
            lines = lines_of(opened, file)
            first = next(lines, "")
            delimiter = max(DELIMITERS, key=first.count)
            reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter)
            found = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} must be text in UTF-8 ({error}).") from None
    except csv.Error as error:
        raise ValueError(f"{file} cannot be read as CSV ({error}).") from None
    if len(found) < 2:
        raise ValueError(
            f"{file} has no rows: a line of column names and a line for each example are needed."
        )
    names = [name.strip() for name in found[0][1]]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{file} has several columns named {twice[0]!r}; rename them.")
    for at, (line, row) in enumerate(found[1:]):
        if len(row) != len(names):
            raise ValueError(
                f"{file}: row {at} (line {line}) has {len(row)} fields, not the {len(names)} of "
                "the first line; quote fields that hold a separator."
            )
    return names, [row for _, row in found[1:]], [line for line, _ in found[1:]]


def check_column(argument: str, name: str, names: Sequence[str], file: str | os.PathLike) -> None:
    """Raises ValueError unless there is such a column; names close ones."""
    if name not in names:
        names = [brief(one) for one in names]
        close = difflib.get_close_matches(name, names, n=3)
        close = close or [one for one in names if one.lower() == name.lower()]
        hint = (
            f"did you mean {' or '.join(close)}?"
            if close
            else f"it has {brief(', '.join(names), 800)}."
        )
        raise ValueError(f"{argument}: {file} has no column {name!r}; {hint}")


def read_cells(
    rows: Sequence[list[str]],
    lines: Sequence[int],
    column: int,
    names: Sequence[str],
    file: str | os.PathLike,
) -> list[str]:
    """A column of text, none of it missing."""
    found = [row[column].strip() for row in rows]
    # As NumPy and pandas write a value that is missing.
    empty = [at for at, text in enumerate(found) if text in ("", "nan", "NaN")]
    if empty:
        at = empty[0]
        called = "empty" if found[at] == "" else found[at]
        raise ValueError(
            f"{file}: column {names[column]} is {called} in {len(empty)} of {len(rows)} rows, "
            f"the first is row {at} (line {lines[at]}); fill in or drop them."
        )
    return found


def sorted_classes(names: set[str]) -> list[str]:
    """In the order of their names, by size where all are whole numbers."""
    # Not longer than a number of anything, or Python refuses to read it.
    whole = all(re.fullmatch("-?[0-9]{1,18}", name) for name in names)
    # By the name too, where numbers are written in two ways, as 1 and 01.
    return sorted(names, key=lambda name: (int(name), name)) if whole else sorted(names)


def check_true_classes(
    argument: str,
    file: str | os.PathLike,
    column: str,
    given: Sequence[str],
    true: Sequence[str],
) -> None:
    """Raises ValueError if none of the true classes is ever given: they are of something else."""
    if not set(given) & set(true):
        raise ValueError(
            f"{argument}: {file}: no class of it is one of column {column}, got {brief(true[0])} "
            f"and {brief(given[0])} in row 0; write both in the same way, or choose another column."
        )


def read_numbers(
    rows: Sequence[list[str]],
    lines: Sequence[int],
    columns: Sequence[int],
    names: Sequence[str],
    file: str | os.PathLike,
    otherwise: str = "leave the column out",
) -> np.ndarray:
    """Columns of finite numbers, float32; `otherwise` says what else to do where one is none."""
    if not columns:
        raise ValueError(
            f"{file} has no columns of features beside {', '.join(names)}; give image, the column "
            "of the paths of images, or add features."
        )
    # What comes before it is a number of the row, as a rule, which tells classes in their order.
    if nameless := [column for column in columns if not names[column]]:
        raise ValueError(
            f"{file}: column {nameless[0] + 1} has no name; give it one in the first line, or take "
            "it out: an index that pandas wrote is left out by to_csv(..., index=False)."
        )
    values = np.empty((len(rows), len(columns)), np.float32)
    for at, (line, row) in enumerate(zip(lines, rows, strict=True)):
        try:
            with np.errstate(over="ignore"):
                values[at] = [float(row[column]) for column in columns]
            bad = None if np.isfinite(values[at]).all() else "no finite number"
        except ValueError:
            bad = "no number"
        if bad:
            column = next(column for column in columns if not _is_finite(row[column]))
            raise ValueError(
                f"{file}: row {at} (line {line}), column {names[column]} holds "
                f"{shown(row[column])}, {bad}; repair it, or {otherwise}."
            )
    return values


def _is_finite(text: str) -> bool:
    try:
        with np.errstate(over="ignore"):
            return bool(np.isfinite(np.float32(text)))
    except ValueError:
        return False
