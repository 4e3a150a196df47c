"""Folds of any table with made label noise: what a comparison of losses trains on."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lnl_jax import data, noise
from lnl_jax.comparison.conditions import UNCHANGED
from lnl_jax.comparison.methods import what_is_known
from lnl_jax.data.splits import stack
from lnl_jax.noise import corrupt
from lnl_jax.runner.arguments import refused

# The noises of the LDR paper, and how many labels each of them changes.
# Labels that are given, and may be false, are left as they are: none.
RATES = {
    "clean": (0.0,),
    "none": (0.0,),
    "uniform": (0.3, 0.6, 0.9),
    "class_dependent": (0.1, 0.3, 0.5),
}
# Class-dependent noise swaps classes that are alike where it is known which are.
SWAPS = {
    "letter": noise.LETTER_SWAPS,
    "news20": noise.NEWS20_SWAPS,
    "vowel": noise.VOWEL_SWAPS,
}


class NoisyFold(NamedTuple):
    """Which data set this is: one noise, one draw of it, one fold.

    Attributes:
        noise: a name of `RATES`.
        rate: how many labels it changes.
        seed: of the draw.
        fold: which part validates.
    """

    noise: str
    rate: float
    seed: int
    fold: int


def noisy_folds(
    development: dict, test: dict, matrix: np.ndarray, folds: int, seed: int
) -> Iterator[dict[str, dict]]:
    """The parts of every fold, with noisy labels for training and validation.

    Folds are contiguous, as in the paper: the rows of these tables are in random order. In a file
    sorted by class a fold would lack classes, which is an error.

    Args:
        development: what is trained and validated on: ``label`` and any inputs, ``[N, ...]``; a
            ``clean_label`` where it is known and another.
        test: handed on as it is, with clean labels.
        matrix: probabilities of the noisy labels given the clean ones, ``[K, K]``.
        folds: how many, at least 2.
        seed: of the draw of the noise.

    Yields:
        Dicts with ``train``, ``validation``, ``test`` and ``known``; the first two have the noisy
        ``label`` and the ``clean_label``.

    Raises:
        StudyError: if a class has no example in a fold.
    """
    noisy = corrupt(development["label"], matrix, np.random.default_rng(seed))
    clean = development.get("clean_label", development["label"])
    corrupted = development | {"clean_label": clean, "label": noisy.labels}
    with refused("folds"):
        parts = data.k_fold(corrupted, folds, by="clean_label")
    for training, validation in parts:
        known = what_is_known(matrix, training["label"])
        yield {"train": training, "validation": validation, "test": test, "known": known}


def all_noisy_folds(
    dataset: str, development: dict, test: dict, noises: Sequence[str], folds: int, seeds: int
) -> tuple[list[NoisyFold], dict[str, Any]]:
    """Every noise at every rate, with every draw and fold.

    The index of a training example is its position in its fold, where a run keeps its row.

    Args:
        dataset: its name, for `SWAPS`.
        development: what is trained and validated on: ``label`` and any inputs, ``[N, ...]``.
        test: the same columns, with clean labels.
        noises: names of `RATES`.
        folds: parts of `development`, at least 2.
        seeds: how often the labels are corrupted anew.

    Returns:
        Which data sets they are, all of a draw together, and the parts of all of them as of
        `noisy_folds`, with a leading axis of data sets.

    Raises:
        StudyError: if a class has no example in a fold.
    """
    num_classes = int(max(development["label"].max(), test["label"].max())) + 1
    pairs = [(name, rate) for name in dict.fromkeys(noises) for rate in RATES[name]]
    matrices = {pair: transition_matrix(dataset, *pair, num_classes) for pair in pairs}
    found, parts = [], []
    # What is trained on in this order has whole draws, however early it ends.
    for seed in range(seeds):
        for pair, matrix in matrices.items():
            for fold, part in enumerate(noisy_folds(development, test, matrix, folds, seed)):
                found.append(NoisyFold(*pair, seed, fold))
                size = len(part["train"]["label"])
                part["train"] = part["train"] | {"index": np.arange(size, dtype=np.int32)}
                parts.append(part)
    return found, stack(parts)


def named_noises(noises: Sequence[str], given: bool) -> tuple[str, ...]:
    """The noises as they are called on these labels, each once.

    Args:
        noises: names of `RATES`.
        given: whether the labels are as somebody gave them.

    Returns:
        The names, where no label is changed `none` for labels that are given, else `clean`.
    """
    unchanged = "none" if given else "clean"
    return tuple(dict.fromkeys(unchanged if name in UNCHANGED else name for name in noises))


def transition_matrix(dataset: str, name: str, rate: float, num_classes: int) -> np.ndarray:
    """Probabilities of the noisy labels given the clean ones.

    Args:
        dataset: its name, for `SWAPS`.
        name: of the noise.
        rate: how many labels it changes.
        num_classes: K.

    Returns:
        ``[K, K]``; without swaps that are known, class-dependent noise is that of the next class.
    """
    if name == "class_dependent":
        mapping = SWAPS.get(dataset) or noise.cyclic(num_classes)
        return noise.class_dependent(num_classes, rate, mapping)
    return noise.symmetric(num_classes, rate, include_self=True)
