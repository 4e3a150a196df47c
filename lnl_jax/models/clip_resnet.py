"""The residual image tower of CLIP."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from lnl_jax.models._batch_norm import BatchNorm
from lnl_jax.models._checks import check_images, check_size
from lnl_jax.models._convolution import convolution
from lnl_jax.models._transformer import attend, dense


class ModifiedResNet(nn.Module):
    r"""CLIP's residual image tower: a stem of three convolutions, bottlenecks, an attention pool.

    Resolution is lost by averages of 2x2 pixels, in the stem and before `conv3` and the shortcut
    of a stage's first block, never by a stride but that of `conv1`. The pool is one query, the mean
    pixel, that attends to itself and all pixels.

    The names of its parameters: of the stem `conv1`, `bn1` to `conv3`, `bn3`; of block 0 of the
    first stage ``layer1_0/conv1``, ``layer1_0/bn1`` to `conv3`, `bn3`, and `shortcut`,
    `shortcut_bn`; of ``attention_pool`` `positions`, `query`, `key`, `value` and `out`. The 48
    convolutions of RN50's bottlenecks, and nothing else, are those whose path holds
    ``layer\d_\d+/conv``.

    Kernels of convolutions are drawn as in `ResNet`.

    Attributes:
        embed_dim: of the result.
        image_size: rows and columns, a multiple of 32.
        blocks: of each of the four stages.
        width: of the stem; the last stage has 32 times as many channels.
        heads: of the attention pool; they divide ``32 width``.
        dtype: of the computation; parameters, statistics and result are float32 all the same.
        axis_name: of the devices that share batch statistics, inside `pmap` and `shard_map` only.

    Example:
        >>> import jax
        >>> tower = ModifiedResNet(8, image_size=32, blocks=(1, 1, 1, 1), width=4, heads=2)
        >>> images = jnp.zeros((2, 32, 32, 3))
        >>> jax.eval_shape(tower.init_with_output, jax.random.key(0), images)[0].shape
        (2, 8)

    References:
        Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
        (ICML 2021), section 2.4.
    """

    embed_dim: int = 1024
    image_size: int = 224
    blocks: Sequence[int] = (3, 4, 6, 3)
    width: int = 64
    heads: int = 32
    dtype: Any = jnp.float32
    axis_name: str | None = None

    def setup(self) -> None:
        """The layers."""
        half = self.width // 2
        self.conv1 = convolution(half, 3, 2, self.dtype)
        self.conv2 = convolution(half, 3, 1, self.dtype)
        self.conv3 = convolution(self.width, 3, 1, self.dtype)
        self.bn1, self.bn2, self.bn3 = (BatchNorm(axis_name=self.axis_name) for _ in range(3))
        for stage, count in enumerate(self.blocks):
            features, halves = self.width * 2**stage, stage > 0
            block = [
                Bottleneck(features, i == 0, halves and i == 0, self.dtype, self.axis_name)
                for i in range(count)
            ]
            setattr(self, f"layer{stage + 1}", block)
        self.attention_pool = AttentionPool(self.embed_dim, self.heads, self.dtype)

    def __call__(self, images: Array, *, train: bool = False, mask: Array | None = None) -> Array:
        """The embedding of each image, before normalisation.

        Args:
            images: ``[B, image_size, image_size, C]``, floating point.
            train: normalise by the batch and update the running statistics; the caller passes
                ``mutable=["batch_stats"]``.
            mask: boolean, ``[B]``; the examples that enter the batch statistics. All by default.

        Returns:
            ``[B, embed_dim]``, float32.

        Raises:
            ValueError: if the images or the mask have another shape or type.
        """
        check_images(images)
        check_size(images, self.image_size)
        if self.image_size % 32:
            raise ValueError(f"image_size must be a multiple of 32, got {self.image_size}.")
        outputs = images
        for conv, norm in (
            (self.conv1, self.bn1),
            (self.conv2, self.bn2),
            (self.conv3, self.bn3),
        ):
            outputs = nn.relu(norm(conv(outputs), train=train, mask=mask))
        outputs = halved(outputs)
        for stage in range(len(self.blocks)):
            for block in getattr(self, f"layer{stage + 1}"):
                outputs = block(outputs, train=train, mask=mask)
        return self.attention_pool(outputs)


class Bottleneck(nn.Module):
    """Convolutions of 1x1, 3x3 and 1x1 pixels, the last of four times the width, and a shortcut.

    Attributes:
        features: of the first two convolutions.
        projects: the shortcut is a convolution.
        halves: the resolution is halved.
        dtype: of the computation.
        axis_name: of the devices that share batch statistics.
    """

    features: int
    projects: bool
    halves: bool
    dtype: Any
    axis_name: str | None

    def setup(self) -> None:
        """The layers."""
        self.conv1 = convolution(self.features, 1, 1, self.dtype)
        self.conv2 = convolution(self.features, 3, 1, self.dtype)
        self.conv3 = convolution(4 * self.features, 1, 1, self.dtype)
        self.bn1, self.bn2, self.bn3 = (BatchNorm(axis_name=self.axis_name) for _ in range(3))
        if self.projects:
            self.shortcut = convolution(4 * self.features, 1, 1, self.dtype)
            self.shortcut_bn = BatchNorm(axis_name=self.axis_name)

    def __call__(self, inputs: Array, *, train: bool, mask: Array | None) -> Array:
        """One block: ``[B, H, W, C]`` to ``[B, H', W', 4 features]``."""
        outputs = nn.relu(self.bn1(self.conv1(inputs), train=train, mask=mask))
        outputs = nn.relu(self.bn2(self.conv2(outputs), train=train, mask=mask))
        if self.halves:
            outputs, inputs = halved(outputs), halved(inputs)
        outputs = self.bn3(self.conv3(outputs), train=train, mask=mask)
        if self.projects:
            inputs = self.shortcut_bn(self.shortcut(inputs), train=train, mask=mask)
        return nn.relu(outputs + inputs.astype(outputs.dtype))


class AttentionPool(nn.Module):
    """The mean pixel's attention to itself and all pixels.

    Attributes:
        embed_dim: of the result.
        heads: between which the channels are divided.
        dtype: of the computation.
    """

    embed_dim: int
    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, pixels: Array) -> Array:
        """``[B, H, W, C]`` to ``[B, embed_dim]``, float32."""
        batch, *_, channels = pixels.shape
        if self.heads < 1 or channels % self.heads:
            raise ValueError(f"heads must divide the {channels} channels, got {self.heads}.")
        std = channels**-0.5
        pixels = pixels.reshape(batch, -1, channels)
        tokens = jnp.concatenate([pixels.mean(1, keepdims=True), pixels], axis=1)
        positions = self.param("positions", nn.initializers.normal(std), tokens.shape[1:])
        tokens = tokens + positions.astype(self.dtype)[None]
        query, key, value = (
            dense(channels, std, self.dtype, name=name)(of).reshape(
                batch, -1, self.heads, channels // self.heads
            )
            for name, of in (("query", tokens[:, :1]), ("key", tokens), ("value", tokens))
        )
        mixed = attend(query, key, value).reshape(batch, channels)
        return dense(self.embed_dim, std, self.dtype, name="out")(mixed).astype(jnp.float32)


def halved(inputs: Array) -> Array:
    """Means of 2x2 pixels."""
    batch, height, width, channels = inputs.shape
    return inputs.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))
