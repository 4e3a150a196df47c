import itertools

import numpy as np
import pytest

from lnl_jax.data.shapes32 import BLOCK, SHAPES, TEXTURES, shapes32


@pytest.fixture(scope="module")
def ten():
    return shapes32(num_train=1000, num_test=400)


@pytest.mark.parametrize("num_classes", [10, 100])
def test_labels_are_balanced_for_any_number_of_images(num_classes):
    splits = shapes32(num_classes=num_classes, num_train=BLOCK + 37, num_test=23)
    assert (splits.num_classes, len(set(splits.class_names))) == (num_classes, num_classes)
    assert splits.generated
    for part, size in ((splits.train, BLOCK + 37), (splits.test, 23)):
        counts = np.bincount(part["label"], minlength=num_classes)
        assert (counts.sum(), len(counts)) == (size, num_classes)
        assert counts.max() - counts.min() <= 1
        np.testing.assert_array_equal(part["index"], np.arange(size))
        assert part["image"].shape == (size, 32, 32, 3)
        dtypes = [part[name].dtype for name in ("image", "label", "index")]
        assert dtypes == [np.uint8, np.int32, np.int32]


def test_labels_are_in_random_order(ten):
    label = ten.train["label"].reshape(-1, 10)
    assert len(np.unique(label, axis=0)) > 95
    assert all(len(set(column)) == 10 for column in label.T)


def test_the_first_images_do_not_depend_on_the_number(ten):
    fewer = shapes32(num_train=30, num_test=20)
    for part, whole in ((fewer.train, ten.train), (fewer.test, ten.test)):
        for name in part:
            np.testing.assert_array_equal(part[name], whole[name][: len(part["label"])])


def test_images_follow_from_the_seed_and_no_two_are_alike(ten):
    other = shapes32(num_train=400, num_test=200, seed=1)
    every = [ten.train["image"], ten.test["image"], other.train["image"], other.test["image"]]
    flat = np.concatenate(every).reshape(2000, -1)
    assert len(np.unique(flat, axis=0)) == 2000


# What the generator drew when it was written. Sums, so that a last bit in one pixel of a new
# platform is no failure, but another stream of random numbers or another picture is.
@pytest.mark.parametrize(
    ("num_classes", "labels", "mean", "std"),
    [
        (10, [8, 0, 7, 4, 2, 9, 5, 1], [95.63, 92.58, 95.67], [53.76, 50.90, 49.62]),
        (100, [19, 84, 85, 97, 70, 66, 45, 55], [94.18, 96.48, 98.05], [51.41, 52.25, 51.41]),
    ],
)
def test_a_seed_gives_the_images_it_always_gave(num_classes, labels, mean, std):
    splits = shapes32(num_classes=num_classes, num_train=100, num_test=1)
    assert splits.train["label"][:8].tolist() == labels
    images = splits.train["image"]
    np.testing.assert_allclose(images.mean((0, 1, 2)), mean, atol=0.01)
    np.testing.assert_allclose(images.std((0, 1, 2)), std, atol=0.01)


# Difficulty.


def test_pixels_tell_of_the_class_but_not_all_by_a_linear_rule(ten):
    def pixels(part):
        images = part["image"].astype(np.float32)
        return (images - images.mean((1, 2), keepdims=True)).reshape(len(images), -1)

    train, test = pixels(ten.train), pixels(ten.test)
    means = np.stack([train[ten.train["label"] == label].mean(0) for label in range(10)])
    # The nearest mean, which is linear in the pixels.
    scores = 2 * test @ means.T - np.square(means).sum(1)
    accuracy = (scores.argmax(1) == ten.test["label"]).mean()
    assert 0.5 < accuracy < 0.7


def test_colour_and_brightness_say_nothing_of_the_texture_of_a_class():
    splits = shapes32(num_classes=100, num_train=2000, num_test=1)
    colours = splits.train["image"].mean((1, 2))
    of_texture = np.stack([colours[splits.train["label"] % 10 == t].mean(0) for t in range(10)])
    # Deviations of a mean over 200 images, each about 40 wide.
    assert np.abs(of_texture - colours.mean(0)).max() < 4 * 40 / 200**0.5


# The figures: on a fine grid, against their closed forms.

FINE = np.linspace(-1.5, 1.5, 601, dtype=np.float32)
X, Y = np.meshgrid(FINE, FINE)
FIGURES = {name: shape(X, Y) < 0 for name, shape in SHAPES.items()}
AREAS = {
    "disc": np.pi * 0.9**2,
    "ring": np.pi * (0.9**2 - 0.5**2),
    "square": 1.5**2,
    "triangle": 3 * 3**0.5 * 0.5**2,
    "cross": 2 * 1.8 * 0.5 - 0.5**2,
    "bars": 2 * 1.6 * 0.44,
}


@pytest.mark.parametrize("name", AREAS)
def test_the_area_of_a_shape_is_its_closed_form(name):
    step = 3 / 600
    assert FIGURES[name].sum() * step**2 == pytest.approx(AREAS[name], rel=0.02)


def test_shapes_are_different_and_fit_in_their_circle_but_for_corners():
    for name, figure in FIGURES.items():
        assert 0.04 < figure.mean() < 0.4, name
        assert np.hypot(X, Y)[figure].max() < 1.21, name
    for one, other in itertools.combinations(FIGURES.values(), 2):
        assert (one & other).sum() < 0.85 * (one | other).sum()


def test_textures_are_different_mixtures_of_two_colours():
    patterns = {name: texture(2 * X, 2 * Y) for name, texture in TEXTURES.items()}
    for name, pattern in patterns.items():
        assert (pattern.min(), pattern.max()) == (0, 0 if name == "plain" else 1), name
    for one, other in itertools.combinations(patterns.values(), 2):
        assert np.abs(one - other).mean() > 0.1


# Errors.


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"num_classes": 20}, "num_classes must be 10 or 100, got 20"),
        ({"num_train": 0}, "num_train must be an integer from 1 on, got 0"),
        ({"num_test": -3}, "num_test must be an integer from 1 on, got -3"),
    ],
)
def test_impossible_numbers_raise(keywords, text):
    with pytest.raises(ValueError, match=text):
        shapes32(**keywords)
