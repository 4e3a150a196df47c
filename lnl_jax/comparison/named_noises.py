"""Noises of labels by name: made by a matrix, or given by people."""

import re

import numpy as np

from lnl_jax import data
from lnl_jax import noise as label_noise
from lnl_jax.runner.arguments import StudyError

# By the names of noises, (K, rate) -> the matrix; any other name is one of labels of the set.
MADE = {
    "symmetric": label_noise.symmetric,
    "pairflip": label_noise.pairflip,
    "asymmetric": lambda num_classes, rate: label_noise.cifar10_asymmetric(rate),
}


def noisy_labels(splits: data.Splits, name: str, seed: int) -> np.ndarray:
    """The labels of the training part under a noise.

    Args:
        splits: the data set; of given labels those of the set are taken for the true ones.
        name: ``none``; a noise of `MADE` with its rate in percent, such as ``symmetric_60``; or
            other labels of the set, ``label_NAME``.
        seed: of what is drawn.

    Returns:
        ``[N]``.

    Raises:
        StudyError: for another name; says which there are.
    """
    given = splits.train["label"]
    if name == "none":
        return given
    if f"label_{name}" in splits.train:
        return splits.train[f"label_{name}"]
    made = re.fullmatch(rf"({'|'.join(MADE)})_(\d\d)", name)
    if made is None:
        there = [column[6:] for column in splits.train if column.startswith("label_")]
        raise StudyError(
            f"noises must be none, {', '.join(f'{kind}_NN' for kind in MADE)} (NN percent)"
            f"{' or labels of the set, ' * bool(there)}{', '.join(there)}; got {name}."
        )
    matrix = MADE[made[1]](splits.num_classes, int(made[2]) / 100)
    return label_noise.corrupt(given, matrix, np.random.default_rng(seed)).labels
