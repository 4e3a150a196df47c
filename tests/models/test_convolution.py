"""The layer that all networks of images are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax.models._convolution import convolution


@pytest.mark.parametrize("stride", [1, 2])
def test_a_window_is_centred_on_its_pixel_and_zeros_surround_the_image(stride):
    """As PyTorch's ``Conv2d(padding=1)``; flax's "SAME" begins a stride of 2 at the second row."""
    images = jnp.arange(1.0, 43).reshape(1, 6, 7, 1)
    layer = convolution(1, 3, stride, jnp.float32)
    kernel = np.arange(9, dtype=np.float32).reshape(3, 3, 1, 1)
    found = layer.apply({"params": {"kernel": kernel}}, images)[0, :, :, 0]
    padded = np.pad(images[0, :, :, 0], 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))[::stride, ::stride]
    np.testing.assert_array_equal(found, (windows * kernel[:, :, 0, 0]).sum((2, 3)))
    assert found.shape == (-(-6 // stride), -(-7 // stride))


def test_kernels_are_normal_with_the_deviation_of_he():
    layer = convolution(128, 3, 1, jnp.float32)
    kernel = layer.init(jax.random.key(0), jnp.zeros((1, 1, 1, 64)))["params"]["kernel"]
    np.testing.assert_allclose(kernel.std(), (2 / (9 * 128)) ** 0.5, rtol=0.01)
    np.testing.assert_allclose((jnp.abs(kernel) > 2 * kernel.std()).mean(), 0.0455, rtol=0.05)
