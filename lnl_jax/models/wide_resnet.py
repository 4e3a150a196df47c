"""Wide residual networks for small images."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from lnl_jax._arguments import check_range
from lnl_jax.models._batch_norm import BatchNorm
from lnl_jax.models._checks import check_images, check_sizes
from lnl_jax.models._convolution import convolution
from lnl_jax.models._head import head


class WideResNet(nn.Module):
    """A wide residual network: batch norm and activation come before each convolution.

    Three stages of width ``16 k``, ``32 k`` and ``64 k`` behind a stem of width 16; each has
    `blocks` blocks of two 3x3 convolutions. Where the shape changes, the shortcut is a 1x1
    convolution of the activated inputs. Initialisation and batch norm are those of `ResNet`.

    Attributes:
        num_classes: K.
        blocks: blocks of each stage; the depth is ``6 * blocks + 4``.
        widen: k.
        dropout: rate, between the convolutions of a block; with a positive one, training needs
            ``rngs={"dropout": key}``.
        dtype: of the computation; parameters, statistics and scores are float32 all the same.
        axis_name: of the devices that share batch statistics, inside `pmap` and `shard_map` only.

    Example:
        >>> import jax
        >>> model = WideResNet(num_classes=10, blocks=1, widen=1)
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        >>> sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        77850

    References:
        Zagoruyko and Komodakis, "Wide Residual Networks" (BMVC 2016), section 2.
    """

    num_classes: int
    blocks: int = 4
    widen: int = 10
    dropout: float = 0.0
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False, mask: Array | None = None) -> Array:
        """Scores ``[B, K]``, float32, for images ``[B, H, W, C]``; arguments as of `ResNet`."""
        check_sizes(num_classes=self.num_classes, blocks=self.blocks, widen=self.widen)
        check_range("dropout", self.dropout, at_least=0, below=1)
        check_images(images)

        def activate(inputs: Array) -> Array:
            norm = BatchNorm(axis_name=self.axis_name)
            return nn.relu(norm(inputs, train=train, mask=mask))

        def convolve(inputs: Array, features: int, size: int = 3, stride: int = 1) -> Array:
            return convolution(features, size, stride, self.dtype)(inputs)

        outputs = convolve(images, 16)
        for stage in range(3):
            features = 16 * self.widen * 2**stage
            for block in range(self.blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                inputs, activated = outputs, activate(outputs)
                if stride > 1 or features != inputs.shape[-1]:
                    inputs = convolve(activated, features, 1, stride)
                outputs = activate(convolve(activated, features, stride=stride))
                outputs = nn.Dropout(self.dropout, deterministic=not train)(outputs)
                outputs = inputs + convolve(outputs, features)
        return head(self.num_classes)(activate(outputs).astype(jnp.float32).mean((1, 2)))


def wide_resnet28(num_classes: int, *, widen: int = 10, dropout: float = 0.0) -> WideResNet:
    """WRN-28-k.

    Args:
        num_classes: K.
        widen: k, the factor of the widths.
        dropout: rate, between the convolutions of a block.

    Returns:
        The module; 36,479,194 parameters for 10 classes, 3 channels and ``widen=10``.
    """
    return WideResNet(num_classes, 4, widen, dropout)
