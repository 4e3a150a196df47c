"""Small tables with several classes: letter, vowel, satimage and pendigits.

Each is read from ``DIR/NAME.npz`` where `data_dir` is DIR and the file is there, with the split of
the file, else from OpenML, through scikit-learn and its cache. The columns go from -1 to 1 over the
training part, as in the scaled files of LIBSVM; the test part may go beyond. Further tables are in
`lnl_jax.data.uci_tables`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lnl_jax._extras import require
from lnl_jax.data.dataset import KEYS, PARTS, Splits, splits_of
from lnl_jax.data.downloads import check_connection
from lnl_jax.data.npz import check_folder, read_arrays
from lnl_jax.data.splits import fold_numbers

OPENML = "https://www.openml.org"
# The table of vowels says itself which rows are for training.
SPLIT_COLUMN = "Train_or_Test"
PARTS_OF_OWN_SPLIT = 5
NOT_MEASURED = (SPLIT_COLUMN, "Speaker_Number", "Sex")


class OpenMLTable(NamedTuple):
    """What is known of a table; with no test rows it has no official parts."""

    name: str
    data_id: int  # at OpenML
    num_columns: int
    sizes: tuple[int, int]  # of the training and the test part at OpenML
    codes: tuple[str, ...]  # how OpenML writes the classes
    class_names: tuple[str, ...]


LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
VOWELS = ("hid", "hId", "hEd", "hAd", "hYd", "had", "hOd", "hod", "hUd", "hud", "hed")
DIGITS = tuple("0123456789")
SOIL_CODES = ("1", "2", "3", "4", "5", "7")
SOILS = (
    *("red soil", "cotton crop", "grey soil"),
    *("damp grey soil", "vegetation stubble", "very damp grey soil"),
)


def letter(data_dir: str | os.PathLike | None = None) -> Splits:
    """Letter recognition: 20,000 letters from A to Z as 16 whole numbers each.

    OpenML has no split; the first 15,000 rows are for training, the last 5,000 for testing.

    Args:
        data_dir: a folder that may hold ``letter.npz``; None, or a folder without it, asks OpenML.

    Returns:
        `Splits` with ``x``, float32, ``[N, 16]``.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        Frey and Slate, "Letter Recognition Using Holland-Style Adaptive Classifiers" (Machine
        Learning, 1991).
    """
    return load_table(OpenMLTable("letter", 6, 16, (15_000, 5_000), LETTERS, LETTERS), data_dir)


def vowel(data_dir: str | os.PathLike | None = None) -> Splits:
    """Vowel recognition: 528 and 462 utterances of 11 English vowels, other speakers in each part.

    Speaker and sex, which OpenML has too, are left out.

    Args:
        data_dir: a folder that may hold ``vowel.npz``; None, or a folder without it, asks OpenML.

    Returns:
        `Splits` with ``x``, float32, ``[N, 10]``.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        Robinson, "Dynamic Error Propagation Networks" (PhD thesis, Cambridge, 1989).
    """
    return load_table(OpenMLTable("vowel", 307, 10, (528, 462), VOWELS, VOWELS), data_dir)


def satimage(data_dir: str | os.PathLike | None = None) -> Splits:
    """Landsat satellite image: what grows on a spot, from 4 bands of 9 pixels; 6 classes.

    The official parts have 4,435 and 2,000 rows. OpenML has 6,430 of them without a split, of which
    the first 4,435 are for training.

    Args:
        data_dir: a folder that may hold ``satimage.npz``; None, or a folder without it, asks
            OpenML.

    Returns:
        `Splits` with ``x``, float32, ``[N, 36]``.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        Michie, Spiegelhalter and Taylor (editors), "Machine Learning, Neural and Statistical
        Classification" (1994), Section 9.3.
    """
    return load_table(OpenMLTable("satimage", 182, 36, (4_435, 1_995), SOIL_CODES, SOILS), data_dir)


def pendigits(data_dir: str | os.PathLike | None = None) -> Splits:
    """Pen-based recognition of digits: 7,494 and 3,498 digits as 8 points on the way of the pen.

    Args:
        data_dir: a folder that may hold ``pendigits.npz``; None, or a folder without it, asks
            OpenML.

    Returns:
        `Splits` with ``x``, float32, ``[N, 16]``.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        Alimoglu and Alpaydin, "Methods of Combining Multiple Classifiers Based on Different
        Representations for Pen-based Handwritten Digit Recognition" (TAINN, 1996).
    """
    return load_table(OpenMLTable("pendigits", 32, 16, (7_494, 3_498), DIGITS, DIGITS), data_dir)


def load_table(table: OpenMLTable, data_dir: str | os.PathLike | None) -> Splits:
    """A table from a file of its name, or from OpenML, its columns from -1 to 1.

    Where it has no official parts, a fifth of each class, drawn once and for all, is for testing;
    a file may have a split of its own all the same.
    """
    folder = None if data_dir is None else check_folder(data_dir)
    if folder is not None and os.path.lexists(folder / f"{table.name}.npz"):
        source, arrays = read_arrays(folder, table.name, ", ".join(KEYS))
    else:
        source, arrays = f"OpenML data set {table.data_id}", _from_openml(table)
    if not table.sizes[1] and not arrays.keys() & {"x_test", "y_test"}:
        arrays = _with_test_part(arrays, str(source))
    try:
        splits = splits_of(arrays, class_names=table.class_names)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    if "x" not in splits.train or splits.train["x"].shape[1] != table.num_columns:
        shape = splits.train["x" if "x" in splits.train else "image"].shape
        raise ValueError(
            f"{source}: x_train must have {table.num_columns} columns, got the shape {shape}."
        )
    return scaled(splits)


def _with_test_part(arrays: Mapping[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    missing = [key for key in ("x_train", "y_train") if key not in arrays]
    if missing:
        raise ValueError(f"{source}: {missing[0]} is missing; there are {', '.join(arrays)}.")
    x, labels = arrays["x_train"], arrays["y_train"]
    if len(x) != len(labels):
        raise ValueError(f"{source}: y_train must hold {len(x)} labels, got {len(labels)}.")
    test = fold_numbers(labels, PARTS_OF_OWN_SPLIT, np.random.default_rng(0)) == 0
    parts = {"x_train": x[~test], "y_train": labels[~test], "x_test": x[test]}
    others = {name: values for name, values in arrays.items() if name not in parts}
    return others | parts | {"y_test": labels[test]}


def scaled(splits: Splits) -> Splits:
    """Brings every column to -1 to 1 over the training part; a constant one becomes 0.

    Args:
        splits: with ``x``.

    Returns:
        The splits; the test part may go beyond.
    """
    low, high = (limit(splits.train["x"], axis=0).astype(np.float64) for limit in (np.min, np.max))
    constant = low == high
    span = np.where(constant, 1, high - low)
    parts = {}
    for part in PARTS:
        columns = getattr(splits, part)
        x = np.where(constant, 0, 2 * (columns["x"] - low) / span - 1)
        parts[part] = columns | {"x": x.astype(np.float32)}
    return splits._replace(**parts)


def _from_openml(table: OpenMLTable) -> dict[str, np.ndarray]:
    require("sklearn")
    from sklearn.datasets import fetch_openml

    try:
        if not _is_cached(table):
            # Asked first, as scikit-learn tries again and again, and knows no time limit.
            check_connection(OPENML)
        # These settings do without pandas, and read categories as their positions.
        found = fetch_openml(data_id=table.data_id, as_frame=False, parser="liac-arff")
    except OSError as error:
        raise FileNotFoundError(
            f"{table.name} cannot be had from OpenML ({error}). Give data_dir, a folder with "
            f"{table.name}.npz (keys {', '.join(KEYS)}), or connect to the internet."
        ) from error
    return _official_parts(table, found)


def _is_cached(table: OpenMLTable) -> bool:
    require("sklearn")
    from sklearn.datasets import get_data_home

    # Where scikit-learn keeps the description, which comes first. If that place changes, a set in
    # the cache needs a connection; nothing worse.
    folder = Path(get_data_home(), "openml", "openml.org", "api", "v1", "json", "data")
    return (folder / f"{table.data_id}.gz").exists()


def _official_parts(table: OpenMLTable, found) -> dict[str, np.ndarray]:
    names = list(found.feature_names)
    x, labels = np.asarray(found.data), _class_numbers(table, found.target)
    is_train = np.arange(len(x)) < table.sizes[0]
    if SPLIT_COLUMN in names:
        train = list(found.categories[SPLIT_COLUMN]).index("Train")
        is_train = x[:, names.index(SPLIT_COLUMN)] == train
    x = x[:, [name not in NOT_MEASURED for name in names]]
    sizes = (int(is_train.sum()), int((~is_train).sum()))
    if sizes != table.sizes or x.shape[1] != table.num_columns:
        raise ValueError(
            f"{table.name}: OpenML data set {table.data_id} was expected to have {table.sizes} "
            f"training and test rows and {table.num_columns} columns, it has {sizes} and "
            f"{x.shape[1]}. Give data_dir, a folder with {table.name}.npz, instead."
        )
    parts = {"x_train": x[is_train], "y_train": labels[is_train]}
    if not table.sizes[1]:
        return parts
    return parts | {"x_test": x[~is_train], "y_test": labels[~is_train]}


def _class_numbers(table: OpenMLTable, target) -> np.ndarray:
    codes = [_code(value) for value in target]
    unknown = sorted(set(codes) - set(table.codes))
    if unknown:
        raise ValueError(
            f"{table.name}: OpenML data set {table.data_id} was expected to have the classes "
            f"{', '.join(table.codes)}; it also has {', '.join(unknown)}."
        )
    numbers = {code: number for number, code in enumerate(table.codes)}
    return np.array([numbers[code] for code in codes])


def _code(value) -> str:
    # A number may be written 1, "1." or "1.0".
    whole, point, rest = str(value).partition(".")
    return whole if point and not rest.strip("0") else str(value)
