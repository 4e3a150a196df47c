import functools

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.contrastive._shared import contrasts, of_pairs
from experiments.contrastive.isogclr_pairs import cut, isogclr_pairs
from lnl_jax import contrastive
from lnl_jax.comparison.catalogue import shapes32
from lnl_jax.runner.outputs import Artifact
from tests.experiments.contrastive.test_isogclr_digits import SETTINGS


def test_the_halves_are_the_left_and_the_right_of_the_image():
    image = np.arange(128.0).reshape(1, 8, 8, 2)
    left, right = cut(jnp.asarray(image))
    np.testing.assert_array_equal(left.reshape(8, 4, 2), image[0, :, :4])
    np.testing.assert_array_equal(right.reshape(8, 4, 2), image[0, :, 4:])


@pytest.mark.slow
def test_the_loss_of_pairs_is_the_mean_of_both_ways_without_padding(rng):
    first, second = (rng.normal(size=(5, 3)).astype(np.float32) for _ in range(2))
    first, second = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (first, second))
    rows = {side: contrastive.isogclr_table(5, 0.1).values for side in ("first", "second")}
    mask = jnp.arange(5) < 4
    loss_fn = of_pairs(contrasts(**SETTINGS)[0], lambda *_: ((first, second), ()))
    values, _ = loss_fn(None, (), rows, {"mask": mask}, None)
    ways = ((first[:4], second[:4]), (second[:4], first[:4]))
    expected = sum(contrastive.info_nce(*way, temperature=0.1) for way in ways) / 2
    np.testing.assert_allclose(values[:4], expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_halves_find_each_other_far_more_often_than_by_chance():
    outputs = list(isogclr_pairs(seeds=2, epochs=40))
    results = {o.name: o.value for o in outputs if isinstance(o, Artifact)}["results"]
    assert [line["method"] for line in results] == ["clip", "sogclr", "isogclr"]
    # By chance it is one in 359.
    for line in results:
        assert min(line["left to right %"], line["right to left %"]) > 5


@pytest.mark.slow
def test_any_set_of_images_is_cut():
    images = functools.partial(shapes32, num_train=64, num_test=40)
    outputs = list(isogclr_pairs(dataset=images, train_size=60, seeds=2, epochs=1, batch_size=32))
    found = {output.name: output.value for output in outputs if isinstance(output, Artifact)}
    assert found["history"]["left"].shape == (2, 60)
    assert "shapes32" in found["temperature_histogram"].axes[0].get_title()
