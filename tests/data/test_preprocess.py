"""Preprocessing against Pillow, whose bicubic resize is the one that CLIP was trained with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lnl_jax.data.preprocess import (
    CLIP_MEAN,
    CLIP_STD,
    clip_images,
    efficientnet_images,
    naflex_patches,
    resize_and_crop,
    siglip_images,
)


def by_pillow(image, size):
    height, width = image.shape[:2]
    shorter = min(height, width)
    columns, rows = size * width // shorter, size * height // shorter
    resized = Image.fromarray(image).resize((columns, rows), Image.Resampling.BICUBIC)
    left, top = round((columns - size) / 2), round((rows - size) / 2)
    return np.asarray(resized.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize("shape", [(40, 30), (13, 29), (9, 9)], ids=str)
def test_resizing_is_that_of_pillow(rng, shape):
    """Within a grey level, by which its integers differ from floating point."""
    images = rng.integers(0, 256, (2, *shape, 3), np.uint8)
    ours = np.asarray(resize_and_crop(jnp.asarray(images), size=16))
    assert ours.dtype == np.uint8
    for image, one in zip(images, ours, strict=True):
        difference = np.abs(by_pillow(image, 16).astype(int) - one.astype(int))
        assert difference.max() <= 1
        assert difference.mean() < 0.05


def test_an_image_of_the_right_size_is_kept(rng):
    images = jnp.asarray(rng.integers(0, 256, (2, 8, 8, 3), np.uint8))
    np.testing.assert_array_equal(resize_and_crop(images, size=8), images)
    wide = jnp.pad(images, ((0, 0), (0, 0), (2, 2), (0, 0)))
    np.testing.assert_array_equal(resize_and_crop(wide, size=8), images)


def test_colours_are_standardised_by_those_of_clip():
    images = jnp.broadcast_to(255 * jnp.array(CLIP_MEAN)[None, None, None], (1, 6, 5, 3))
    np.testing.assert_allclose(clip_images(images, size=3), 0, atol=1e-5)
    brighter = clip_images(images + 255 * jnp.array(CLIP_STD)[None, None, None], size=3)
    np.testing.assert_allclose(brighter, jnp.ones((1, 3, 3, 3)), atol=1e-4)


@pytest.mark.parametrize(
    ("images", "size", "message"),
    [
        (jnp.zeros((8, 8, 3)), 4, "images must be uint8 or floating point of shape"),
        (jnp.zeros((1, 8, 8, 3), jnp.int32), 4, "images must be uint8 or floating point of shape"),
        (jnp.zeros((1, 0, 8, 3)), 4, "images must be uint8 or floating point of shape"),
        (jnp.zeros((1, 8, 8, 3)), 0, "size must be an integer from 1 on, got 0"),
        (jnp.zeros((1, 8, 8, 1)), 4, "images must have three channels"),
    ],
)
def test_what_is_no_image_is_refused(images, size, message):
    with pytest.raises(ValueError, match=message):
        clip_images(images, size=size)


def test_images_for_efficientnet_run_from_about_minus_one_to_one():
    images = jnp.asarray([0, 127, 255], jnp.uint8).reshape(1, 1, 1, 3).repeat(4, 1).repeat(4, 2)
    found = efficientnet_images(images, size=2)
    np.testing.assert_array_equal(
        found, jnp.broadcast_to(jnp.array([-127 / 128, 0, 1]), (1, 2, 2, 3))
    )
    with pytest.raises(ValueError, match="images must have three channels"):
        efficientnet_images(images[..., :1], size=2)


def test_images_for_siglip_are_squares_of_the_whole_from_minus_one_to_one():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 5, 7, 3), np.uint8)
    linear = siglip_images(jnp.asarray(images), size=3, method=jax.image.ResizeMethod.LINEAR)
    pillow = np.stack(
        [
            np.asarray(Image.fromarray(image).resize((3, 3), Image.Resampling.BILINEAR))
            for image in images
        ]
    )
    np.testing.assert_allclose(linear, pillow / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize(
    ("height", "width", "most", "rows", "columns"),
    [(20, 40, 9, 2, 4), (32, 32, 256, 16, 16), (4, 400, 16, 1, 16), (30, 20, 24, 6, 4)],
)
def test_patches_for_naflex_are_as_many_as_fit_row_by_row(height, width, most, rows, columns):
    images = jnp.full((1, height, width, 3), 51, jnp.uint8)
    found = naflex_patches(images, patch_size=4, max_patches=most)
    assert found.shapes.tolist() == [[rows, columns]]
    assert found.where[0].tolist() == [True] * rows * columns + [False] * (most - rows * columns)
    np.testing.assert_allclose(found.patches[found.where], -0.6, atol=1e-6)
    assert not found.patches[~found.where].any()


def test_a_patch_for_naflex_holds_its_rows_then_columns_then_colours():
    images = jnp.arange(48, dtype=jnp.uint8).reshape(1, 4, 4, 3)
    found = naflex_patches(images, patch_size=2, max_patches=4)
    second = (jnp.float32(images[0, :2, 2:]) / 127.5 - 1).ravel()
    np.testing.assert_allclose(found.patches[0, 1], second, atol=1e-6)
