import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax.data import augment, views

KEY = jax.random.key(0)
OFF = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "probability": 1.0}
# Compiled whole, which takes less time than operation by operation.
crop = jax.jit(views.random_resized_crop, static_argnames=("scale", "ratio"))
jitter = jax.jit(views.color_jitter, static_argnames=tuple(OFF))


def gradient(size=64, side=16):
    """Images whose two channels are the row and the column of the middle of a pixel."""
    middle = jnp.arange(side) + 0.5
    grid = jnp.stack(jnp.meshgrid(middle, middle, indexing="ij"), -1)
    return jnp.broadcast_to(grid, (size, side, side, 2))


@pytest.fixture
def pictures(rng):
    return jnp.asarray(rng.uniform(60, 180, size=(6, 8, 8, 3)), jnp.float32)


def test_a_crop_is_a_part_of_the_asked_area_and_ratio_wherever_it_is():
    side = 16
    found = np.array(crop(KEY, gradient(400), scale=(0.2, 0.6), ratio=(0.5, 2.0)))
    # The steps between pixels that lie away from the edge are the sides over the old ones.
    tall = (found[:, 9, 8, 0] - found[:, 7, 8, 0]) / 2
    wide = (found[:, 8, 9, 1] - found[:, 8, 7, 1]) / 2
    area, whole = tall * wide, (tall < 1 - 1e-4) & (wide < 1 - 1e-4)
    assert whole.mean() > 0.5
    assert 0.2 - 1e-3 < area.min() < 0.25 < 0.55 < area[whole].max() < 0.6 + 1e-3
    log_ratio = np.log(wide / tall)[whole]
    assert abs(log_ratio).max() < np.log(2) + 1e-3
    assert log_ratio.min() < -0.5 < 0.5 < log_ratio.max()
    # The middle of the part, and with it the part, is inside.
    middle = (found[:, 7, 8, 0] + found[:, 8, 8, 0]) / 2
    assert (middle - tall * side / 2).min() > -1e-3
    assert (middle + tall * side / 2).max() < side + 1e-3
    assert middle.std() > 1


def test_a_crop_of_everything_is_the_image(pictures):
    np.testing.assert_allclose(
        crop(KEY, pictures, scale=(1.0, 1.0), ratio=(1.0, 1.0)), pictures, atol=1e-3
    )


@pytest.mark.slow
def test_brightness_contrast_and_saturation_are_factors(pictures):
    luma = np.array(views.LUMA)
    values = np.array(pictures)
    grey = (values @ luma)[..., None]
    middles = {
        "brightness": 0 * values,
        "contrast": 0 * values + grey.mean((1, 2), keepdims=True),
        "saturation": grey,
    }
    for name, middle in middles.items():
        found = np.array(jitter(KEY, pictures, **OFF | {name: 0.3}))
        factors = (found - middle) / (values - middle)
        mean = np.median(factors, (1, 2, 3), keepdims=True)
        np.testing.assert_allclose(found, middle + mean * (values - middle), atol=0.05)
        assert (abs(mean - 1) < 0.3 + 1e-3).all()
        assert mean.std() > 0.03


@pytest.mark.slow
def test_a_hue_turns_the_colours_and_keeps_what_is_grey_and_the_brightness(pictures):
    found = np.array(jitter(KEY, pictures, **OFF | {"hue": 0.1}))
    luma = np.array(views.LUMA)
    np.testing.assert_allclose(found @ luma, np.array(pictures) @ luma, atol=0.2)
    assert abs(found - pictures).max() > 5
    grey = jnp.repeat(pictures[..., :1], 3, -1)
    np.testing.assert_allclose(jitter(KEY, grey, **OFF | {"hue": 0.5}), grey, atol=0.3)
    # A third of a turn of red, seen by another system of colours: not far from a third.
    red = jnp.broadcast_to(jnp.array([150.0, 90, 90]), (40, 1, 1, 3))
    turned = np.array(jitter(KEY, red, **OFF | {"hue": 0.33})).reshape(-1, 3)
    hues = np.array([colorsys.rgb_to_hsv(*colour)[0] for colour in turned])
    signed = (hues + 0.5) % 1 - 0.5
    assert signed.min() < -0.25
    assert signed.max() > 0.25


def test_a_grey_image_has_the_luma_in_every_channel(pictures):
    found = views.random_grayscale(KEY, pictures, probability=1.0)
    expected = np.array(pictures) @ np.array(views.LUMA)
    for channel in range(3):
        np.testing.assert_allclose(found[..., channel], expected, rtol=1e-5)


def test_blur_is_a_mirrored_convolution_with_a_gaussian(rng):
    from scipy.ndimage import convolve1d

    images = rng.uniform(0, 255, (2, 40, 24, 1)).astype(np.float32)
    found = views.gaussian_blur(KEY, images, sigma=(1.3, 1.3), probability=1.0)
    kernel = np.exp(-np.square(np.arange(-2, 3) / 1.3) / 2)
    kernel /= kernel.sum()
    expected = convolve1d(convolve1d(images, kernel, 1, mode="mirror"), kernel, 2, mode="mirror")
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        lambda key, images, p: views.color_jitter(key, images, probability=p),
        lambda key, images, p: views.random_grayscale(key, images, probability=p),
        lambda key, images, p: views.gaussian_blur(key, images, probability=p),
    ],
)
@pytest.mark.slow
def test_as_many_images_change_as_asked(rng, change):
    images = rng.uniform(0, 255, (400, 2, 2, 3)).astype(np.float32)
    share = (np.array(change(KEY, images, 0.3)) != images).any((1, 2, 3)).mean()
    assert abs(share - 0.3) < 5 * (0.3 * 0.7 / 400) ** 0.5
    np.testing.assert_array_equal(change(KEY, images, 0.0), images)


def test_a_view_is_in_range_and_each_image_and_key_has_its_own(rng):
    images = rng.integers(0, 256, (1, 16, 16, 3)).astype(np.uint8).repeat(4, 0)
    view = jax.jit(augment.simclr_view)
    first, again, other = (np.array(view(jax.random.key(k), images)) for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (abs(first - other).max((1, 2, 3)) > 1).all()
    assert abs(first[0] - first[1]).max() > 1
    assert first.dtype == np.float32
    assert -1e-3 <= first.min() <= first.max() <= 255 + 1e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: views.random_resized_crop(KEY, x[0]), r"shape \[B, H, W, C\]"),
        (lambda x: views.random_resized_crop(KEY, x, scale=(0.5, 1.5)), "scale must be"),
        (lambda x: views.random_resized_crop(KEY, x, ratio=(2.0, 0.5)), "ratio must be"),
        (lambda x: views.color_jitter(KEY, x[..., :1]), r"shape \[B, H, W, 3\]"),
        (lambda x: views.color_jitter(KEY, x, hue=0.6), "hue must be .* at most 0.5, got 0.6"),
        (lambda x: views.color_jitter(KEY, x, contrast=-1.0), "contrast must be .*at least 0"),
        (lambda x: views.random_grayscale(KEY, x[..., :2]), r"shape \[B, H, W, 3\]"),
        (lambda x: views.gaussian_blur(KEY, x, sigma=(0.0, 1.0)), "sigma must be"),
        (lambda x: views.gaussian_blur(KEY, x, sigma=(1.0, np.inf)), "sigma must be .*got inf"),
        (lambda x: views.gaussian_blur(KEY, x, sigma=1.0), "sigma must be two numbers"),
        (lambda x: views.gaussian_blur(KEY, x, probability=np.nan), "probability must be .*nan"),
        (lambda x: views.random_grayscale(KEY, x, probability=-0.1), "probability must be .*-0.1"),
        (lambda x: views.color_jitter(KEY, x, probability=2), "probability must be .*got 2"),
        (lambda x: views.color_jitter(KEY, x, brightness=np.nan), "brightness must be .*got nan"),
        (lambda x: views.random_resized_crop(KEY, x, ratio=(1.0, np.inf)), "ratio must be .*inf"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.zeros((2, 4, 4, 3)))


@pytest.mark.slow
def test_a_view_moves_the_image_and_differs_from_the_next():
    x = jnp.zeros((200, 8, 8)).at[:, 3:5, 3:5].set(1)
    first, second = (np.array(augment.random_affine(jax.random.key(k), x)) for k in (0, 1))
    assert abs(first - second).max() > 0.3
    # The noise has mean 0 and deviation 0.1; contrast and scale have mean 1.
    np.testing.assert_allclose(first[:, 0, 0].std(), 0.1, rtol=0.2)
    np.testing.assert_allclose(first.sum((1, 2)).mean(), 4, rtol=0.1)
