"""Depthwise convolutions that are fast on every kind of device, forwards and backwards."""

import functools

import jax
import jax.numpy as jnp
from jax import Array


def depthwise(images: Array, kernel: Array, stride: int) -> Array:
    """Convolves each channel with a filter of its own, padded as "SAME" of TensorFlow and flax.

    Accelerators run a grouped convolution. XLA's grouped convolution on CPU takes several times as
    long as the k * k shifted products that are summed there instead. It is differentiated in
    reverse mode only: what autodiff makes of shifted views costs more than the gradient below.

    Args:
        images: ``[B, H, W, C]``.
        kernel: ``[k, k, C]``.
        stride: static.

    Returns:
        ``[B, ceil(H / stride), ceil(W / stride), C]``.
    """
    return _depthwise(*_varying_alike(images, kernel), stride)


def _varying_alike(*arrays: Array) -> list[Array]:
    """Inside `jax.shard_map`, differing over the same devices: gradients by hand have to say so."""
    differing = [jax.typeof(array).manual_axis_type.varying for array in arrays]
    every = frozenset().union(*differing)
    return [
        jax.lax.pcast(array, tuple(every - axes), to="varying") if every - axes else array
        for array, axes in zip(arrays, differing, strict=True)
    ]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(images: Array, kernel: Array, stride: int) -> Array:
    return jax.lax.platform_dependent(
        images,
        kernel,
        cpu=functools.partial(shifted, stride=stride),
        default=functools.partial(grouped, stride=stride),
    )


def grouped(images: Array, kernel: Array, *, stride: int) -> Array:
    """With as many groups as channels."""
    return jax.lax.conv_general_dilated(
        images,
        kernel[:, :, None],
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=images.shape[-1],
    )


def shifted(images: Array, kernel: Array, *, stride: int) -> Array:
    """As the sum of shifted views, each multiplied by one place of the kernel."""
    padding = [_same(length, len(kernel), stride) for length in images.shape[1:3]]
    return _sum_of_views(images, kernel, stride, padding)


def _sum_of_views(
    images: Array, kernel: Array, stride: int, padding: list[tuple[int, int]]
) -> Array:
    padded = _padded(images, padding)
    views = _views(padded, len(kernel), stride)
    return sum(view * weights for view, weights in zip(views, _places(kernel), strict=True))


def _same(length: int, size: int, stride: int) -> tuple[int, int]:
    """Zeros before and after: those after are one more where the number is odd."""
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


def _padded(images: Array, padding: list[tuple[int, int]]) -> Array:
    return jnp.pad(images, ((0, 0), *padding, (0, 0)))


def _views(padded: Array, size: int, stride: int) -> list[Array]:
    """What each place of the kernel sees, row by row."""
    rows, columns = ((length - size) // stride * stride + 1 for length in padded.shape[1:3])
    return [
        padded[:, i : i + rows : stride, j : j + columns : stride]
        for i in range(size)
        for j in range(size)
    ]


def _places(kernel: Array) -> Array:
    return kernel.reshape(-1, 1, 1, 1, kernel.shape[-1])


def _forward(images: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return _depthwise(images, kernel, stride), (images, kernel)


def _backward(stride: int, kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    def by_autodiff(images: Array, kernel: Array, slope: Array) -> tuple[Array, Array]:
        return jax.vjp(functools.partial(grouped, stride=stride), images, kernel)[1](slope)

    return jax.lax.platform_dependent(
        *kept,
        slope,
        cpu=functools.partial(_shifted_gradient, stride=stride),
        default=by_autodiff,
    )


def _shifted_gradient(
    images: Array, kernel: Array, slope: Array, *, stride: int
) -> tuple[Array, Array]:
    size = len(kernel)
    padding = [_same(length, size, stride) for length in images.shape[1:3]]
    of_kernel = _slope_of_kernel(_padded(images, padding), slope, size, stride)
    # Each pixel receives what it gave: the turned kernel goes over the slopes, set apart by the
    # stride.
    gaps = ((0, 0, 0), (0, 0, stride - 1), (0, 0, stride - 1), (0, 0, 0))
    apart = jax.lax.pad(slope, jnp.zeros((), slope.dtype), gaps)
    back = []
    for (before, _), length, given in zip(
        padding, images.shape[1:3], apart.shape[1:3], strict=True
    ):
        first = size - 1 - before
        back.append((first, length + size - 1 - first - given))
    of_images = _sum_of_views(apart, kernel[::-1, ::-1], 1, back)
    return of_images.astype(images.dtype), of_kernel.reshape(kernel.shape).astype(kernel.dtype)


def _slope_of_kernel(padded: Array, slope: Array, size: int, stride: int) -> Array:
    """What each place of the kernel saw, times the slopes, ``[k * k, C]``, in float32.

    Image after image: all views of one fit into the cache, which makes it three times as fast.
    """

    def of_one(image: tuple[Array, Array]) -> Array:
        seen, slope = image
        products = [view[0] * slope for view in _views(seen[None], size, stride)]
        return jnp.stack([product.astype(jnp.float32).sum((0, 1)) for product in products])

    return jax.lax.map(of_one, (padded, slope)).sum(0)


_depthwise.defvjp(_forward, _backward)
