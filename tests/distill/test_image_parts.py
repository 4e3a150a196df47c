"""Real images in three parts that share nothing."""

import numpy as np
import pytest

from lnl_jax import data
from lnl_jax.distill.images import check_per_class, digit_parts, image_parts


def splits(size):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (size, 4, 4, 3), np.uint8)
    part = {"image": image, "label": np.arange(size, dtype=np.int32) % 5}
    return data.Splits(part, {name: values[:30] for name, values in part.items()}, 5)


@pytest.mark.parametrize("train_size", [50, 80])
def test_parts_share_no_image_and_keep_the_classes_in_proportion(train_size):
    parts = image_parts(splits(100), seed=1, train_size=train_size, validation_size=20)
    assert [len(part["label"]) for part in parts[:3]] == [train_size, 20, 30]
    assert parts.image_shape == (4, 4, 3)
    development = np.concatenate([parts.train["image"], parts.validation["image"]])
    assert len(np.unique(development.reshape(len(development), -1), axis=0)) == train_size + 20
    assert np.ptp(np.bincount(parts.train["label"])) == 0
    assert 0 <= development.min() < 0.01 < 0.99 < development.max() <= 1


@pytest.mark.parametrize("train_size", [4, 81])
def test_more_training_images_than_there_are_is_an_error(train_size):
    with pytest.raises(ValueError, match="train_size must be from 5 to 80"):
        image_parts(splits(100), seed=0, train_size=train_size, validation_size=20)


def test_parts_share_no_image_and_have_the_sizes_that_are_said():
    parts = digit_parts(0)
    assert [len(part["image"]) for part in parts[:3]] == [1097, 200, 500]
    whole = np.concatenate([part["image"].reshape(-1, 256) for part in parts[:3]])
    assert len(np.unique(whole, axis=0)) == 1797
    for part in parts[:3]:
        share = np.bincount(part["label"]) / len(part["label"])
        np.testing.assert_allclose(share, 0.1, atol=0.01)


@pytest.mark.parametrize("per_class", [(0,), (1, 4)])
def test_a_set_of_more_images_than_a_class_has_is_refused(per_class):
    labels = np.repeat(np.arange(3), [5, 3, 4])
    check_per_class((1, 3), labels)
    with pytest.raises(ValueError, match="per_class must be from 1 to the 3 images of the small"):
        check_per_class(per_class, labels)
