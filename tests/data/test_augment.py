import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax.data import augment

MANY = 2000

# Compiled once each: that is faster than to compile their operations one by one.
random_crop = jax.jit(augment.random_crop, static_argnames="padding")
random_flip = jax.jit(augment.random_flip)
cutout = jax.jit(augment.cutout, static_argnames="size")


def pictures(*shape, dtype=np.uint8):
    """Images in which no two pixels are alike, as far as the dtype goes; none is zero."""
    values = np.arange(np.prod(shape)) % 255 + 1
    return jnp.asarray(values.reshape(shape), dtype)


WITH_KEY = {
    "random_crop": functools.partial(augment.random_crop, padding=2),
    "random_flip": augment.random_flip,
    "cutout": functools.partial(augment.cutout, size=3, fill=7),
}


@pytest.mark.parametrize("name", WITH_KEY)
def test_a_batch_follows_from_the_key_and_vmap_over_keys_is_a_loop(name):
    images, keys = pictures(5, 6, 7, 3), jax.random.split(jax.random.key(0), 3)
    each = jax.jit(lambda key: WITH_KEY[name](key, images))
    together = jax.tree.leaves(jax.jit(jax.vmap(each))(keys))
    for position, key in enumerate(keys):
        for found, expected in zip(together, jax.tree.leaves(each(key)), strict=True):
            np.testing.assert_allclose(found[position], expected, rtol=1e-6)
    # Another key, another batch.
    assert (together[0][0] != together[0][1]).any()
    assert together[0].dtype == np.uint8


# Crop and flip.


def offsets(images, cropped, padding):
    """For each image where in the padded one the crop was cut; it must be exactly one place."""
    _, height, width, _ = images.shape
    padded = np.pad(images, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    places = range(2 * padding + 1)
    found = np.array(
        [
            [
                (padded[:, row : row + height, column : column + width] == cropped).all((1, 2, 3))
                for column in places
            ]
            for row in places
        ]
    )
    assert (found.sum((0, 1)) == 1).all()
    return np.unravel_index(found.reshape(-1, len(images)).argmax(0), found.shape[:2])


def test_a_crop_is_a_part_of_the_padded_image_and_every_place_is_as_likely():
    images = np.broadcast_to(pictures(1, 5, 6, 2), (MANY, 5, 6, 2))
    cropped = random_crop(jax.random.key(0), images, padding=2)
    rows, columns = offsets(np.asarray(images), np.asarray(cropped), 2)
    counts = np.bincount(5 * rows + columns, minlength=25)
    # 80 of each are expected, with a deviation of 9.
    assert abs(counts - MANY / 25).max() < 40


def test_crops_of_a_batch_are_of_their_own_images():
    images = np.arange(40 * 36, dtype=np.float32).reshape(40, 6, 6, 1) + 1
    offsets(images, np.asarray(random_crop(jax.random.key(1), images, padding=4)), 4)


def test_half_of_the_images_are_mirrored_and_the_same_key_mirrors_them_back():
    images, key = np.broadcast_to(pictures(1, 2, 3, 2), (MANY, 2, 3, 2)), jax.random.key(0)
    found = np.asarray(random_flip(key, images))
    mirrored = (found == images[:, :, ::-1]).all((1, 2, 3))
    assert ((found == images).all((1, 2, 3)) != mirrored).all()
    # Five deviations.
    assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / MANY**0.5
    np.testing.assert_array_equal(random_flip(key, found), images)


# Cutout.


@pytest.mark.parametrize(
    ("size", "height", "width"),
    [(2, 4, 5), (3, 4, 5), pytest.param(9, 4, 5, marks=pytest.mark.slow)],
)
def test_cutout_hides_what_lies_inside_of_a_square_about_a_uniform_pixel(size, height, width):
    images = np.broadcast_to(pictures(1, height, width, 2), (MANY, height, width, 2))
    found = cutout(jax.random.key(0), images, size=size, fill=0)
    hidden = np.asarray(found) == 0
    np.testing.assert_array_equal(found, np.where(hidden, 0, images))
    np.testing.assert_array_equal(hidden[..., 0], hidden[..., 1])

    def masks(length):
        place = np.arange(length)
        return [(place >= at - size // 2) & (place < at - size // 2 + size) for at in place]

    # The frequency of every mask is that of its middles, of which each is as likely.
    expected = {}
    for rows in masks(height):
        for columns in masks(width):
            mask = (rows[:, None] & columns).tobytes()
            expected[mask] = expected.get(mask, 0) + MANY / (height * width)
    masks_found, counts = np.unique(hidden[..., 0].reshape(MANY, -1), axis=0, return_counts=True)
    found_counts = {mask.tobytes(): n for mask, n in zip(masks_found, counts, strict=True)}
    assert set(found_counts) == set(expected)
    for mask, count in found_counts.items():
        assert abs(count - expected[mask]) <= 5 * expected[mask] ** 0.5


def test_cutout_fills_with_the_value_given_or_hides_nothing():
    images = np.zeros((4, 3, 3, 1), np.float32)
    found = cutout(jax.random.key(0), images, size=7, fill=-1.5)
    np.testing.assert_array_equal(found, np.full_like(images, -1.5))
    np.testing.assert_array_equal(cutout(jax.random.key(0), images, size=0), images)


# Mixtures: the images are the one-hot rows of the examples, so the pixels show who is in them.

EXAMPLES, SIDE, DRAWS = 3, 8, 3000
OWNERS = np.broadcast_to(
    np.eye(EXAMPLES, dtype=np.float32)[:, None, None], (EXAMPLES, SIDE, SIDE, EXAMPLES)
)


def drawn(mix, alphas):
    """Mixtures for many keys and each alpha: images and targets with the leading axes [A, D]."""

    def one(key, alpha):
        return mix(key, jnp.asarray(OWNERS), jnp.eye(EXAMPLES), alpha=alpha)

    over_keys = jax.vmap(one, (0, None))
    keys = jax.random.split(jax.random.key(0), DRAWS)
    found = jax.jit(jax.vmap(over_keys, (None, 0)))(keys, jnp.array(alphas))
    return [np.asarray(values) for values in found]


def own_weights(targets):
    """The weight of the own target, of draws in which the first example has another partner."""
    own = targets[:, 0, 0]
    return own[np.abs(targets[:, 0, 1:]).max(1) > 0]


def test_mixup_averages_by_one_weight_of_its_distribution_and_a_permutation():
    alphas = [0.3, 2.0]
    images, targets = drawn(augment.mixup, alphas)
    # The image is the mixture that the targets state, in every pixel.
    expected = np.broadcast_to(targets[:, :, :, None, None], images.shape)
    np.testing.assert_allclose(images, expected, atol=1e-6)
    np.testing.assert_allclose(targets.sum(-1), 1, atol=1e-6)
    # A permutation: what all examples give away comes back to each class.
    np.testing.assert_allclose(targets.sum(-2), 1, atol=1e-6)
    for alpha, rows in zip(alphas, targets, strict=True):
        weights = own_weights(rows)
        # Two of three partners are others; the deviation is 0.009.
        assert abs(len(weights) / DRAWS - 2 / 3) < 0.05
        assert abs(weights.mean() - 1 / 2) < 0.04
        assert abs(weights.var() - 1 / (4 * (2 * alpha + 1))) < 0.015


def test_cutmix_pastes_one_box_and_weighs_the_targets_by_its_area():
    images, targets = (values[0] for values in drawn(augment.cutmix, [1.0]))
    assert set(np.unique(images)) == {0, 1}
    # The target states which part of the pixels is whose.
    np.testing.assert_allclose(images.mean((2, 3)), targets, atol=1e-6)
    np.testing.assert_allclose(targets.sum(-2), 1, atol=1e-6)
    pasted = images[:, 0, :, :, 0] == 0
    rows, columns = pasted.any(2), pasted.any(1)
    np.testing.assert_array_equal(pasted, rows[:, :, None] & columns[:, None, :])
    for side in (rows, columns):
        assert (np.abs(np.diff(side.astype(int), axis=1, prepend=0, append=0)).sum(1) <= 2).all()
    # The area aimed at is uniform, the middle too; what is outside is cut off.
    areas = []
    for part in (np.arange(2000) + 0.5) / 2000:
        side = int(SIDE * part**0.5)
        start = np.arange(SIDE) - side // 2
        areas.append(np.mean(np.minimum(start + side, SIDE) - np.maximum(start, 0)) ** 2 / SIDE**2)
    # Two of three partners are others.
    assert abs(1 - targets[:, 0, 0].mean() - 2 / 3 * np.mean(areas)) < 0.02


# Standardisation.


def test_standardised_training_images_have_mean_zero_and_deviation_one():
    images = np.random.default_rng(0).integers(0, 256, (1500, 4, 4, 3), np.uint8)
    images[..., 1] //= 3
    mean, std = augment.channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255.0).mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, (images / 255.0).std((0, 1, 2)), rtol=1e-6)
    found = np.asarray(augment.to_float(jnp.asarray(images), mean, std), np.float64)
    np.testing.assert_allclose(found.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(found.std((0, 1, 2)), 1, rtol=1e-5)
    assert augment.to_float(jnp.asarray(images), mean, std).dtype == np.float32


def test_a_constant_channel_is_shifted_only():
    images = np.full((3, 2, 2, 1), 77, np.uint8)
    mean, std = augment.channel_statistics(images)
    assert std.tolist() == [1]
    np.testing.assert_allclose(augment.to_float(jnp.asarray(images), mean, std), 0, atol=1e-7)


# Errors.


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda key: augment.random_crop(key, jnp.ones((4, 4, 3))), r"images .* got \(4, 4, 3\)"),
        (lambda key: augment.random_flip(key, jnp.ones((4, 4))), r"images .* got \(4, 4\)"),
        (lambda key: augment.cutout(key, jnp.ones(4), size=2), r"images .* got \(4,\)"),
        (lambda key: augment.random_crop(key, pictures(1, 2, 2, 1), padding=-1), "padding.* -1"),
        (lambda key: augment.cutout(key, pictures(1, 2, 2, 1), size=-1), "size.* -1"),
        (
            lambda key: augment.to_float(pictures(1, 2, 2, 3), jnp.ones(1), jnp.ones(3)),
            r"mean and std .* \(3,\) .* got \(1,\)",
        ),
        (lambda key: augment.channel_statistics(np.ones((0, 2, 2, 1))), "images .* empty"),
        (
            lambda key: augment.mixup(key, jnp.ones((2, 3)), jnp.array([0, 1]), alpha=1.0),
            r"targets .* \(2, 3\), got \(2,\): use jax.nn.one_hot",
        ),
        (
            lambda key: augment.mixup(key, jnp.ones((2, 3)), jnp.eye(2, dtype=int), alpha=1.0),
            "targets must be floating, got int32",
        ),
        (
            lambda key: augment.mixup(key, jnp.ones((2, 3)), jnp.eye(2), alpha=0),
            "alpha must be a finite number above 0, got 0",
        ),
        (
            lambda key: augment.cutmix(key, jnp.ones((2, 3)), jnp.eye(2), alpha=1.0),
            r"images .* got \(2, 3\)",
        ),
    ],
)
def test_what_does_not_fit_raises(call, text):
    with pytest.raises(ValueError, match=text):
        call(jax.random.key(0))
