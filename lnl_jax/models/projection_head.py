"""What contrastive learning puts on top of an encoder, and next to it."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from lnl_jax.models._batch_norm import BatchNorm
from lnl_jax.models._checks import check_sizes


class ProjectionHead(nn.Module):
    """Dense layers with batch norm and ReLU between them: the head whose outputs are compared.

    It is thrown away after training; what an encoder has learnt is read before it. The outputs have
    no unit norm yet.

    Attributes:
        hidden: widths of the hidden layers; the official iSogCLR code has (8192, 8192).
        features: of the outputs; 8192 there.
        dtype: of the computation; parameters, statistics and embeddings are float32 all the same.
        axis_name: of the devices that share batch statistics, inside `pmap` and `shard_map` only.

    Example:
        >>> import jax
        >>> model = ProjectionHead(hidden=(16,), features=8)
        >>> inputs = jnp.zeros((5, 4))
        >>> jax.eval_shape(model.init_with_output, jax.random.key(0), inputs)[0].shape
        (5, 8)

    References:
        Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (ICML
        2020), section 2.1; Zbontar et al., "Barlow Twins" (ICML 2021), section 2.2, for its widths.
    """

    hidden: Sequence[int]
    features: int
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool = False, mask: Array | None = None) -> Array:
        """Embeddings ``[B, features]``, float32, for features ``[B, D]`` of an encoder."""
        check_sizes(features=self.features, hidden=tuple(self.hidden))
        outputs = inputs.astype(self.dtype)
        for width in self.hidden:
            norm = BatchNorm(axis_name=self.axis_name)
            # Batch norm subtracts whatever bias there is.
            dense = nn.Dense(width, use_bias=False, dtype=self.dtype)
            outputs = nn.relu(norm(dense(outputs), train=train, mask=mask))
        last = nn.Dense(self.features, use_bias=False, dtype=self.dtype)
        return last(outputs).astype(jnp.float32)


class ProjectedEncoder(nn.Module):
    """An encoder with a projector: features to use, and embeddings to compare.

    Attributes:
        encoder: a module that gives ``[B, D]``, such as ``ResNet(num_classes=None)``.
        projector: a module that takes them, such as `ProjectionHead` or `MLP`.

    Example:
        >>> import jax
        >>> from lnl_jax.models import MLP
        >>> model = ProjectedEncoder(MLP(num_classes=6), ProjectionHead(hidden=(16,), features=8))
        >>> inputs = jnp.zeros((5, 4))
        >>> outputs, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), inputs)
        >>> features, embeddings = outputs
        >>> features.shape, embeddings.shape
        ((5, 6), (5, 8))
    """

    encoder: nn.Module
    projector: nn.Module

    def __call__(
        self, inputs: Array, *, train: bool = False, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Features ``[B, D]`` and embeddings ``[B, E]``."""
        features = self.encoder(inputs, train=train, mask=mask)
        return features, self.projector(features, train=train, mask=mask)


class TwoTower(nn.Module):
    """Two encoders for the two sides of a pair, such as an image and its text.

    Attributes:
        first: a module, such as `ProjectedEncoder`.
        second: likewise; the same instance shares its parameters.

    Example:
        >>> import jax
        >>> from lnl_jax.models import MLP
        >>> model = TwoTower(MLP(num_classes=8), MLP(num_classes=8))
        >>> inputs = jnp.zeros((2, 4)), jnp.zeros((2, 6))
        >>> outputs, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), *inputs)
        >>> [embeddings.shape for embeddings in outputs]
        [(2, 8), (2, 8)]
    """

    first: nn.Module
    second: nn.Module

    def __call__(
        self, first: Array, second: Array, *, train: bool = False, mask: Array | None = None
    ) -> tuple:
        """What the two modules give for their side."""
        return (
            self.first(first, train=train, mask=mask),
            self.second(second, train=train, mask=mask),
        )
