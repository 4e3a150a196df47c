"""Distilled images: as they are stored, as students see them, and patches out of a folder."""

import io

import numpy as np
import pytest

from lnl_jax.distill import images, labels


@pytest.mark.slow
def test_views_are_those_of_the_drawn_geometry_whatever_is_drawn_at_once():
    rng = np.random.default_rng(0)
    pixels, classes = rng.random((6, 4, 4, 1), np.float32), np.arange(6) % 3
    views = labels.draw_views(pixels, classes, seed=5, steps=53, batch_size=3, num_classes=3)
    assert len(views.images) == len(views.mixed) == 53
    settings = {"count": 6, "batch_size": 3, "size": (4, 4), "min_area": 0.5, "flip_rate": 0.0}
    drawn = labels.draw_geometry(5, 51, alpha=1.0, **settings)
    np.testing.assert_allclose(views.images[51], labels.apply_geometry(pixels, drawn), atol=1e-6)
    np.testing.assert_allclose(
        views.mixed[51], labels.mixed_labels(classes, drawn, num_classes=3), atol=1e-6
    )


def test_images_are_seen_as_they_are_stored():
    found = images.stored_images(np.array([[[[0.1]], [[1.2]]]]), np.array([3]))
    assert found.pixels.dtype == np.uint8
    assert found.pixels.ravel().tolist() == [26, 255]
    np.testing.assert_allclose(found.images.ravel(), [26 / 255, 1])
    with np.load(io.BytesIO(found.file()), allow_pickle=False) as file:
        np.testing.assert_array_equal(file["image"], found.pixels)
        assert file["label"].tolist() == [3]
