"""Pre-norm transformer blocks: the vision transformer and both towers of CLIP are made of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

Activation = Callable[[Array], Array]


def gelu(inputs: Array) -> Array:
    r"""The exact Gaussian error linear unit, :math:`x\,\Phi(x)`.

    Args:
        inputs: any shape.

    Returns:
        The shape and dtype of `inputs`.

    References:
        Hendrycks and Gimpel, "Gaussian Error Linear Units (GELUs)" (2016), section 2.
    """
    return jax.nn.gelu(inputs, approximate=False)


def quick_gelu(inputs: Array) -> Array:
    r"""The approximation that OpenAI's CLIP was trained with, :math:`x\,\sigma(1.702\,x)`.

    Args:
        inputs: any shape.

    Returns:
        The shape and dtype of `inputs`.

    References:
        Hendrycks and Gimpel, "Gaussian Error Linear Units (GELUs)" (2016), section 2.
    """
    return inputs * jax.nn.sigmoid(1.702 * inputs)


def dense(
    features: int, std: float, dtype: Any, *, use_bias: bool = True, name: str | None = None
) -> nn.Dense:
    """A layer whose kernel is drawn from a normal distribution of this deviation."""
    kernel = nn.initializers.normal(std)
    return nn.Dense(features, use_bias=use_bias, dtype=dtype, kernel_init=kernel, name=name)


class LayerNorm(nn.Module):
    """Layer normalisation, in float32 whatever the dtype of the inputs.

    Attributes:
        epsilon: added to the variance.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """The normalised inputs, in their dtype."""
        # Two passes: the difference of the moments loses digits where the mean is large.
        norm = nn.LayerNorm(self.epsilon, dtype=jnp.float32, use_fast_variance=False)
        nn.share_scope(self, norm)
        return norm(inputs.astype(jnp.float32)).astype(inputs.dtype)


def tanh_gelu(inputs: Array) -> Array:
    r"""The approximation of `gelu` with a hyperbolic tangent, which SigLIP was trained with.

    .. math:: x / 2 \cdot (1 + \tanh(\sqrt{2 / \pi} (x + 0.044715\, x^3)))

    Args:
        inputs: any shape.

    Returns:
        The shape and dtype of `inputs`.

    References:
        Hendrycks and Gimpel, "Gaussian Error Linear Units (GELUs)" (2016), section 2.
    """
    return jax.nn.gelu(inputs, approximate=True)


def attend(
    query: Array, key: Array, value: Array, *, causal: bool = False, where: Array | None = None
) -> Array:
    """Scaled dot-product attention ``[B, T, H, d]``, with its softmax in float32.

    Where `where`, boolean ``[B, T]``, is false, a key is not seen; one text of padding alone sees
    all of it.

    That of `jax.nn` mixes bfloat16 and float32 in its gradient, which strict promotion refuses.
    """
    scores = jnp.einsum("bqhd,bkhd->bhqk", query * query.shape[-1] ** -0.5, key)
    scores = scores.astype(jnp.float32)
    if causal:
        seen = jnp.tri(query.shape[1], key.shape[1], dtype=bool)
        scores = jnp.where(seen[None, None], scores, -jnp.inf)
    if where is not None:
        scores = jnp.where(where[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


class Attention(nn.Module):
    """Attention of the tokens to each other.

    Its kernels `query`, `key`, `value` and `out` are matrices ``[D, D]``; those of flax's own have
    an axis of heads, which low-rank adapters would have to know.

    Attributes:
        heads: between which the width is divided.
        causal: a token attends to itself and to those before it only.
        out_std: deviation of the initial kernel of the output.
        dtype: of the computation.
    """

    heads: int
    causal: bool
    out_std: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Array, where: Array | None = None) -> Array:
        """Attends: ``[B, T, D]`` to the same; to tokens where `where`, ``[B, T]``, is true."""
        width = tokens.shape[-1]
        split = (*tokens.shape[:-1], self.heads, width // self.heads)
        query, key, value = (
            dense(width, width**-0.5, self.dtype, name=name)(tokens).reshape(split)
            for name in ("query", "key", "value")
        )
        mixed = attend(query, key, value, causal=self.causal, where=where)
        return dense(width, self.out_std, self.dtype, name="out")(mixed.reshape(tokens.shape))


class Block(nn.Module):
    """Attention, then a hidden layer for each token, both normalised first and added.

    Attributes:
        heads: of the attention.
        hidden: width of the hidden layer.
        activation: of the hidden layer.
        causal: a token sees itself and those before it only.
        depth: how many blocks there are in all; the more, the smaller the initial kernels of what
            is added.
        epsilon: of the normalisation.
        dtype: of the computation.
    """

    heads: int
    hidden: int
    activation: Activation
    causal: bool
    depth: int
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Array, where: Array | None = None) -> Array:
        """One block: ``[B, T, D]`` to the same."""
        width = tokens.shape[-1]
        added_std = (2 * self.depth * width) ** -0.5
        attention = Attention(self.heads, self.causal, added_std, self.dtype, name="attention")
        tokens = tokens + attention(LayerNorm(self.epsilon, name="norm1")(tokens), where)
        hidden = LayerNorm(self.epsilon, name="norm2")(tokens)
        hidden = dense(self.hidden, (2 * width) ** -0.5, self.dtype, name="fc1")(hidden)
        return tokens + dense(width, added_std, self.dtype, name="fc2")(self.activation(hidden))


class Blocks(nn.Module):
    """A transformer: `Block` after `Block`, named ``block_0``, ``block_1`` and so on.

    Kernels are drawn as in the official code of CLIP: from normal distributions of deviation
    ``D ** -0.5`` (query, key, value), ``(2 D) ** -0.5`` (`fc1`) and ``(2 D depth) ** -0.5`` (what
    is added: `out` and `fc2`); biases are 0.

    Attributes:
        depth: how many blocks.
        heads: of each attention.
        hidden: width of each hidden layer.
        activation: of each hidden layer.
        causal: a token sees itself and those before it only.
        epsilon: of the normalisation.
        dtype: of the computation.
    """

    depth: int
    heads: int
    hidden: int
    activation: Activation = gelu
    causal: bool = False
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Array, where: Array | None = None) -> Array:
        """All blocks: ``[B, T, D]`` to the same; they attend where `where`, ``[B, T]``, is true.

        Raises:
            ValueError: if the heads do not divide the width.
        """
        width = tokens.shape[-1]
        if self.heads < 1 or width % self.heads:
            raise ValueError(f"heads must divide the width {width}, got {self.heads}.")
        for index in range(self.depth):
            block = Block(
                self.heads,
                self.hidden,
                self.activation,
                self.causal,
                self.depth,
                self.epsilon,
                self.dtype,
                name=f"block_{index}",
            )
            tokens = block(tokens, where)
        return tokens


class Patches(nn.Module):
    """An image as tokens: its patches, each through a linear map, with learned positions.

    Attributes:
        width: D.
        patch_size: sides of a patch, in pixels.
        class_token: a learned token stands before the patches.
        use_bias: of the linear map.
        dtype: of the computation.
    """

    width: int
    patch_size: int
    class_token: bool = True
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Tokens ``[B, T, D]`` of images ``[B, H, W, C]``.

        Raises:
            ValueError: if the image is not a whole number of patches.
        """
        size = self.patch_size
        if images.shape[1] % size or images.shape[2] % size or 0 in images.shape[1:3]:
            raise ValueError(
                f"images must be whole patches of {size}x{size} pixels, got the shape "
                f"{images.shape}; resize the images or set patch_size."
            )
        normal = nn.initializers.normal(self.width**-0.5)
        patches = nn.Conv(
            self.width,
            (size, size),
            size,
            padding="VALID",
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=nn.initializers.lecun_normal(),
            name="patch",
        )(images)
        tokens = patches.reshape(len(images), -1, self.width)
        if self.class_token:
            first = self.param("class_token", normal, (self.width,)).astype(self.dtype)
            first = jnp.broadcast_to(first, (len(images), 1, self.width))
            tokens = jnp.concatenate([first, tokens], axis=1)
        positions = self.param("positions", normal, tokens.shape[1:])
        return tokens + positions.astype(self.dtype)[None]
