"""Distilled images: the crops that score best, where the grid puts them; gaps of statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import distill


def test_a_grid_has_good_and_less_good_patches_in_every_image():
    ranks = np.arange(8.0).reshape(8, 1, 1, 1) * np.ones((8, 2, 2, 1))
    images = distill.images.stitch(ranks, 2, 2)
    assert images.shape == (2, 4, 4, 1)
    # Image j, cell k: patch k * 2 + j, the cells row by row.
    assert images[0, ::2, ::2, 0].tolist() == [[0, 2], [4, 6]]
    assert images[1, ::2, ::2, 0].tolist() == [[1, 3], [5, 7]]


@pytest.mark.slow
def test_patches_are_the_ones_with_the_smallest_losses():
    brightness = np.repeat(np.arange(12.0), 2).reshape(24, 1, 1, 1) / 12
    images = (brightness * np.ones((24, 4, 4, 1))).astype(np.float32)
    labels = np.tile([0, 1], 12)

    def score(images, labels):
        return jnp.abs(images.mean((1, 2, 3)) - 0.5)

    found, classes = distill.images.patch_selection(score, images, labels, 3, jax.random.key(0))
    assert classes.tolist() == [0, 0, 0, 1, 1, 1]
    # Crops of constant images are constant: 6/12 is best, then 5/12 and 7/12.
    for part in (found[:3], found[3:]):
        np.testing.assert_allclose(part[0], 0.5, rtol=1e-5)
        np.testing.assert_allclose(np.sort(part[1:, 0, 0, 0]), [5 / 12, 7 / 12], rtol=1e-5)
    with pytest.raises(ValueError, match="to the 12 images"):
        distill.images.patch_selection(score, images, labels, 4, jax.random.key(0), factor=2)
    with pytest.raises(ValueError, match="to the 12 images of class 0, got 13"):
        distill.images.random_images(labels, 13, np.random.default_rng(0))


def test_pruning_keeps_whole_easy_images(rng):
    images = rng.normal(size=(10, 4, 4, 1)).astype(np.float32)
    found, classes = distill.images.prune_and_combine(
        np.arange(10)[::-1], images, np.repeat([0, 1], 5), 1, factor=2
    )
    assert classes.tolist() == [0, 1]
    # The easiest of the first class is image 4, in the upper left, each pixel the mean of four.
    expected = images[4].reshape(2, 2, 2, 2, 1).mean((1, 3))
    np.testing.assert_allclose(found[0, :2, :2], expected, rtol=1e-5)
    boxes = distill.images.tile_boxes(
        jax.random.key(0), jnp.tile(jnp.array([0.25, 0.5, 0.75, 0.5]), (50, 1)), factor=2
    )
    tile = np.floor(np.asarray(boxes[:, :2]) * 2)
    np.testing.assert_allclose(boxes[:, :2] * 2 - tile, np.tile([0.25, 0.5], (50, 1)))
    assert {tuple(row) for row in tile} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    np.testing.assert_allclose(boxes[:, 2:], np.tile([0.375, 0.25], (50, 1)))


def test_the_gap_is_of_norms_and_flat_where_there_is_none():
    found = [(jnp.array([3.0, 0]), jnp.array([1.0, 5])), (jnp.zeros(1), jnp.ones(1))]
    wanted = [(jnp.array([0.0, 4]), jnp.array([1.0, 5])), (jnp.zeros(1), jnp.array([3.0]))]
    assert float(distill.images.batch_norm_gap(found, wanted)) == pytest.approx(10 * 5 + 2)
    gradient = jax.grad(lambda found: distill.images.batch_norm_gap(found, wanted))(wanted)
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
def test_recovery_reaches_statistics_and_stays_in_range():
    def objective(images, key, step):
        return distill.images.batch_norm_gap(
            [(images.mean((0, 1, 2)), images.var((0, 1, 2)))],
            [(jnp.array([0.4]), jnp.array([0.04]))],
        )

    images = distill.images.recover(
        objective, (2, 4, 4, 1), jax.random.key(0), steps=200, learning_rate=0.05
    )
    assert images.min() >= 0
    assert images.max() <= 1
    np.testing.assert_allclose([images.mean(), images.var()], [0.4, 0.04], atol=0.01)


@pytest.mark.slow
def test_the_image_update_keeps_what_the_features_see(rng):
    images = jnp.asarray(rng.uniform(size=(2, 4, 4, 1)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(16, 3)), jnp.float32)

    def encode(images):
        return images.reshape(len(images), -1) @ kernel

    blurred = distill.images.image_update(encode, images, steps=0)
    updated = distill.images.image_update(encode, images, steps=200, learning_rate=0.05)
    before, after = (
        float(jnp.square(encode(found) - encode(images)).mean()) for found in (blurred, updated)
    )
    assert after < 0.01 * before
