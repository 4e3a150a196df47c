"""The small convolutional network of dataset distillation."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from lnl_jax.models._checks import check_images, check_sizes
from lnl_jax.models._convolution import convolution
from lnl_jax.models._head import head


class ConvNet(nn.Module):
    """Blocks of 3x3 convolution, instance norm, activation and 2x2 average pooling; then scores.

    With strides the convolutions halve the resolution themselves and nothing is pooled, which on a
    CPU takes a third of the time. There are no batch statistics: an image's scores do not depend
    on the others. The convolutions have no bias, which the normalisation would take away again.
    Initialisation as of `ResNet`.

    Attributes:
        num_classes: K.
        width: channels of the first block.
        depth: blocks, each of which halves the resolution.
        growth: how many times as many channels the next block has.
        stride: of the convolutions; 1 pools after them, 2 does not.
        dtype: of the computation; parameters and scores are float32 all the same.

    Example:
        >>> model = ConvNet(num_classes=10, width=4, depth=2)
        >>> images = jnp.zeros((5, 8, 8, 3))
        >>> scores, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
        >>> scores.shape, sorted(variables)
        ((5, 10), ['params'])

    References:
        Zhao et al., "Dataset Condensation with Gradient Matching" (ICLR 2021), section 4.1, after
        Gidaris and Komodakis, "Dynamic Few-Shot Visual Learning without Forgetting" (CVPR 2018).
    """

    num_classes: int
    width: int = 128
    depth: int = 3
    growth: int = 1
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False, mask: Array | None = None) -> Array:
        """Scores.

        Args:
            images: ``[B, H, W, C]``, floating point.
            train: changes nothing; every model takes it.
            mask: changes nothing; every model takes it.

        Returns:
            ``[B, K]``, float32.

        Raises:
            ValueError: if the images have another shape or type, or are too small for the depth, or
                a size is less than 1, or the stride is neither 1 nor 2.
        """
        check_sizes(num_classes=self.num_classes, width=self.width, depth=self.depth)
        check_sizes(growth=self.growth)
        if self.stride not in (1, 2):
            raise ValueError(f"stride must be 1, with pooling, or 2, without; got {self.stride}.")
        check_images(images)
        if min(images.shape[1:3]) < 2**self.depth:
            raise ValueError(
                f"images of shape {images.shape} are halved {self.depth} times; they need at least "
                f"{2**self.depth} rows and columns, or a smaller depth."
            )
        outputs = images
        for block in range(self.depth):
            channels = self.width * self.growth**block
            outputs = convolution(channels, 3, self.stride, self.dtype)(outputs)
            norm = nn.GroupNorm(num_groups=None, group_size=1, epsilon=1e-5)
            outputs = nn.relu(norm(outputs.astype(jnp.float32))).astype(self.dtype)
            outputs = outputs if self.stride == 2 else _halved(outputs)
        return head(self.num_classes)(outputs.astype(jnp.float32).reshape(len(images), -1))


def _halved(inputs: Array) -> Array:
    """Means of 2x2 pixels; flax's own divides by an integer, which strict promotion refuses."""
    return nn.pool(inputs, 0.0, jax.lax.add, (2, 2), (2, 2), "VALID") / 4


def convnet(num_classes: int, *, width: int = 128, depth: int = 3) -> ConvNet:
    """The ConvNet of dataset distillation.

    Args:
        num_classes: K.
        width: channels.
        depth: blocks, each of which halves the resolution.

    Returns:
        The module; 319,626 parameters for 10 classes and 32x32 images of 3 channels: the 320,010
        of the papers less the biases of the convolutions.
    """
    return ConvNet(num_classes, width, depth)
