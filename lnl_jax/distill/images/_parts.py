"""Real images in three parts, as dataset distillation needs them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from lnl_jax import data
from lnl_jax._extras import require
from lnl_jax.distill.networks import percent_right


class ImageParts(NamedTuple):
    """Images ``[N, H, W, C]`` from 0 to 1 and labels; nothing is chosen on the test part.

    Attributes:
        train: ``image`` and ``label`` of what is trained on and distilled.
        validation: likewise, of what is chosen on.
        test: likewise.
        num_classes: K.
        class_names: in words, where they are known.
    """

    train: dict[str, np.ndarray]
    validation: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    num_classes: int
    class_names: tuple[str, ...] = ()

    def percent_right(self, predict: Callable[[Any], Array]) -> tuple[float, float]:
        """Accuracies of a compiled function, images to scores, on validation and test."""
        return percent_right(predict, self.validation), percent_right(predict, self.test)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height, width and channels."""
        return self.train["image"].shape[1:]


def image_parts(
    splits: data.Splits, seed: int, *, train_size: int, validation_size: int = 1000
) -> ImageParts:
    """Parts of a set of images with a test part of its own.

    Args:
        splits: the set.
        seed: of what is taken.
        train_size: training images, classes in proportion.
        validation_size: of those that are not trained on.

    Returns:
        The parts; all test images.

    Raises:
        ValueError: if there are too few training images.
    """
    whole = _from_0_to_1(splits.train)
    most = len(whole["label"]) - validation_size
    if not splits.num_classes <= train_size <= most:
        raise ValueError(
            f"train_size must be from {splits.num_classes} to {most}, all training images but "
            f"{validation_size} for validation; got {train_size}."
        )
    rest, validation = split_off(whole, validation_size, seed)
    train = rest if train_size == most else split_off(rest, train_size, seed)[1]
    test = _from_0_to_1(splits.test)
    return ImageParts(train, validation, test, splits.num_classes, splits.class_names)


def digit_parts(seed: int) -> ImageParts:
    """Scikit-learn's digits in 16x16: 1,097 training, 200 validation, 500 test images.

    Args:
        seed: of the split, which has classes in proportion.

    Returns:
        The parts.
    """
    whole = data.digits()
    small = whole["x"].reshape(-1, 8, 8, 1)
    enlarged = np.asarray(jax.image.resize(small, (len(small), 16, 16, 1), "bilinear"))
    rest, test = split_off({"image": enlarged, "label": whole["label"]}, 500, seed)
    train, validation = split_off(rest, 200, seed)
    return ImageParts(train, validation, test, 10)


def check_per_class(per_class: Sequence[int], label: np.ndarray) -> None:
    """Whether the smallest class has as many images as a distilled set is to have.

    Args:
        per_class: sizes of the set, images of each class.
        label: of the real images, ``[N]``.

    Raises:
        ValueError: if not.
    """
    most = np.bincount(label).min()
    if min(per_class) < 1 or max(per_class) > most:
        raise ValueError(
            f"per_class must be from 1 to the {most} images of the smallest class, got {per_class}."
        )


def split_off(
    part: Mapping[str, np.ndarray], size: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Splits so many random examples off, classes in proportion.

    Args:
        part: arrays with the same leading dimension, ``label`` among them.
        size: how many.
        seed: of which ones.

    Returns:
        The rest, and those examples.

    Raises:
        ValueError: if a class has fewer than two examples, or `size` is out of range.
    """
    require("sklearn")
    from sklearn.model_selection import train_test_split

    labels = part["label"]
    rows = train_test_split(
        np.arange(len(labels)), test_size=size, stratify=labels, random_state=seed
    )
    rest, taken = ({name: values[each] for name, values in part.items()} for each in rows)
    return rest, taken


def _from_0_to_1(part: Mapping) -> dict[str, np.ndarray]:
    return {"image": part["image"].astype(np.float32) / 255, "label": part["label"]}
