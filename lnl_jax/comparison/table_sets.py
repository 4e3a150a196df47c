"""Tables of numbers with the test part that comparisons of losses use, a function each."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from lnl_jax import data
from lnl_jax.comparison.own_sets import OWN_SETS
from lnl_jax.data.digits import NUM_CLASSES
from lnl_jax.data.tables import scaled
from lnl_jax.runner.arguments import check_table

NUM_TEST = 2_000
# Where the file has it, the rows of the whole of letter that are the official test part.
OFFICIAL_TEST_ROWS = "idx_ldr_repo_test"


def official_split(splits: data.Splits) -> data.Splits:
    """All 20,000 rows as 18,000 for training and validation and 2,000 for testing.

    The test rows are the official ones where the file names them, else drawn once and for all.
    """
    rows = {
        name: np.concatenate([splits.train[name], splits.test[name]]) for name in ("x", "label")
    }
    size = len(rows["label"])
    rows["index"] = np.arange(size, dtype=np.int32)
    chosen = (splits.extras or {}).get(OFFICIAL_TEST_ROWS)
    if chosen is None:
        chosen = np.random.default_rng(0).permutation(size)[:NUM_TEST]
    is_test = np.zeros(size, bool)
    is_test[chosen] = True
    return splits._replace(
        train={name: values[~is_test] for name, values in rows.items()},
        test={name: values[is_test] for name, values in rows.items()},
    )


def letter(data_dir: str | None) -> data.Splits:
    """18,000 rows for training and validation, the official 2,000 for testing; 26 classes."""
    splits = data.letter(data_dir)
    check_table(splits, "letter")
    return official_split(splits)


def digits(data_dir: str | None) -> data.Splits:
    """Scikit-learn's digits, a fifth of them for testing."""
    del data_dir
    parts = data.hold_out(data.digits(), 0.2, np.random.default_rng(0))
    return data.Splits(*parts, NUM_CLASSES, tuple(map(str, range(NUM_CLASSES))))


def vowel(data_dir: str | None) -> data.Splits:
    """The official parts: 528 and 462 utterances of 11 vowels."""
    return _official(data.vowel(data_dir), "vowel")


def pendigits(data_dir: str | None) -> data.Splits:
    """The official parts: 7,494 and 3,498 digits on the way of a pen."""
    return _official(data.pendigits(data_dir), "pendigits")


def satimage(data_dir: str | None) -> data.Splits:
    """The official parts, the training rows mixed once: there each class stands by itself."""
    return _mixed(_official(data.satimage(data_dir), "satimage"))


def optdigits(data_dir: str | None) -> data.Splits:
    """The official parts: 3,823 and 1,797 digits of other writers."""
    return _official(data.optdigits(data_dir), "optdigits")


def segment(data_dir: str | None) -> data.Splits:
    """1,848 patches of pictures for training and validation, a fifth of all for testing."""
    return _spread(_official(data.segment(data_dir), "segment"))


def vehicle(data_dir: str | None) -> data.Splits:
    """677 silhouettes of 4 vehicles for training and validation, a fifth of all for testing."""
    return _spread(_official(data.vehicle(data_dir), "vehicle"))


def glass(data_dir: str | None) -> data.Splits:
    """171 pieces of glass for training and validation, a fifth of all for testing."""
    return _spread(_official(data.glass(data_dir), "glass"))


def shuttle(data_dir: str | None) -> data.Splits:
    """The official parts: 43,500 and 14,500 readings, the rarest class with 6 of the first."""
    return _spread(_official(data.shuttle(data_dir), "shuttle"))


def aloi(data_dir: str | None) -> data.Splits:
    """86,400 rows of 1,000 objects for training and validation, a fifth of all for testing."""
    return _spread(_official(data.aloi(data_dir), "aloi"))


def news20(data_dir: str | None, *, words: int = 500) -> data.Splits:
    """The official parts of 20 Newsgroups, the most frequent words, the training rows mixed."""
    return _mixed(_official(data.news20(data_dir, words=words), "news20"))


def _official(splits: data.Splits, name: str) -> data.Splits:
    check_table(splits, name)
    return splits


def _mixed(splits: data.Splits) -> data.Splits:
    order = np.random.default_rng(0).permutation(len(splits.train["label"]))
    return splits._replace(train={name: values[order] for name, values in splits.train.items()})


def _spread(splits: data.Splits) -> data.Splits:
    """The training rows in an order in which every contiguous fold has rows of every class.

    Each class is mixed once and then spread evenly, from the first row to the last.
    """
    labels = splits.train["label"]
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)[labels[order]]
    first = np.searchsorted(labels[order], labels[order])
    place = (np.arange(len(order)) - first + 0.5) / counts
    order = order[np.argsort(place, kind="stable")]
    return splits._replace(train={name: values[order] for name, values in splits.train.items()})


def as_table(load: Callable[..., data.Splits]) -> Callable[..., data.Splits]:
    """A user's own set as a table: columns from -1 to 1, rows mixed once, numbers alone.

    Args:
        load: ``(data_dir, ...) -> splits``.

    Returns:
        The function with the same keywords.
    """

    @functools.wraps(load)
    def read(data_dir: str | None, **keywords: Any) -> data.Splits:
        return _mixed(scaled(_official(load(data_dir, **keywords), load.__name__)))

    return read


def plain_name(dataset: Callable) -> str:
    """The name of a choice, without the keywords that are set."""
    return getattr(dataset, "func", dataset).__name__


# (data_dir) -> what is trained and validated on, and the test part.
TABLE_SETS: dict[str, Callable[..., data.Splits]] = {
    "letter": letter,
    "vowel": vowel,
    "digits": digits,
    "satimage": satimage,
    "pendigits": pendigits,
    "optdigits": optdigits,
    "segment": segment,
    "vehicle": vehicle,
    "glass": glass,
    "shuttle": shuttle,
    "aloi": aloi,
    "news20": news20,
    "csv": as_table(OWN_SETS["csv"]),
    "npz": as_table(OWN_SETS["npz"]),
    "tfds": as_table(OWN_SETS["tfds"]),
}
