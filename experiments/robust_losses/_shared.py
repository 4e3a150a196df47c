"""The data sets of the LDR paper's comparison: tables of numbers, noises, folds."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lnl_jax import data, models, noise
from lnl_jax.comparison.methods import what_is_known
from lnl_jax.comparison.networks import tabular
from lnl_jax.data.digits import NUM_CLASSES
from lnl_jax.data.splits import stack
from lnl_jax.noise import corrupt
from lnl_jax.runner.arguments import check_table, refused

RATES = {"clean": (0.0,), "uniform": (0.3, 0.6, 0.9), "class_dependent": (0.1, 0.3, 0.5)}
SWAPS = {"letter": noise.LETTER_SWAPS, "vowel": noise.VOWEL_SWAPS}


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


DATASETS: dict[str, Callable] = {
    "letter": letter,
    "vowel": functools.partial(_official, data.vowel),
    "digits": digits,
    "satimage": satimage,
    "pendigits": functools.partial(_official, data.pendigits),
}


class Condition(NamedTuple):
    """A data set of a sweep: one noise, one draw of it, one fold."""

    noise: str
    rate: float
    seed: int
    fold: int


def make_conditions(
    dataset: str, development: dict, test: dict, noises: Sequence[str], folds: int, seeds: int
) -> tuple[list[Condition], dict[str, Any]]:
    """All data sets of the sweep and their parts, with a leading axis.

    The index of a training example is its position in its fold, where a run keeps its row.
    """
    num_classes = int(max(development["label"].max(), test["label"].max())) + 1
    conditions, parts = [], []
    for name in dict.fromkeys(noises):
        for rate in RATES[name]:
            matrix = transition_matrix(dataset, name, rate, num_classes)
            for seed in range(seeds):
                for fold, part in enumerate(noisy_folds(development, test, matrix, folds, seed)):
                    conditions.append(Condition(name, rate, seed, fold))
                    size = len(part["train"]["label"])
                    part["train"] = part["train"] | {"index": np.arange(size, dtype=np.int32)}
                    parts.append(part)
    return conditions, stack(parts)


def transition_matrix(dataset: str, name: str, rate: float, num_classes: int) -> np.ndarray:
    """Probabilities of the noisy labels given the clean ones, ``[K, K]``."""
    if name == "class_dependent":
        mapping = SWAPS.get(dataset) or noise.cyclic(num_classes)
        return noise.class_dependent(num_classes, rate, mapping)
    return noise.symmetric(num_classes, rate, include_self=True)


# Of the digits.
MODEL = models.MLP(num_classes=NUM_CLASSES, hidden=(64, 64))


NETWORK = tabular(MODEL)


def noisy_digits(matrix: np.ndarray, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Training and validation part with noisy labels, test part with clean ones."""
    rng = np.random.default_rng(seed)
    rest, test = data.hold_out(data.digits(), 0.2, rng)
    noisy = noise.corrupt(rest["label"], matrix, rng)
    rest |= {"clean_label": rest["label"], "label": noisy.labels}
    training, validation = data.hold_out(rest, 0.2, rng)
    known = what_is_known(matrix, training["label"])
    return {"train": training, "validation": validation, "test": test, "known": known}


NUM_TEST = 2_000


# Where the file has it, the rows of the whole set that are the official test part.
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


def noisy_folds(
    development: dict, test: dict, matrix: np.ndarray, folds: int, seed: int
) -> Iterator[dict[str, dict]]:
    """The parts of every fold, with noisy labels for training and validation.

    Folds are contiguous, as in the paper: the rows of these tables are in random order. In a file
    sorted by class a fold would lack classes, which is an error.
    """
    noisy = corrupt(development["label"], matrix, np.random.default_rng(seed))
    corrupted = development | {"clean_label": development["label"], "label": noisy.labels}
    with refused("folds"):
        parts = data.k_fold(corrupted, folds, by="clean_label")
    for training, validation in parts:
        known = what_is_known(matrix, training["label"])
        yield {"train": training, "validation": validation, "test": test, "known": known}
