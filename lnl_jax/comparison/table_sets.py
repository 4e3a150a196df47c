"""Tables of numbers with the test part that comparisons of losses use, a function each."""

import functools
from collections.abc import Callable

import numpy as np

from lnl_jax import data
from lnl_jax.runner.arguments import check_table

NUM_TEST = 2_000
# Where the file has it, the rows of the whole of letter that are the official test part.
OFFICIAL_TEST_ROWS = "idx_ldr_repo_test"


def official_split(splits: data.Splits) -> tuple[dict, dict]:
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
    return (
        {name: values[~is_test] for name, values in rows.items()},
        {name: values[is_test] for name, values in rows.items()},
    )


def letter(data_dir: str | None) -> tuple[dict, dict]:
    """18,000 rows for training and validation, the official 2,000 for testing; 26 classes."""
    splits = data.letter(data_dir)
    check_table(splits, "letter")
    return official_split(splits)


def digits(data_dir: str | None) -> tuple[dict, dict]:
    """scikit-learn's digits, a fifth of them for testing."""
    del data_dir
    return data.hold_out(data.digits(), 0.2, np.random.default_rng(0))


def _official(load: Callable, data_dir: str | None) -> tuple[dict, dict]:
    splits = load(data_dir)
    check_table(splits, load.__name__)
    return splits.train, splits.test


def satimage(data_dir: str | None) -> tuple[dict, dict]:
    """The official parts, the training rows mixed once: there each class stands by itself."""
    training, test = _official(data.satimage, data_dir)
    order = np.random.default_rng(0).permutation(len(training["label"]))
    return {name: values[order] for name, values in training.items()}, test


# (data_dir) -> what is trained and validated on, and the test part.
TABLE_SETS: dict[str, Callable] = {
    "letter": letter,
    "vowel": functools.partial(_official, data.vowel),
    "digits": digits,
    "satimage": satimage,
    "pendigits": functools.partial(_official, data.pendigits),
}
