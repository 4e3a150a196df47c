"""SigLIP: two towers whose pairs are told apart one by one, with a scale and a shift."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from lnl_jax.models._checks import check_ids
from lnl_jax.models._transformer import Activation, LayerNorm, dense, tanh_gelu
from lnl_jax.models.siglip_images import siglip_blocks


class SigLIPTextTower(nn.Module):
    """SigLIP's text tower: every place is seen, padding too, and the last one is the text.

    The names of its parameters: ``tokens/embedding``, `positions`, ``blocks/block_0`` and so on as
    in `VisionTower`, `norm`, `projection`.

    Attributes:
        embed_dim: of the result.
        vocabulary: how many tokens there are.
        context_length: of every text, in tokens.
        width: of the tokens.
        depth: blocks.
        heads: of each attention; they divide the width.
        hidden: width of the hidden layers; four times that of the tokens if None.
        activation: of the hidden layers.
        epsilon: of the normalisation.
        dtype: of the computation; parameters, normalisation and result are float32 all the same.

    Example:
        >>> tower = SigLIPTextTower(16, vocabulary=50, context_length=6, width=16, depth=2, heads=2)
        >>> ids = jnp.array([[48, 3, 7, 1, 1, 1]])
        >>> jax.eval_shape(tower.init_with_output, jax.random.key(0), ids)[0].shape
        (1, 16)

    References:
        Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (ICCV 2023).
    """

    embed_dim: int = 768
    vocabulary: int = 32000
    context_length: int = 64
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int | None = None
    activation: Activation = tanh_gelu
    epsilon: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, ids: Array) -> Array:
        """The embedding of each text, before normalisation.

        Args:
            ids: integers, ``[B, context_length]``, padded to that length: the last place counts.

        Returns:
            ``[B, embed_dim]``, float32.

        Raises:
            ValueError: if the ids have another shape or type, or the heads do not divide the width;
                outside of compiled programs also if an id is outside the vocabulary.
        """
        length = self.context_length
        if ids.ndim != 2 or ids.shape[1] != length or not jnp.issubdtype(ids.dtype, jnp.integer):
            raise ValueError(
                f"ids must be integers of shape [B, {length}], got {ids.dtype} of shape "
                f"{ids.shape}; lnl_jax.models.load_siglip_tokenizer fills them up to "
                f"context_length={length}."
            )
        if not (self.is_initializing() or isinstance(ids, jax.core.Tracer)):
            check_ids(ids, self.vocabulary, None)
        normal = nn.initializers.normal(self.width**-0.5)
        tokens = nn.Embed(
            self.vocabulary, self.width, dtype=self.dtype, embedding_init=normal, name="tokens"
        )(ids)
        positions = self.param("positions", normal, (length, self.width))
        tokens = siglip_blocks(self)(tokens + positions.astype(self.dtype)[None])
        last = LayerNorm(self.epsilon, name="norm")(tokens[:, -1])
        project = dense(self.embed_dim, self.width**-0.5, self.dtype, name="projection")
        return project(last).astype(jnp.float32)


class SigLIP(nn.Module):
    r"""An image tower, a text tower, and what makes probabilities of their cosines.

    .. math:: P(\text{image } i \text{ and text } j \text{ belong together})
        = \sigma(e^t \cos(u_i, v_j) + b)

    The parameters are those of the towers, under `image` and `text`, with `logit_scale`, t, and
    `logit_bias`, b.

    Attributes:
        image: the image tower: `SigLIPVisionTower`, `NaFlexTower`, or another of one argument.
        text: the text tower.
        initial_scale: what cosines are multiplied by at first.
        initial_bias: what is added at first.

    Example:
        >>> from lnl_jax.models import SigLIPVisionTower
        >>> image = SigLIPVisionTower(image_size=8, patch_size=4, width=16, depth=1, heads=2)
        >>> text = SigLIPTextTower(16, vocabulary=9, context_length=6, width=16, depth=1, heads=2)
        >>> inputs = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 6), jnp.int32)
        >>> model = SigLIP(image, text)
        >>> outputs, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), *inputs)
        >>> [output.shape for output in outputs]
        [(2, 16), (3, 16), (), ()]

    References:
        Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (ICCV 2023), algorithm 1.
    """

    image: nn.Module
    text: nn.Module
    initial_scale: float = 10.0
    initial_bias: float = -10.0

    def setup(self) -> None:
        """The scale and the shift."""
        scale = nn.initializers.constant(math.log(self.initial_scale))
        self.logit_scale = self.param("logit_scale", scale, ())
        bias = nn.initializers.constant(self.initial_bias)
        self.logit_bias = self.param("logit_bias", bias, ())

    def __call__(
        self, images: Any, ids: Array, *, train: bool = False, mask: Array | None = None
    ) -> tuple[Array, Array, Array, Array]:
        """Embeddings of both sides, the scale and the shift.

        Args:
            images: as the image tower takes them.
            ids: tokens, ``[B', T]``; of any number of texts.
            train: as the image tower takes it.
            mask: as the image tower takes it.

        Returns:
            Image embeddings ``[B, D]``, text embeddings ``[B', D]``, neither of them normalised,
            the scale :math:`e^t` and the shift b, scalars.
        """
        embeddings = self.image(images, train=train, mask=mask), self.text(ids)
        return (*embeddings, jnp.exp(self.logit_scale), self.logit_bias)
