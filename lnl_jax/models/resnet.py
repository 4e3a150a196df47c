"""Residual networks, by default for small images."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from lnl_jax.models._batch_norm import BatchNorm
from lnl_jax.models._checks import check_images, check_sizes
from lnl_jax.models._convolution import convolution
from lnl_jax.models._head import head

Layer = Callable[[Array], Array]
Shortcut = Callable[[Array, int, int, Callable[..., Layer]], Array]
Stem = Callable[[Array, int, Callable[..., Layer]], Array]


def plain_stem(images: Array, features: int, layer: Callable[..., Layer]) -> Array:
    """A 3x3 convolution that keeps the resolution, as for CIFAR.

    Args:
        images: ``[B, H, W, C]``.
        features: channels of the result.
        layer: ``(features, size, stride) -> layer``, a convolution with batch norm.

    Returns:
        ``[B, H, W, features]``.
    """
    return nn.relu(layer(features, 3, 1)(images))


def pooled_stem(images: Array, features: int, layer: Callable[..., Layer]) -> Array:
    """A 7x7 convolution of stride 2, then 3x3 maxima of stride 2, as for ImageNet.

    Args:
        images: ``[B, H, W, C]``.
        features: channels of the result.
        layer: ``(features, size, stride) -> layer``, a convolution with batch norm.

    Returns:
        ``[B, ceil(ceil(H / 2) / 2), ceil(ceil(W / 2) / 2), features]``.
    """
    outputs = nn.relu(layer(features, 7, 2)(images))
    return nn.max_pool(outputs, (3, 3), (2, 2), ((1, 1), (1, 1)))


def projected(inputs: Array, features: int, stride: int, layer: Callable[..., Layer]) -> Array:
    """Option B of He et al.: a 1x1 convolution with batch norm where the shape changes.

    Args:
        inputs: ``[B, H, W, C]``.
        features: channels of the result, any number.
        stride: static.
        layer: ``(features, size, stride) -> layer``, a convolution with batch norm.

    Returns:
        ``[B, ceil(H / stride), ceil(W / stride), features]``.
    """
    if stride == 1 and features == inputs.shape[-1]:
        return inputs
    return layer(features, 1, stride)(inputs)


def zero_padded(inputs: Array, features: int, stride: int, layer: Callable[..., Layer]) -> Array:
    """Option A of He et al.: every `stride`-th pixel, and zeros as the channels to come.

    Args:
        inputs: ``[B, H, W, C]``.
        features: channels of the result, C or more.
        stride: static.
        layer: ``(features, size, stride) -> layer``, a convolution with batch norm.

    Returns:
        ``[B, ceil(H / stride), ceil(W / stride), features]``.
    """
    more = features - inputs.shape[-1]
    return jnp.pad(inputs[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, more)))


class ResNet(nn.Module):
    """A residual network of basic blocks, by default with the stem of small images.

    Every stage has twice the width of the one before and, but for the first, half its resolution.

    Kernels are drawn from He's normal distribution over the outgoing connections, scales of batch
    norm are 1, its shifts 0, and the last layer is uniform within ``1 / sqrt(fan_in)`` with a bias
    of 0. Batch norm keeps 0.9 of its running statistics at each step and adds 1e-5 to the variance.
    On CPU it is differentiated in reverse mode only, which is faster there.

    Attributes:
        num_classes: K; None leaves out the last layer and gives the features, the mean over the
            image of the last stage.
        blocks: how many blocks each stage has.
        width: channels of the first stage.
        shortcut: `projected` or `zero_padded`, what is added where the shape changes.
        stem: `plain_stem` or `pooled_stem`, what comes first: the latter for images of 224 pixels.
        dtype: of the computation, such as ``jnp.bfloat16``; parameters, statistics and scores are
            float32 all the same.
        axis_name: of the devices that share batch statistics, inside `pmap` and `shard_map` only.

    Example:
        >>> import jax
        >>> model = ResNet(num_classes=10, blocks=(1, 1), width=4)
        >>> images = jnp.zeros((2, 8, 8, 3))
        >>> scores, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
        >>> scores.shape, sorted(variables)
        ((2, 10), ['batch_stats', 'params'])

    References:
        He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), sections 3.3 and 4.2.
    """

    num_classes: int | None
    blocks: Sequence[int] = (2, 2, 2, 2)
    width: int = 64
    shortcut: Shortcut = projected
    dtype: Any = jnp.float32
    axis_name: str | None = None
    stem: Stem = plain_stem

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False, mask: Array | None = None) -> Array:
        """Scores, or features where there is no last layer.

        Args:
            images: ``[B, H, W, C]``, floating point.
            train: normalise by the batch and update the running statistics; the caller passes
                ``mutable=["batch_stats"]``.
            mask: boolean, ``[B]``; the examples that enter the batch statistics. All by default.

        Returns:
            ``[B, K]``, or ``[B, D]`` features; float32.

        Raises:
            ValueError: if the images or the mask have another shape or type, or a size is less than
                1.
        """
        check_sizes(num_classes=self.num_classes, width=self.width, blocks=tuple(self.blocks))
        check_images(images)

        def layer(features: int, size: int, stride: int) -> Layer:
            """Convolution and batch norm."""
            convolve = convolution(features, size, stride, self.dtype)
            norm = BatchNorm(axis_name=self.axis_name)
            return lambda inputs: norm(convolve(inputs), train=train, mask=mask)

        outputs = self.stem(images, self.width, layer)
        for stage, count in enumerate(self.blocks):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                outputs = self._block(outputs, self.width * 2**stage, stride, layer)
        features = outputs.astype(jnp.float32).mean((1, 2))
        return features if self.num_classes is None else head(self.num_classes)(features)

    def _block(
        self, inputs: Array, features: int, stride: int, layer: Callable[..., Layer]
    ) -> Array:
        outputs = nn.relu(layer(features, 3, stride)(inputs))
        outputs = layer(features, 3, 1)(outputs)
        return nn.relu(outputs + self.shortcut(inputs, features, stride, layer))


def resnet18(num_classes: int, *, width: int = 64) -> ResNet:
    """ResNet-18: four stages of two blocks, with projections.

    Like every constructor here it takes what a command line would set; the other attributes by
    ``resnet18(10).clone(dtype=jnp.bfloat16)``. ImageNet's is
    ``resnet18(1000).clone(stem=pooled_stem)``, of 11,689,512 parameters.

    Args:
        num_classes: K.
        width: channels of the first stage.

    Returns:
        The module; 11,173,962 parameters for 10 classes and 3 channels.
    """
    return ResNet(num_classes, (2, 2, 2, 2), width)


def resnet34(num_classes: int, *, width: int = 64) -> ResNet:
    """ResNet-34: stages of 3, 4, 6 and 3 blocks, with projections.

    Args:
        num_classes: K.
        width: channels of the first stage.

    Returns:
        The module; 21,282,122 parameters for 10 classes and 3 channels.
    """
    return ResNet(num_classes, (3, 4, 6, 3), width)


def resnet8(num_classes: int, *, width: int = 16) -> ResNet:
    """ResNet-8: three stages of one block, with shortcuts free of parameters (option A).

    Args:
        num_classes: K.
        width: channels of the first stage.

    Returns:
        The module; 75,290 parameters for 10 classes and 3 channels.
    """
    return ResNet(num_classes, (1, 1, 1), width, zero_padded)


def resnet20(num_classes: int, *, width: int = 16) -> ResNet:
    """ResNet-20: three stages of three blocks, with shortcuts free of parameters (option A).

    Args:
        num_classes: K.
        width: channels of the first stage.

    Returns:
        The module; 269,722 parameters for 10 classes and 3 channels.
    """
    return ResNet(num_classes, (3, 3, 3), width, zero_padded)
