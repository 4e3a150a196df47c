"""An encoder of sentences: BERT's transformer, and the mean of its tokens."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from lnl_jax.evaluation import unit_rows
from lnl_jax.models._checks import check_ids, check_sizes
from lnl_jax.models._transformer import Activation, Attention, LayerNorm, dense, gelu

# Of the initial kernels, as in BERT.
STD = 0.02


class SentenceEncoder(nn.Module):
    r"""Sentences as unit vectors: tokens through normalised-after blocks, averaged.

    .. math:: e = \frac{m}{\lVert m \rVert}, \qquad m = \frac{1}{|S|} \sum_{t \in S} h_t

    over the real tokens S of a sentence. Its parameters: `tokens`, `positions`, `type`, `norm`;
    ``block_0`` and so on, each with `attention` (`query`, `key`, `value`, `out`), `norm1`, `fc1`,
    `fc2` and `norm2`. By default it has the sizes of MiniLM-L6.

    Attributes:
        vocabulary: how many tokens there are.
        context_length: the longest text, in tokens.
        types: of segments; a sentence is of the first.
        width: of the tokens and of the result.
        depth: blocks.
        heads: of each attention; they divide the width.
        hidden: width of the hidden layers.
        activation: of the hidden layers.
        epsilon: of the normalisation.
        dtype: of the computation; parameters, normalisation and result are float32 all the same.

    Example:
        >>> encoder = SentenceEncoder(50, context_length=6, width=16, depth=2, heads=2, hidden=32)
        >>> ids, where = jnp.array([[1, 3, 7, 2, 0, 0]]), jnp.arange(6)[None] < 4
        >>> variables = jax.eval_shape(encoder.init, jax.random.key(0), ids, where)
        >>> jax.eval_shape(encoder.apply, variables, ids, where).shape
        (1, 16)

    References:
        Reimers and Gurevych, "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks"
        (EMNLP 2019), section 3; Wang et al., "MiniLM: Deep Self-Attention Distillation for
        Task-Agnostic Compression of Pre-Trained Transformers" (NeurIPS 2020).
    """

    vocabulary: int = 30522
    context_length: int = 512
    types: int = 2
    width: int = 384
    depth: int = 6
    heads: int = 12
    hidden: int = 1536
    activation: Activation = gelu
    epsilon: float = 1e-12
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, ids: Array, where: Array) -> Array:
        """The embedding of each sentence.

        Args:
            ids: integers, ``[B, T]`` with T up to `context_length`.
            where: boolean, ``[B, T]``; which tokens are real. The others change nothing.

        Returns:
            ``[B, width]``, float32, of length 1.

        Raises:
            ValueError: if the shapes or types are others, or the heads do not divide the width;
                outside of compiled programs also if an id is outside the vocabulary.
        """
        self._check(ids, where)
        normal = nn.initializers.normal(STD)
        tokens = nn.Embed(
            self.vocabulary, self.width, dtype=self.dtype, embedding_init=normal, name="tokens"
        )(ids)
        positions = self.param("positions", normal, (self.context_length, self.width))
        first = self.param("type", normal, (self.types, self.width))[0]
        places = (positions[: ids.shape[1]] + first[None]).astype(self.dtype)
        tokens = LayerNorm(self.epsilon, name="norm")(tokens + places[None])
        for index in range(self.depth):
            tokens = _NormalisedAfter(
                self.heads,
                self.hidden,
                self.activation,
                self.epsilon,
                self.dtype,
                name=f"block_{index}",
            )(tokens, where)
        real = where[..., None].astype(jnp.float32)
        total = (tokens.astype(jnp.float32) * real).sum(1)
        return unit_rows(total / jnp.maximum(real.sum(1), 1))

    def _check(self, ids: Array, where: Array) -> None:
        check_sizes(
            vocabulary=self.vocabulary, width=self.width, depth=self.depth, heads=self.heads
        )
        if self.width % self.heads:
            raise ValueError(f"heads must divide the width {self.width}, got {self.heads}.")
        if ids.ndim != 2 or not jnp.issubdtype(ids.dtype, jnp.integer):
            raise ValueError(
                f"ids must be integers of shape [B, T], got {ids.dtype} of shape {ids.shape}; "
                "lnl_jax.models.load_sentence_tokenizer gives them."
            )
        if not 0 < ids.shape[1] <= self.context_length:
            raise ValueError(
                f"ids must be of 1 to {self.context_length} tokens, the context length, got the "
                f"shape {ids.shape}; give the tokenizer this context_length."
            )
        if where.shape != ids.shape or where.dtype != jnp.bool_:
            raise ValueError(
                f"where must be boolean of the shape {ids.shape} of ids, true for real tokens; "
                f"got {where.dtype} of shape {where.shape}."
            )
        if not (self.is_initializing() or isinstance(ids, jax.core.Tracer)):
            check_ids(ids, self.vocabulary, None)


class _NormalisedAfter(nn.Module):
    """Attention, then a hidden layer for each token, both added and normalised."""

    heads: int
    hidden: int
    activation: Activation
    epsilon: float
    dtype: Any

    @nn.compact
    def __call__(self, tokens: Array, where: Array) -> Array:
        attention = Attention(self.heads, False, STD, self.dtype, name="attention")
        tokens = LayerNorm(self.epsilon, name="norm1")(tokens + attention(tokens, where))
        hidden = self.activation(dense(self.hidden, STD, self.dtype, name="fc1")(tokens))
        added = dense(tokens.shape[-1], STD, self.dtype, name="fc2")(hidden)
        return LayerNorm(self.epsilon, name="norm2")(tokens + added)
