"""The convolution for CPU against XLA's own, whose weight gradient it replaces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lnl_jax.models._convolution import LAYOUT, convolution, convolve

CASES = [  # size, stride, rows, columns, channels in, channels out
    (3, 1, 8, 8, 3, 4),
    (3, 2, 8, 8, 2, 3),
    (3, 2, 7, 9, 2, 3),
    (1, 1, 5, 6, 3, 2),
    (1, 2, 7, 8, 3, 2),
    (3, 2, 1, 2, 2, 2),
    (5, 1, 6, 7, 2, 2),
]


def plain(inputs, kernel, strides, padding):
    return jax.lax.conv_general_dilated(inputs, kernel, strides, padding, dimension_numbers=LAYOUT)


def problem(rng, size, stride, rows, columns, channels, features):
    inputs = jnp.asarray(rng.normal(size=(3, rows, columns, channels)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(size, size, channels, features)), jnp.float32)
    return inputs, kernel, (stride, stride), ((size // 2,) * 2,) * 2


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_are_those_of_xla(rng, case):
    inputs, kernel, *options = problem(rng, *case)
    value, gradients = jax.vjp(lambda x, w: convolve(x, w, *options), inputs, kernel)
    expected, expected_gradients = jax.vjp(lambda x, w: plain(x, w, *options), inputs, kernel)
    np.testing.assert_array_equal(value, expected)
    cotangent = jnp.asarray(rng.normal(size=value.shape), jnp.float32)
    for ours, xlas in zip(gradients(cotangent), expected_gradients(cotangent), strict=True):
        np.testing.assert_allclose(ours, xlas, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_a_gradient_is_that_of_xla(rng):
    """As matching of gradients needs it, in dataset distillation."""
    inputs, kernel, *options = problem(rng, *CASES[2])

    def length(conv, inputs):
        def energy(kernel):
            return jnp.tanh(conv(inputs, kernel, *options)).sum()

        return jnp.square(jax.grad(energy)(kernel)).sum()

    ours, xlas = (jax.grad(lambda x, c=conv: length(c, x))(inputs) for conv in (convolve, plain))
    np.testing.assert_allclose(ours, xlas, rtol=1e-4, atol=1e-4)


def test_a_weight_gradient_in_bfloat16_is_summed_in_float32():
    inputs = jnp.ones((4, 32, 32, 1), jnp.bfloat16)
    kernel = jnp.zeros((1, 1, 1, 1), jnp.bfloat16)
    options = (1, 1), ((0, 0), (0, 0))
    gradient = jax.grad(lambda w: convolve(inputs, w, *options).astype(jnp.float32).sum())(kernel)
    assert gradient.dtype == jnp.bfloat16
    assert gradient.item() == 4096


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (1, 2)])
def test_the_layer_is_that_of_flax(rng, size, stride):
    """Same parameters from the same key, same scores."""
    ours = convolution(4, size, stride, jnp.float32)
    flaxs = nn.Conv(
        4,
        (size, size),
        stride,
        padding=size // 2,
        use_bias=False,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
    )
    images = jnp.asarray(rng.normal(size=(2, 7, 8, 3)), jnp.float32)
    variables, expected = (layer.init(jax.random.key(0), images) for layer in (ours, flaxs))
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
    np.testing.assert_array_equal(ours.apply(variables, images), flaxs.apply(variables, images))
    assert ours.apply(variables, images).shape[1:3] == (-(-7 // stride), -(-8 // stride))


def test_kernels_are_normal_with_the_deviation_of_he():
    layer = convolution(128, 3, 1, jnp.float32)
    kernel = layer.init(jax.random.key(0), jnp.zeros((1, 1, 1, 64)))["params"]["kernel"]
    np.testing.assert_allclose(kernel.std(), (2 / (9 * 128)) ** 0.5, rtol=0.01)
    np.testing.assert_allclose((jnp.abs(kernel) > 2 * kernel.std()).mean(), 0.0455, rtol=0.05)
