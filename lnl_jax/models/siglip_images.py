"""SigLIP's image towers, of one resolution and of any shape."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from lnl_jax.models._checks import check_images, check_size
from lnl_jax.models._positions import resized_in_place
from lnl_jax.models._transformer import (
    Activation,
    Blocks,
    LayerNorm,
    Patches,
    attend,
    dense,
    tanh_gelu,
)


class SigLIPVisionTower(nn.Module):
    """SigLIP's image tower: patches alone, pooled by a learned query.

    The names of its parameters: `embedding` with `patch` and `positions`; ``blocks/block_0`` and so
    on as in `VisionTower`; `norm`; `pool` with `probe`, `query`, `key`, `value`, `out`, `norm`,
    `fc1` and `fc2`. The embedding has the width of the tokens.

    Attributes:
        image_size: rows and columns; what is less than a whole patch is not seen.
        patch_size: sides of a patch.
        width: of the tokens and of the result.
        depth: blocks.
        heads: of each attention; they divide the width.
        hidden: width of the hidden layers; four times that of the tokens if None.
        activation: of the hidden layers.
        epsilon: of the normalisation.
        dtype: of the computation; parameters, normalisation and result are float32 all the same.

    Example:
        >>> import jax
        >>> tower = SigLIPVisionTower(image_size=8, patch_size=4, width=16, depth=2, heads=2)
        >>> images = jnp.zeros((2, 8, 8, 3))
        >>> jax.eval_shape(tower.init_with_output, jax.random.key(0), images)[0].shape
        (2, 16)

    References:
        Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (ICCV 2023); Zhai et al.,
        "Scaling Vision Transformers" (CVPR 2022), section 3.
    """

    image_size: int = 224
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int | None = None
    activation: Activation = tanh_gelu
    epsilon: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False, mask: Array | None = None) -> Array:
        """The embedding of each image, before normalisation.

        Args:
            images: ``[B, image_size, image_size, C]``, floating point.
            train: changes nothing; every image tower takes it.
            mask: changes nothing; every image tower takes it.

        Returns:
            ``[B, width]``, float32.

        Raises:
            ValueError: if the images have another shape or type, or the attributes do not divide.
        """
        check_images(images)
        check_size(images, self.image_size)
        seen = self.image_size // self.patch_size * self.patch_size
        patches = Patches(
            self.width, self.patch_size, class_token=False, dtype=self.dtype, name="embedding"
        )
        return _pooled(self, patches(images[:, :seen, :seen]), None)


class NaFlexTower(nn.Module):
    """SigLIP 2's image tower for images of any shape: patches, padded, with resized positions.

    Its parameters are those of `SigLIPVisionTower`, but that `patch` is a matrix. The positions of
    a square grid are resized, bilinear and without aliasing, to the shape of each image.

    Attributes:
        grid: sides of the square of positions that are learned.
        patch_size: sides of a patch.
        width: of the tokens and of the result.
        depth: blocks.
        heads: of each attention; they divide the width.
        hidden: width of the hidden layers; four times that of the tokens if None.
        activation: of the hidden layers.
        epsilon: of the normalisation.
        dtype: of the computation; parameters, normalisation and result are float32 all the same.

    Example:
        >>> import jax
        >>> tower = NaFlexTower(grid=4, patch_size=2, width=16, depth=2, heads=2)
        >>> images = jnp.zeros((1, 7, 12)), jnp.arange(7)[None] < 6, jnp.array([[2, 3]])
        >>> jax.eval_shape(tower.init_with_output, jax.random.key(0), images)[0].shape
        (1, 16)

    References:
        Tschannen et al., "SigLIP 2: Multilingual Vision-Language Encoders with Improved Semantic
        Understanding, Localization, and Dense Features" (2025), section 2.4.
    """

    grid: int = 16
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int | None = None
    activation: Activation = tanh_gelu
    epsilon: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        images: tuple[Array, Array, Array],
        *,
        train: bool = False,
        mask: Array | None = None,
    ) -> Array:
        """The embedding of each image, before normalisation.

        Args:
            images: patches ``[B, n, patch_size * patch_size * C]``, floating point, row by row;
                which of them are real, boolean ``[B, n]``; and how many rows and columns of them
                each image has, integers ``[B, 2]``: `lnl_jax.data.preprocess.naflex_patches`.
            train: changes nothing; every image tower takes it.
            mask: changes nothing; every image tower takes it.

        Returns:
            ``[B, width]``, float32.

        Raises:
            ValueError: if the arrays have other shapes or types.
        """
        patches, where, shapes = images
        area = self.patch_size**2
        if (
            patches.ndim != 3
            or patches.shape[-1] % area
            or not jnp.issubdtype(patches.dtype, jnp.floating)
        ):
            raise ValueError(
                f"patches must be floating point of shape [B, n, {area} * C], got {patches.dtype} "
                f"of shape {patches.shape}; data.preprocess.naflex_patches gives them."
            )
        if where.shape != patches.shape[:2] or where.dtype != jnp.bool_:
            raise ValueError(
                f"which patches are real must be boolean of shape {patches.shape[:2]}, got "
                f"{where.dtype} of shape {where.shape}."
            )
        if shapes.shape != (len(patches), 2) or not jnp.issubdtype(shapes.dtype, jnp.integer):
            raise ValueError(
                f"rows and columns of patches must be integers of shape ({len(patches)}, 2), got "
                f"{shapes.dtype} of shape {shapes.shape}."
            )
        embedding = _FlatPatches(self.width, self.grid, self.dtype, name="embedding")
        return _pooled(self, embedding(patches, shapes), where)


class _FlatPatches(nn.Module):
    """Patches through a linear map, with positions that are resized for each image."""

    width: int
    grid: int
    dtype: Any

    @nn.compact
    def __call__(self, patches: Array, shapes: Array) -> Array:
        tokens = dense(self.width, patches.shape[-1] ** -0.5, self.dtype, name="patch")(patches)
        normal = nn.initializers.normal(self.width**-0.5)
        positions = self.param("positions", normal, (self.grid**2, self.width))
        return tokens + resized_in_place(positions, shapes, patches.shape[1]).astype(self.dtype)


def _pooled(tower: SigLIPVisionTower | NaFlexTower, tokens: Array, where: Array | None) -> Array:
    tokens = siglip_blocks(tower)(tokens, where)
    tokens = LayerNorm(tower.epsilon, name="norm")(tokens)
    hidden = tower.hidden or 4 * tower.width
    pool = _ProbePool(
        tower.heads, hidden, tower.activation, tower.epsilon, tower.dtype, name="pool"
    )
    return pool(tokens, where).astype(jnp.float32)


def siglip_blocks(tower: nn.Module) -> Blocks:
    """The transformer of a tower, which sees all places."""
    return Blocks(
        tower.depth,
        tower.heads,
        tower.hidden or 4 * tower.width,
        tower.activation,
        epsilon=tower.epsilon,
        dtype=tower.dtype,
        name="blocks",
    )


class _ProbePool(nn.Module):
    """A learned query attends to all tokens; a hidden layer is added."""

    heads: int
    hidden: int
    activation: Activation
    epsilon: float
    dtype: Any

    @nn.compact
    def __call__(self, tokens: Array, where: Array | None) -> Array:
        batch, length, width = tokens.shape
        std = width**-0.5
        probe = self.param("probe", nn.initializers.xavier_uniform(), (1, width))
        probe = jnp.broadcast_to(probe.astype(self.dtype)[None], (batch, 1, width))
        split = (self.heads, width // self.heads)
        query = dense(width, std, self.dtype, name="query")(probe).reshape(batch, 1, *split)
        key, value = (
            dense(width, std, self.dtype, name=name)(tokens).reshape(batch, length, *split)
            for name in ("key", "value")
        )
        mixed = attend(query, key, value, where=where).reshape(batch, width)
        pooled = dense(width, std, self.dtype, name="out")(mixed)
        hidden = LayerNorm(self.epsilon, name="norm")(pooled)
        hidden = self.activation(dense(self.hidden, std, self.dtype, name="fc1")(hidden))
        return pooled + dense(width, std, self.dtype, name="fc2")(hidden)
