"""Statistics of a teacher: seen on the way, equal to the running ones where they must be."""

import functools

import jax
import numpy as np
import pytest
from flax import linen as nn

from lnl_jax import distill, models
from lnl_jax.models._batch_norm import BatchNorm

MODEL = models.ResNet(num_classes=3, blocks=(1, 1), width=4)


@functools.cache
def batch_and_teacher():
    """Images, and a teacher whose running statistics are exactly those of these images."""
    images = jax.random.normal(jax.random.key(0), (6, 8, 8, 3))
    variables = jax.jit(MODEL.init)(jax.random.key(1), images)
    train = jax.jit(functools.partial(MODEL.apply, train=True, mutable=["batch_stats"]))
    _, moved = train(variables, images)
    # 0.9 of the old and 0.1 of the new.
    exact = jax.tree.map(
        lambda new, old: (new - 0.9 * old) / 0.1, moved["batch_stats"], variables["batch_stats"]
    )
    return images, {"params": variables["params"], "batch_stats": exact}


@jax.jit
def gap_of(images):
    _, variables = batch_and_teacher()
    _, found, wanted = distill.images.batch_norm_statistics(MODEL, variables, images)
    return distill.images.batch_norm_gap(found, wanted)


@pytest.mark.slow
def test_a_teacher_finds_its_own_statistics_in_its_own_images():
    images, variables = batch_and_teacher()
    scores, found, wanted = distill.images.batch_norm_statistics(MODEL, variables, images)
    assert len(found) == len(wanted) == 1 + 2 + 3
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    assert float(gap_of(images)) < 1e-3
    assert float(gap_of(2 * images + 1)) > 1
    np.testing.assert_allclose(scores, MODEL.apply(variables, images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_inputs_are_those_before_the_normalisation():
    images, variables = batch_and_teacher()
    _, inputs = distill.images.batch_norm_inputs(MODEL, variables, images)
    first = variables["params"]["Conv_0"]["kernel"]
    expected = jax.lax.conv_general_dilated(
        images, first, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(inputs["BatchNorm_0"], expected, rtol=1e-4, atol=1e-4)
    assert set(inputs) == set(variables["batch_stats"])


class Nested(nn.Module):
    """A normalisation of flax's own inside a module, then one of this library."""

    @nn.compact
    def __call__(self, images):
        return BatchNorm(name="last")(Inner(name="inner")(images), train=False)


class Inner(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.BatchNorm(use_running_average=True, name="norm")(2 * images)


def test_normalisations_are_seen_inside_modules_and_none_is_named(rng):
    images = rng.normal(size=(2, 3, 4)).astype("f4")
    norm = {"scale": np.ones(4, "f4"), "bias": np.ones(4, "f4")}
    running = {"mean": np.arange(4, dtype="f4"), "var": np.full(4, 2, "f4")}
    variables = {
        collection: {"inner": {"norm": of}, "last": of}
        for collection, of in {"params": norm, "batch_stats": running}.items()
    }
    _, inputs = distill.images.batch_norm_inputs(Nested(), variables, images)
    assert list(inputs) == ["inner/norm", "last"]
    np.testing.assert_array_equal(inputs["inner/norm"], 2 * images)
    between = (2 * images - np.arange(4)) / np.sqrt(2 + 1e-5) + 1
    np.testing.assert_allclose(inputs["last"], between, rtol=1e-4, atol=1e-5)
    _, found, wanted = distill.images.batch_norm_statistics(Nested(), variables, images)
    for (mean, var), values in zip(found, (2 * images, between), strict=True):
        np.testing.assert_allclose(mean, values.mean((0, 1)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(var, values.var((0, 1)), rtol=1e-4, atol=1e-5)
    for mean, var in wanted:
        np.testing.assert_array_equal((mean, var), (running["mean"], running["var"]))
    kernel = {"params": {"kernel": np.ones((4, 2), "f4")}}
    with pytest.raises(ValueError, match="must have batch normalisations, Dense has none"):
        distill.images.batch_norm_inputs(nn.Dense(2, use_bias=False), kernel, images)
