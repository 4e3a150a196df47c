"""CLIP: an image tower, a text tower, and a scale for their cosines."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from lnl_jax.models._checks import check_end_token, check_ids, check_images, check_size
from lnl_jax.models._transformer import (
    Activation,
    Blocks,
    LayerNorm,
    Patches,
    dense,
    gelu,
    quick_gelu,
)
from lnl_jax.models.clip_resnet import ModifiedResNet


class VisionTower(nn.Module):
    """CLIP's transformer image tower: the class token, through a last norm and a projection.

    The names of its parameters: `embedding` with `patch`, `class_token` and `positions`;
    `norm_pre`; ``blocks/block_0`` and so on, each with `norm1`, `attention` (`query`, `key`,
    `value`, `out`), `norm2`, `fc1` and `fc2`; `norm_post`; `projection`. Kernels are ``[in, out]``.

    Attributes:
        embed_dim: of the result.
        image_size: rows and columns; what is less than a whole patch, on the right and at the
            bottom, is not seen.
        patch_size: sides of a patch.
        width: of the tokens.
        depth: blocks.
        heads: of each attention; they divide the width.
        hidden: width of the hidden layers; four times that of the tokens if None.
        activation: `quick_gelu` with OpenAI's weights, `gelu` with most others.
        epsilon: of the normalisation.
        dtype: of the computation; parameters, normalisation and result are float32 all the same.

    Example:
        >>> import jax
        >>> tower = VisionTower(8, image_size=8, patch_size=4, width=16, depth=2, heads=2)
        >>> images = jnp.zeros((2, 8, 8, 3))
        >>> jax.eval_shape(tower.init_with_output, jax.random.key(0), images)[0].shape
        (2, 8)

    References:
        Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
        (ICML 2021), section 2.4.
    """

    embed_dim: int = 512
    image_size: int = 224
    patch_size: int = 32
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int | None = None
    activation: Activation = gelu
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False, mask: Array | None = None) -> Array:
        """The embedding of each image, before normalisation.

        Args:
            images: ``[B, image_size, image_size, C]``, floating point.
            train: changes nothing; every image tower takes it.
            mask: changes nothing; every image tower takes it.

        Returns:
            ``[B, embed_dim]``, float32.

        Raises:
            ValueError: if the images have another shape or type, or the attributes do not divide.
        """
        check_images(images)
        check_size(images, self.image_size)
        patches = Patches(
            self.width, self.patch_size, use_bias=False, dtype=self.dtype, name="embedding"
        )
        seen = self.image_size // self.patch_size * self.patch_size
        tokens = LayerNorm(self.epsilon, name="norm_pre")(patches(images[:, :seen, :seen]))
        tokens = _blocks(self, causal=False)(tokens)
        return _projected(self, "norm_post", tokens[:, 0])


class TextTower(nn.Module):
    """CLIP's text tower: a causal transformer, pooled where the text ends.

    The names of its parameters: ``tokens/embedding``, `positions`, ``blocks/block_0`` and so on as
    in `VisionTower`, `norm`, `projection`.

    Attributes:
        embed_dim: of the result.
        vocabulary: how many tokens there are.
        context_length: the longest text, in tokens.
        width: of the tokens.
        depth: blocks.
        heads: of each attention; they divide the width.
        hidden: width of the hidden layers; four times that of the tokens if None.
        end_token: the text ends at the first token of this id, or, if None, at the first of the
            greatest id in the text, which is how OpenAI's vocabulary is read.
        activation: `quick_gelu` with OpenAI's weights, `gelu` with most others.
        epsilon: of the normalisation.
        dtype: of the computation; parameters, normalisation and result are float32 all the same.

    Example:
        >>> import jax
        >>> tower = TextTower(8, vocabulary=50, context_length=6, width=16, depth=2, heads=2)
        >>> ids = jnp.array([[48, 3, 7, 49, 0, 0]])
        >>> jax.eval_shape(tower.init_with_output, jax.random.key(0), ids)[0].shape
        (1, 8)

    References:
        Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
        (ICML 2021), section 2.4.
    """

    embed_dim: int = 512
    vocabulary: int = 49408
    context_length: int = 77
    width: int = 512
    depth: int = 12
    heads: int = 8
    hidden: int | None = None
    end_token: int | None = None
    activation: Activation = gelu
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, ids: Array) -> Array:
        """The embedding of each text, before normalisation.

        Args:
            ids: integers, ``[B, T]`` with T up to `context_length`. What follows the end changes
                nothing.

        Returns:
            ``[B, embed_dim]``, float32; NaN for a text without its `end_token`, where the ids are
            traced and cannot be looked at.

        Raises:
            ValueError: if the ids have another shape or type, the heads do not divide the width, or
                `end_token` is outside the vocabulary; outside of compiled programs also if an id is
                outside the vocabulary, or a text has no `end_token`.
        """
        if ids.ndim != 2 or not jnp.issubdtype(ids.dtype, jnp.integer):
            raise ValueError(
                f"ids must be integers of shape [B, T], got {ids.dtype} of shape {ids.shape}; "
                "they are what a tokenizer gives: lnl_jax.models.load_tokenizer."
            )
        if not 0 < ids.shape[1] <= self.context_length:
            raise ValueError(
                f"ids must be of 1 to {self.context_length} tokens, the context length, got the "
                f"shape {ids.shape}; give the tokenizer this context_length."
            )
        if not (self.is_initializing() or isinstance(ids, jax.core.Tracer)):
            check_ids(ids, self.vocabulary, self.end_token)
        check_end_token(self.end_token, self.vocabulary)
        embed = nn.Embed(
            self.vocabulary,
            self.width,
            dtype=self.dtype,
            embedding_init=nn.initializers.normal(0.02),
            name="tokens",
        )
        shape = (self.context_length, self.width)
        positions = self.param("positions", nn.initializers.normal(0.01), shape)
        tokens = embed(ids) + positions[: ids.shape[1]].astype(self.dtype)[None]
        tokens = _blocks(self, causal=True)(tokens)
        end = ids if self.end_token is None else (ids == self.end_token).astype(jnp.int32)
        embedding = _projected(self, "norm", tokens[jnp.arange(len(ids)), end.argmax(1)])
        if self.end_token is None:
            return embedding
        return jnp.where(end.any(1)[:, None], embedding, jnp.nan)


def _blocks(tower: VisionTower | TextTower, *, causal: bool) -> Blocks:
    return Blocks(
        tower.depth,
        tower.heads,
        tower.hidden or 4 * tower.width,
        tower.activation,
        causal,
        tower.epsilon,
        tower.dtype,
        name="blocks",
    )


def _projected(tower: VisionTower | TextTower, norm: str, token: Array) -> Array:
    token = LayerNorm(tower.epsilon, name=norm)(token)
    std = tower.width**-0.5
    project = dense(tower.embed_dim, std, tower.dtype, use_bias=False, name="projection")
    return project(token).astype(jnp.float32)


class CLIP(nn.Module):
    """An image tower, a text tower and a learned scale, for training from scratch or loaded.

    Any two modules do whose results have the same length, such as ``vit(64)`` for small images.
    Their parameters are those under `image` and `text`; one tower alone is
    ``model.image.apply({"params": variables["params"]["image"]}, images)``, with its `batch_stats`
    where it has them. The logarithm of the scale is the parameter `logit_scale`; the official
    training keeps the scale below 100.

    Attributes:
        image: the image tower, called as ``image(images, train=train, mask=mask)``.
        text: the text tower, called as ``text(ids)``.
        initial_scale: what cosines are multiplied by at first.

    Example:
        >>> import jax
        >>> from lnl_jax import models
        >>> text = models.TextTower(8, vocabulary=50, context_length=6, width=16, depth=1, heads=2)
        >>> model = CLIP(models.vit(8, width=16, depth=1), text)
        >>> inputs = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 6), jnp.int32)
        >>> outputs, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), *inputs)
        >>> [output.shape for output in outputs]
        [(2, 8), (3, 8), ()]

    References:
        Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
        (ICML 2021), figure 3.
    """

    image: nn.Module
    text: nn.Module
    initial_scale: float = 1 / 0.07

    def setup(self) -> None:
        """The scale."""
        constant = nn.initializers.constant(math.log(self.initial_scale))
        self.logit_scale = self.param("logit_scale", constant, ())

    def __call__(
        self, images: Array, ids: Array, *, train: bool = False, mask: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """Embeddings of both sides, and the scale.

        Args:
            images: of the image tower's size, ``[B, H, W, C]``, floating point.
            ids: tokens, ``[B', T]``; of any number of texts.
            train: as the image tower takes it.
            mask: as the image tower takes it.

        Returns:
            Image embeddings ``[B, D]``, text embeddings ``[B', D]``, neither of them normalised,
            and the scale, a scalar.
        """
        embeddings = self.image(images, train=train, mask=mask), self.text(ids)
        return (*embeddings, jnp.exp(self.logit_scale))


def clip_vit_b32() -> CLIP:
    """The architecture of OpenAI's ViT-B/32, with fresh parameters.

    Returns:
        The module; 151,277,313 parameters, 87,849,216 of them in the image tower.
    """
    return CLIP(VisionTower(activation=quick_gelu), TextTower(activation=quick_gelu))


def clip_rn50() -> CLIP:
    """The architecture of OpenAI's RN50, with fresh parameters.

    Returns:
        The module; 102,007,137 parameters, 38,316,896 of them in the image tower.
    """
    return CLIP(ModifiedResNet(), TextTower(1024, activation=quick_gelu))
