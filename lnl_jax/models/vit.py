"""Vision transformers for small images."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from lnl_jax.models._checks import check_images, check_sizes
from lnl_jax.models._head import head
from lnl_jax.models._transformer import Activation, Blocks, LayerNorm, Patches, gelu


class ViT(nn.Module):
    """A vision transformer: patches, pre-norm transformer blocks, scores of the pooled tokens.

    There are no batch statistics: an image's scores do not depend on the others. As an encoder it
    is used without its last layer, by ``method="features"`` of `init` and `apply`. The parameters
    are those of `embedding` (`patch`, `class_token`, `positions`), of ``blocks/block_0`` and so on
    (`norm1`, `attention` with `query`, `key`, `value` and `out`, `norm2`, `fc1`, `fc2`), of `norm`
    and of `head`. The positions are learned, so the images have one size.

    Attributes:
        num_classes: K.
        width: D, of the tokens.
        depth: blocks.
        heads: of each attention; they divide the width.
        patch_size: sides of a patch in pixels; they divide those of the image.
        class_token: the features are those of a learned token; otherwise the mean of the patches.
        mlp_ratio: of the hidden layers' width to that of the tokens.
        activation: of the hidden layers.
        dtype: of the computation; parameters, normalisation, features and scores are float32 all
            the same.

    Example:
        >>> import jax
        >>> model = ViT(num_classes=10, width=8, depth=2, heads=2)
        >>> images = jnp.zeros((5, 8, 8, 3))
        >>> scores, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
        >>> scores.shape, sorted(variables["params"])
        ((5, 10), ['blocks', 'embedding', 'head', 'norm'])
        >>> encode = jax.tree_util.Partial(model.init_with_output, method="features")
        >>> features, variables = jax.eval_shape(encode, jax.random.key(0), images)
        >>> features.shape, sorted(variables["params"])
        ((5, 8), ['blocks', 'embedding', 'norm'])

    References:
        Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at
        Scale" (ICLR 2021), section 3.1; the mean as in Beyer et al., "Better plain ViT baselines
        for ImageNet-1k" (2022).
    """

    num_classes: int
    width: int = 64
    depth: int = 4
    heads: int = 4
    patch_size: int = 4
    class_token: bool = False
    mlp_ratio: int = 4
    activation: Activation = gelu
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """The layers."""
        check_sizes(
            num_classes=self.num_classes,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            patch_size=self.patch_size,
            mlp_ratio=self.mlp_ratio,
        )
        self.embedding = Patches(self.width, self.patch_size, self.class_token, dtype=self.dtype)
        hidden = self.mlp_ratio * self.width
        self.blocks = Blocks(self.depth, self.heads, hidden, self.activation, dtype=self.dtype)
        self.norm = LayerNorm()
        self.head = head(self.num_classes)

    def __call__(self, images: Array, *, train: bool = False, mask: Array | None = None) -> Array:
        """Scores.

        Args:
            images: ``[B, H, W, C]``, floating point.
            train: changes nothing; every model takes it.
            mask: changes nothing; every model takes it.

        Returns:
            ``[B, K]``, float32.

        Raises:
            ValueError: if the images have another shape or type, or are not whole patches, or the
                heads do not divide the width.
        """
        return self.head(self.features(images, train=train, mask=mask))

    def features(self, images: Array, *, train: bool = False, mask: Array | None = None) -> Array:
        """What the scores are made of.

        Args:
            images: ``[B, H, W, C]``, floating point.
            train: changes nothing; every model takes it.
            mask: changes nothing; every model takes it.

        Returns:
            ``[B, D]``, float32.

        Raises:
            ValueError: if the images have another shape or type, or are not whole patches, or the
                heads do not divide the width.
        """
        check_images(images)
        tokens = self.norm(self.blocks(self.embedding(images)).astype(jnp.float32))
        return tokens[:, 0] if self.class_token else tokens.mean(1)


def vit(
    num_classes: int, *, width: int = 64, depth: int = 4, heads: int = 4, patch_size: int = 4
) -> ViT:
    """A small vision transformer that takes the mean of its patches.

    Args:
        num_classes: K.
        width: of the tokens.
        depth: blocks.
        heads: of each attention; they divide the width.
        patch_size: sides of a patch in pixels; they divide those of the image.

    Returns:
        The module; 207,946 parameters for 10 classes and 32x32 images of 3 channels.
    """
    return ViT(num_classes, width, depth, heads, patch_size)
