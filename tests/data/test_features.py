"""Features that are computed once: gone on with, read again, and not mistaken for others."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax.data import Tower, embed
from lnl_jax.data.preprocess import siglip_images

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), np.uint8)
SIZE = 4
WEIGHTS = np.random.default_rng(1).normal(size=(48, 5)).astype(np.float32)


def scaled(images, *, size):
    return siglip_images(images, size=size)


def applied(weights, images):
    if images.shape[1:3] != (SIZE, SIZE):
        raise ValueError(f"images must be of {SIZE} pixels; resize them.")
    return images.reshape(len(images), -1) @ weights


TOWER = Tower("linear", applied, WEIGHTS, scaled)
EXPECTED = (IMAGES.reshape(7, -1) / 127.5 - 1) @ WEIGHTS


class Interrupted(Exception):
    """Stands for a kill."""


class Images:
    """An array that counts what is read of it, and breaks after a number of reads of rows."""

    def __init__(self, allowed=1000):
        self.allowed, self.read = allowed, []
        self.dtype, self.shape, self.ndim = IMAGES.dtype, IMAGES.shape, IMAGES.ndim

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, rows):
        self.read.append((rows.start, rows.stop))
        if len(self.read) > self.allowed:
            raise Interrupted
        return IMAGES[rows]


def test_features_are_those_of_each_image_whatever_the_batch():
    for batch_size in (3, 7, 100):
        found = embed(TOWER, IMAGES, SIZE, batch_size=batch_size)
        np.testing.assert_allclose(found, EXPECTED, rtol=1e-5, atol=1e-5)
        assert found.dtype == np.float32


def test_a_second_call_reads_the_file_and_computes_nothing(tmp_path):
    first = embed(TOWER, IMAGES, SIZE, cache=tmp_path / "f.npz", batch_size=3)

    def never(weights, images):
        assert isinstance(images, jax.core.Tracer)
        jax.debug.callback(pytest.fail, "computed")
        return applied(weights, images)

    again = embed(TOWER._replace(apply=never), IMAGES, SIZE, cache=tmp_path / "f.npz")
    np.testing.assert_array_equal(again, first)
    assert [file.name for file in tmp_path.iterdir()] == ["f.npz"]


def test_an_interrupted_call_goes_on_where_it_stopped(tmp_path):
    cache = tmp_path / "f.npz"
    # One read for the fingerprint, two batches, and a third that breaks.
    with pytest.raises(Interrupted):
        embed(TOWER, Images(allowed=3), SIZE, cache=cache, batch_size=2)
    assert not cache.exists()
    with (tmp_path / "f.npz.part").open("ab") as file:
        file.write(b"half a row")
    images = Images()
    found = embed(TOWER, images, SIZE, cache=cache, batch_size=2)
    assert images.read[1:] == [(4, 6), (6, 8)]
    np.testing.assert_array_equal(found, embed(TOWER, IMAGES, SIZE, batch_size=2))
    assert not (tmp_path / "f.npz.part").exists()


def other_preprocessing(images, *, size):
    return scaled(images, size=size)


OTHERS = {
    "tower": (TOWER._replace(name="other"), IMAGES, SIZE, "tower linear and not other;"),
    "weights": (TOWER._replace(variables=WEIGHTS + 1), IMAGES, SIZE, r"weights \w{16} and not"),
    "images": (TOWER, IMAGES[::-1], SIZE, r"images \w{16} and not"),
    "size": (TOWER._replace(apply=lambda w, x: x[:, 0, 0] @ w[:3]), IMAGES, 5, "size 4 and not 5;"),
    "preprocessing": (
        TOWER._replace(preprocess=other_preprocessing),
        IMAGES,
        SIZE,
        "preprocessing scaled and not other_preprocessing;",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_features_of_something_else_are_refused_and_say_what_differs(tmp_path, case):
    tower, images, size, message = OTHERS[case]
    cache = tmp_path / "f.npz"
    with pytest.raises(Interrupted):
        embed(TOWER, Images(allowed=2), SIZE, cache=cache, batch_size=2)
    with pytest.raises(ValueError, match=rf"f\.npz\.part holds features of other.*{message}"):
        embed(tower, images, size, cache=cache)
    embed(TOWER, IMAGES, SIZE, cache=cache)
    with pytest.raises(ValueError, match=rf"f\.npz holds features of other data.*{message}"):
        embed(tower, images, size, cache=cache)


def test_files_that_hold_no_features_are_refused(tmp_path):
    cache = tmp_path / "f.npz"
    np.savez(cache, x_train=IMAGES)
    with pytest.raises(ValueError, match="does not hold features and their fingerprint"):
        embed(TOWER, IMAGES, SIZE, cache=cache)
    embed(TOWER, IMAGES, SIZE, cache=tmp_path / "g.npz")
    with np.load(tmp_path / "g.npz") as file:
        arrays = dict(file)
    assert json.loads(str(arrays["fingerprint"]))["size"] == "4"
    np.savez(cache, **arrays | {"features": arrays["features"][:3]})
    with pytest.raises(ValueError, match=r"features of shape \(3, 5\) and not \(7, 5\)"):
        embed(TOWER, IMAGES, SIZE, cache=cache)
    (tmp_path / "h.npz.part").write_bytes(bytes(range(200)))
    with pytest.raises(ValueError, match=r"h\.npz\.part does not begin with a fingerprint"):
        embed(TOWER, IMAGES, SIZE, cache=tmp_path / "h.npz")
    cache.write_bytes(cache.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"f\.npz is no \.npz file or is broken"):
        embed(TOWER, IMAGES, SIZE, cache=cache)


BAD = [
    ({"size": 3}, "linear does not take images of uint8 and the shape .* at size=3: images must"),
    ({"size": 0}, "size must be an integer from 1 on"),
    ({"batch_size": 0}, "batch_size must be an integer from 1 on"),
    ({"images": IMAGES[:0]}, r"images must have the shape \[N, H, W, C\], N from 1 on"),
    ({"images": [1, 2]}, r"images must have the shape \[N, H, W, C\], N from 1 on, got list"),
    ({"images": IMAGES[..., :1]}, "images must have three channels"),
    ({"cache": "no/such/folder/f.npz"}, r"cache must be an \.npz file in a folder that exists"),
    ({"cache": "f.npy"}, r"cache must be an \.npz file in a folder that exists"),
    ({"tower": TOWER._replace(apply=lambda w, x: x)}, r"linear must give features \[B, D\]"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_arguments_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message) as error:
        embed(**{"tower": TOWER, "images": IMAGES, "size": SIZE} | changes)
    assert "\n" not in str(error.value)


def test_variables_are_of_any_tree_and_any_dtype(tmp_path):
    variables = {"a": [jnp.ones((), jnp.bfloat16)]}
    tower = Tower("tree", lambda v, x: x.mean((1, 2)) * v["a"][0].astype("f4"), variables, scaled)
    assert embed(tower, IMAGES, SIZE, cache=tmp_path / "f.npz").shape == (7, 3)
