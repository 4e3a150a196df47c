"""Real images in three parts, as studies of dataset distillation use them."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from experiments.arguments import StudyError
from lnl_jax import data

SIDE = 16


class Parts(NamedTuple):
    """Images ``[N, H, W, C]`` from 0 to 1 and labels; nothing is chosen on the test part."""

    train: dict[str, np.ndarray]
    validation: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    num_classes: int
    class_names: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height, width and channels."""
        return self.train["image"].shape[1:]


def enlarged_digits(seed: int) -> Parts:
    """Digits of 16x16: 1,097 training, 200 validation, 500 test images, classes in proportion."""
    whole = data.digits()
    small = whole["x"].reshape(-1, 8, 8, 1)
    images = np.asarray(jax.image.resize(small, (len(small), SIDE, SIDE, 1), "bilinear"))
    rest, test = _split({"image": images, "label": whole["label"]}, 500, seed)
    train, validation = _split(rest, 200, seed)
    return Parts(train, validation, test, 10)


def image_parts(
    splits: data.Splits, seed: int, *, train_size: int, validation_size: int = 1000
) -> Parts:
    """Parts of a set of images with a test part of its own.

    Args:
        splits: the set.
        seed: of what is taken.
        train_size: training images, classes in proportion.
        validation_size: of those that are not trained on.

    Returns:
        The parts; all test images.

    Raises:
        StudyError: if there are too few training images.
    """
    whole = _from_0_to_1(splits.train)
    most = len(whole["label"]) - validation_size
    if not splits.num_classes <= train_size <= most:
        raise StudyError(
            f"train_size must be from {splits.num_classes} to {most}, all training images but "
            f"{validation_size} for validation; got {train_size}."
        )
    rest, validation = _split(whole, validation_size, seed)
    train = rest if train_size == most else _split(rest, train_size, seed)[1]
    test = _from_0_to_1(splits.test)
    return Parts(train, validation, test, splits.num_classes, splits.class_names)


def _split(part: Mapping, size: int, seed: int) -> tuple[dict, dict]:
    """The rest, and so many examples."""
    from sklearn.model_selection import train_test_split

    labels = part["label"]
    rows = train_test_split(
        np.arange(len(labels)), test_size=size, stratify=labels, random_state=seed
    )
    return tuple({name: values[taken] for name, values in part.items()} for taken in rows)


def _from_0_to_1(part: Mapping) -> dict[str, np.ndarray]:
    return {"image": part["image"].astype(np.float32) / 255, "label": part["label"]}
