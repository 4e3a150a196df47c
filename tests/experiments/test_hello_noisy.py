"""Foundation models without captions, and projectors from noisy labels, in a tiny run."""

import jax
import numpy as np
import pytest

from experiments.contrastive_foundation import contrastive_batches, mean_words, moved
from experiments.hello_noisy import COMPARED, FOUNDATIONS, hello_noisy
from experiments.outputs import Artifact, Checkpoint, Resume
from tests.experiments.snapshots import on_the_host

TINY = {"foundation_steps": 2, "contrastive_steps": 2, "projector_steps": 2, "seeds": 2}


def call(**arguments):
    rows, states, tables = [], [], {}
    for output in hello_noisy(**arguments):
        if isinstance(output, dict):
            rows.append(output)
        elif isinstance(output, Checkpoint):
            states.append(on_the_host(output.state))
        else:
            assert isinstance(output, Artifact)
            tables[output.name] = output.value
    return rows, states, tables


@pytest.mark.slow
def test_a_run_fills_its_table_and_an_interrupted_one_ends_alike():
    rows, states, tables = call(**TINY)
    found = [(line["foundation"], line["projector"], line["loss"]) for line in tables["results"]]
    trained = [line for line in found if line[1] != "zero-shot"]
    assert len(set(trained)) == len(trained) == len(FOUNDATIONS) * 2 * len(COMPARED)
    assert len(found) == len(trained) + len(FOUNDATIONS)
    resume = Resume(rows[:4], lambda like: jax.tree.map(lambda _, leaf: leaf, like, states[3]))
    more, _, again = call(**TINY, resume=resume)
    assert more == rows[4:]
    assert again == tables


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": 1}, "seeds must be from 2"),
        ({"noise_rate": 1.5}, "noise_rate must be from 0 to 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"rank": 0}, "rank must be from 1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        next(hello_noisy(**arguments))
