"""Small foundation models: the strange domain that they learn, and words without captions."""

import numpy as np

from lnl_jax.distill.projectors import mean_words, shifted_batches
from lnl_jax.distill.projectors._contrastive_foundation import contrastive_batches, moved


def test_the_strange_domain_is_inverted_noisy_and_wrongly_captioned():
    part = {"image": np.full((2000, 16, 16, 1), 0.2, np.float32), "label": np.arange(2000) % 10}
    batches = shifted_batches(part, seed=0, steps=20, num_classes=10)
    means = batches["images"].mean((2, 3, 4))
    inverted = means > 0.5
    np.testing.assert_allclose(inverted.mean(), 0.5, atol=0.05)
    np.testing.assert_allclose(means, np.where(inverted, 0.8, 0.2), atol=0.08)
    np.testing.assert_allclose(batches["images"].std((2, 3, 4)).mean(), 0.25, atol=0.01)


def test_a_part_of_the_captions_is_wrong_for_ever():
    size = 500
    part = {"image": np.zeros((size, 1, 1, 1), np.float32), "label": np.arange(size) % 10}
    part["image"][:, 0, 0, 0] = 1000 * np.arange(size)  # noise and inversion leave it readable
    batches = shifted_batches(part, seed=3, steps=100, num_classes=10)
    pixels = batches["images"][..., 0, 0, 0]
    rows = np.round(np.abs(pixels) / 1000).astype(int)
    captions = batches["captions"]
    wrong = captions != part["label"][rows]
    np.testing.assert_allclose(wrong.mean(), 0.3, atol=0.06)
    for row in range(20):
        assert len(np.unique(captions[rows == row])) == 1


def test_both_views_of_a_batch_show_the_same_image_and_no_image_comes_twice():
    size = 70
    images = np.zeros((size, 16, 16, 1), np.float32)
    images[:, 8, 8, 0] = 1000 * np.arange(1, size + 1)  # neither noise nor inversion hides it
    batches = contrastive_batches({"image": images}, seed=0, steps=3)
    shown = np.round(np.abs(batches["views"]).max((3, 4, 5)) / 1000).astype(int) - 1
    np.testing.assert_array_equal(shown[:, 0], batches["index"])
    np.testing.assert_array_equal(shown[:, 1], batches["index"])
    assert all(len(np.unique(index)) == len(index) for index in batches["index"])


def test_images_move_by_at_most_two_pixels_either_way():
    images = np.zeros((400, 7, 7, 1), np.float32)
    images[:, 3, 3] = 1
    places = np.argwhere(moved(images, np.random.default_rng(0))[..., 0])
    assert len(places) == 400
    assert set(map(tuple, places[:, 1:] - 3)) == {
        (down, right) for down in range(-2, 3) for right in range(-2, 3)
    }


def test_words_are_unit_means_of_unit_features():
    images = np.array([[3.0, 0.0], [0.0, 2.0], [0.0, 5.0]], np.float32)
    images = np.concatenate([images, np.ones((9, 2), np.float32)])
    captions = np.array([0, 0, 1, *range(1, 10)])
    words = mean_words(lambda images: images, images, captions, 10)
    half = 0.5**0.5
    np.testing.assert_allclose(words[:, 0], [half, half], rtol=1e-6)
    mean = np.array([half, 1 + half])
    np.testing.assert_allclose(words[:, 1], mean / np.linalg.norm(mean), rtol=1e-6)
    np.testing.assert_allclose(words[:, 2], [half, half], rtol=1e-6)
