"""Maps of a tower at each depth: means over cells, noise on them, and what a receiver gets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import models
from lnl_jax.comparison import depths
from lnl_jax.data import preprocess

SIZE = 16
TINY = models.EfficientNetLite(None, stages=((1, 3, 1, 1, 4), (2, 3, 2, 2, 6)), stem=4, top=8)


@pytest.fixture(scope="module")
def tower():
    variables = jax.jit(TINY.init)(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))
    return variables, np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 3), np.uint8)


def test_every_depth_is_what_the_tower_goes_on_from(tower):
    variables, images = tower
    inputs = preprocess.efficientnet_images(jnp.asarray(images), size=SIZE)
    places = depths.depths_of(TINY, SIZE, columns=40)
    names = [depth.name for depth in places]
    assert names == ["image", "block 0", "block 1", "block 2", "features"]
    assert [(depth.side, depth.channels) for depth in places] == [
        (16, 3),
        (8, 4),
        (4, 6),
        (4, 6),
        (1, 8),
    ]
    reading = depths.depth_tower(TINY, variables, preprocess.efficientnet_images, places)
    kept = np.asarray(jax.jit(reading.apply)(variables, inputs))
    parts = depths.split_depths(kept, places)
    until = jax.jit(TINY.apply, static_argnames=("block", "method"))
    for block in range(3):
        values = np.asarray(until(variables, inputs, block=block + 1, method="until"))
        one = parts[1 + block]
        np.testing.assert_allclose(one.x, cells_of(values, one.depth.cells), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(one.deviation, values.std(), rtol=1e-3)
    features = jax.jit(TINY.apply)(variables, inputs)
    np.testing.assert_allclose(parts[-1].x, features, rtol=1e-4, atol=1e-5)


def cells_of(values, count):
    """Means over cells as equal as whole rows and columns allow."""
    edges = np.round(np.linspace(0, values.shape[1], count + 1)).astype(int)
    found = [
        values[:, a:b, c:d].mean((1, 2))
        for a, b in zip(edges, edges[1:], strict=False)
        for c, d in zip(edges, edges[1:], strict=False)
    ]
    return np.concatenate(found, -1)


def test_noise_of_a_mean_is_that_of_the_mean_of_noisy_values(rng):
    depth = depths.Depth("block 0", side=5, channels=2, cells=2)
    values = rng.normal(size=(4000, 5, 5, 2))
    columns = depths.DepthColumns(depth, np.zeros((4000, 8), np.float32), 3.0)
    found = depths.noisy_columns(columns, 2.0, rng, same=False)
    np.testing.assert_allclose(found.std(0), 6 * cells_of(values, 2).std(0), rtol=0.08)
    np.testing.assert_allclose(found.mean(0), 0, atol=0.2)
    shift = depths.noisy_columns(columns, 2.0, rng, same=True)
    assert not np.ptp(shift, axis=0).any()
    assert np.ptp(shift[0]) > 0


@pytest.mark.slow
def test_noise_that_is_taken_off_leaves_rounding_alone(tower):
    variables, images = tower
    formats = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
    follow = depths.sent_and_received(TINY, 1, SIZE, formats)
    found = follow(variables, images, 8.0, jax.random.key(0))
    inputs = preprocess.efficientnet_images(jnp.asarray(images), size=SIZE)
    whole = TINY.apply(variables, inputs)
    np.testing.assert_allclose(found["without"], whole, rtol=1e-4, atol=1e-5)
    error = {name: np.abs(values - whole).max() for name, values in found.items()}
    assert 0 < error["off, float32"] < 1e-4 < error["off, bfloat16"] < error["left"]
