"""Noisily labelled images as they are compared on: read, cut down, in folds."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lnl_jax import data
from lnl_jax.comparison.methods import what_is_known
from lnl_jax.data import augment
from lnl_jax.runner.arguments import StudyError, check_images, refused
from lnl_jax.runner.usage import as_text

# Training examples on which the memorised labels are counted after every epoch.
PROBED = 2_000
# Random numbers of their own, so that neither moves what else is drawn by the seed.
FOLDS_STREAM, IMAGES_STREAM = 5, 6


class NoisyImages(NamedTuple):
    """A set of images with noisy labels for its training part.

    Attributes:
        splits: the images, with the clean labels.
        noisy: the labels that are trained and validated on, ``[N]``.
        matrix: their transition matrix, ``[K, K]``, which only corrections are told.
    """

    splits: data.Splits
    noisy: np.ndarray
    matrix: np.ndarray


def check_first_folds(first_folds: int | None, folds: int) -> int:
    """How many of the folds are run.

    Args:
        first_folds: that many; None means all.
        folds: how many there are.

    Returns:
        The number.

    Raises:
        StudyError: for more than there are.
    """
    if first_folds is not None and first_folds > folds:
        raise StudyError(f"first_folds must be from 1 to folds = {folds}, got {first_folds}.")
    return folds if first_folds is None else first_folds


def read_images(
    dataset: Callable, data_dir: str | None, train_size: int | None = None, seed: int = 0
) -> data.Splits:
    """A data set of images with labels, or `some_examples` of it.

    Args:
        dataset: ``data_dir -> splits``.
        data_dir: where it looks.
        train_size: how many training examples; None keeps all.
        seed: of their choice.

    Returns:
        The splits.

    Raises:
        StudyError: if it cannot be read, is of something else, or has fewer examples.
    """
    with refused():
        splits = dataset(data_dir)
    check_images(splits, name_of_choice(dataset))
    return some_examples(splits, train_size, seed)


def name_of_choice(function: Callable) -> str:
    """The name of a function, with the keywords that are set.

    Args:
        function: plain or `functools.partial`.

    Returns:
        Such as ``convnet (width 4)``.
    """
    if not isinstance(function, functools.partial):
        return function.__name__
    keywords = ", ".join(f"{key} {as_text(value)}" for key, value in function.keywords.items())
    return f"{function.func.__name__} ({keywords})"


def class_matrix(matrix: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """The mean transition of each class, ``[K, K]``; a class without examples keeps its label.

    Args:
        matrix: transition matrix, ``[K, K]``, which is returned, or of each example, ``[N, K]``.
        labels: the clean labels, ``[N]``.
        num_classes: K.

    Returns:
        ``[K, K]``.
    """
    if len(matrix) == num_classes:
        return matrix
    mean = np.eye(num_classes)
    for label in np.unique(labels):
        mean[label] = matrix[labels == label].mean(0)
    return mean


def image_folds(
    noisy_images: NoisyImages, folds: int, first_folds: int, seed: int
) -> tuple[list[dict[str, dict]], dict[str, dict]]:
    """The data set of each fold, and what all folds share: images and the test part.

    Folds are drawn by the seed, noisy classes in proportion, so that the order of a file means
    nothing.

    Args:
        noisy_images: images and labels.
        folds: parts of the training set, each of which validates once.
        first_folds: how many of the folds are made.
        seed: of the folds.

    Returns:
        Dicts with ``train``, ``validation`` and ``probe``, rows of the images with their labels,
        and ``known``; and one with more for ``known``, the images among it, and ``test``.

    Raises:
        StudyError: if a class has no example in a fold.
    """
    splits = noisy_images.splits
    development = {"index": splits.train["index"], "label": noisy_images.noisy}
    development |= {"clean_label": splits.train.get("clean_label", splits.train["label"])}
    found = []
    rng = np.random.default_rng((seed, FOLDS_STREAM))
    with refused("folds"):
        of_folds = data.k_fold(development, folds, rng)[:first_folds]
    for training, validation in of_folds:
        # Not the first ones, which in a file sorted by class are of few classes.
        probed = np.sort(rng.permutation(len(training["label"]))[:PROBED])
        probe = {name: values[probed] for name, values in training.items()}
        known = what_is_known(noisy_images.matrix, training["label"])
        found.append({"train": training, "validation": validation, "probe": probe, "known": known})
    mean, std = augment.channel_statistics(splits.train["image"])
    images = {"image": splits.train["image"], "mean": mean, "std": std}
    test = {"image": splits.test["image"], "label": splits.test["label"]}
    return found, {"known": images, "test": test}


def some_examples(splits: data.Splits, count: int | None, seed: int) -> data.Splits:
    """The data set with some training examples only, classes in proportion; None keeps all.

    Rows are numbered anew, as the images are.

    Args:
        splits: the data set.
        count: how many training examples; None keeps all.
        seed: of their choice.

    Returns:
        The splits, with the whole test part.

    Raises:
        StudyError: if there are fewer, or a class has none among so few.
    """
    size = len(splits.train["label"])
    if count is None:
        return splits
    if not 1 <= count <= size:
        raise StudyError(f"train_size must be from 1 to {size}, got {count}.")
    with refused("train_size"):
        train = data.subset(splits.train, count, np.random.default_rng((seed, IMAGES_STREAM)))
    return splits._replace(train=train | {"index": np.arange(count, dtype=np.int32)})
