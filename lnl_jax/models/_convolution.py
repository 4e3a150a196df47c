"""Square convolutions, with a weight gradient that is fast on CPU."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

LAYOUT = ("NHWC", "HWIO", "NHWC")
Padding = Sequence[tuple[int, int]]

# He normal over the outgoing connections, as `kaiming_normal_(mode="fan_out")`; not truncated.
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def convolution(features: int, size: int, stride: int, dtype: Any) -> nn.Conv:
    """A layer without a bias for ``[B, H, W, C]``, padded with ``size // 2`` zeros on each side.

    An image of H rows becomes one of ``ceil(H / stride)``, as in PyTorch's networks; "SAME" of
    flax would pad the strided ones on one side only.
    """
    on_cpu = jax.default_backend() == "cpu"
    return nn.Conv(
        features,
        (size, size),
        stride,
        padding=size // 2,
        use_bias=False,
        dtype=dtype,
        kernel_init=he_normal,
        conv_general_dilated=_by_products if on_cpu else None,
    )


def _by_products(
    inputs: Array, kernel: Array, strides: Sequence[int], padding: Padding, **defaults: Any
) -> Array:
    """`jax.lax.conv_general_dilated` as `flax.linen.Conv` calls it, for CPU."""
    return convolve(inputs, kernel, tuple(strides), tuple(map(tuple, padding)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(inputs: Array, kernel: Array, strides: Sequence[int], padding: Padding) -> Array:
    """A convolution whose weight gradient is one matrix product per entry of the window.

    XLA's own weight gradient takes most of the time of a training step on CPU: it is a convolution
    whose window is the whole image. Value and input gradient are XLA's. `benchmarks/training.py`
    measures the step. Reverse mode only, to any order.

    Args:
        inputs: ``[B, H, W, C]``.
        kernel: ``[k, k, C, D]``.
        strides: of rows and of columns.
        padding: zeros before and after, of rows and of columns.

    Returns:
        ``[B, H', W', D]``.
    """
    return _plain(inputs, kernel, strides, padding)


def _plain(inputs: Array, kernel: Array, strides: Sequence[int], padding: Padding) -> Array:
    return jax.lax.conv_general_dilated(inputs, kernel, strides, padding, dimension_numbers=LAYOUT)


def _forward(
    inputs: Array, kernel: Array, strides: Sequence[int], padding: Padding
) -> tuple[Array, tuple]:
    return _plain(inputs, kernel, strides, padding), (inputs, kernel)


def _backward(
    strides: Sequence[int], padding: Padding, saved: tuple, gradient: Array
) -> tuple[Array, Array]:
    inputs, kernel = saved
    to_inputs = jax.linear_transpose(lambda x: _plain(x, kernel, strides, padding), inputs)
    (input_gradient,) = to_inputs(gradient)
    return input_gradient, _weight_gradient(inputs, kernel, strides, padding, gradient)


convolve.defvjp(_forward, _backward)


def _weight_gradient(
    inputs: Array, kernel: Array, strides: Sequence[int], padding: Padding, gradient: Array
) -> Array:
    """The inputs under each entry of the window, times the gradient, summed over the positions."""
    rows, columns, channels, features = kernel.shape
    height, width = ((n - 1) * s + 1 for n, s in zip(gradient.shape[1:3], strides, strict=True))
    padded = jnp.pad(inputs, ((0, 0), *padding, (0, 0)))
    gradient = gradient.reshape(-1, features)
    summed_in = jnp.float32 if kernel.dtype.itemsize < 4 else None
    products = [
        jax.lax.dot_general(
            padded[:, i : i + height : strides[0], j : j + width : strides[1]].reshape(
                -1, channels
            ),
            gradient,
            (((0,), (0,)), ((), ())),
            preferred_element_type=summed_in,
        )
        for i in range(rows)
        for j in range(columns)
    ]
    return jnp.stack(products).reshape(kernel.shape).astype(kernel.dtype)
