"""Gradients of a contrastive loss with the encoder's activations of one chunk at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from lnl_jax._arguments import computation_dtype, refuse_explicit_mesh
from lnl_jax._host_arguments import check_integer
from lnl_jax.contrastive import _tiles

PyTree = Any


def cached_contrastive_grads(
    encode: Callable[[PyTree, PyTree], PyTree],
    params: PyTree,
    batch: PyTree,
    loss: Callable[[PyTree, PyTree], tuple[Array, PyTree]],
    chunk: int,
) -> tuple[tuple[Array, PyTree], PyTree]:
    r"""Value and gradient of a loss of all embeddings, encoding a chunk of the examples at a time.

    .. math::
        \frac{d L(\theta, z)}{d \theta} = \frac{\partial L}{\partial \theta}
        + \sum_c \Big( \frac{\partial z_c}{\partial \theta} \Big)^{\top}
        \frac{\partial L}{\partial z_c},
        \qquad z_c = \mathrm{encode}(\theta, x_c)

    The chunks are encoded, the loss and its gradient by the embeddings are computed once, then each
    chunk is encoded again with its part of that gradient. The result is that of
    ``jax.value_and_grad(lambda params: loss(params, encode(params, batch)), has_aux=True)(params)``
    for one more encoding of the batch. State, such as `isogclr`'s rows, is updated once, in `loss`.

    Args:
        encode: ``(params, examples) -> embeddings``, arrays with one leading axis each. It must
            treat each example by itself, and the same way both times: random keys belong into
            `batch`, one per example, and batch statistics must not be those of the examples.
        params: of the encoder, and of the loss where that has some.
        batch: arrays with a leading axis of B examples, such as views ``[B, V, ...]``.
        loss: ``(params, embeddings) -> (value, aux)``, a scalar and anything. With
            ``block_size`` it needs no ``[B, B]`` array either.
        chunk: examples that are encoded at a time, an integer of at least 1. The last chunk is
            filled up with copies of the first example, which count for nothing.

    Returns:
        ``((value, aux), gradient)``, as `jax.value_and_grad` with ``has_aux=True``.

    Raises:
        ValueError: if `chunk` is no such integer, or arrays of `batch` differ in length.

    Example:
        >>> from lnl_jax.contrastive import info_nce
        >>> def encode(weights, x):
        ...     return x @ weights
        >>> def loss(weights, z):
        ...     return info_nce(z, z, temperature=1.0).mean(), None
        >>> x = jnp.eye(4)
        >>> def step(weights, batch):
        ...     return cached_contrastive_grads(encode, weights, batch, loss, 2)
        >>> (value, _), gradient = jax.jit(step)(x, x)
        >>> float(value), gradient.shape
        (0.744, (4, 4))

    References:
        Gao, Zhang, Han and Callan, "Scaling Deep Contrastive Learning Batch Size under Memory
        Limited Setup" (RepL4NLP 2021), section 3.2.
    """
    check_integer("chunk", chunk)
    refuse_explicit_mesh(batch=batch)
    lengths = sorted({len(array) for array in jax.tree.leaves(batch)})
    if len(lengths) != 1:
        raise ValueError(f"batch must be arrays of one length, got the lengths {lengths}.")
    size = lengths[0]
    chunks = _tiles.split(batch, chunk)

    encoded = jax.lax.map(lambda examples: encode(params, examples), chunks)
    embeddings = _tiles.join(encoded, size)
    (value, aux), (direct, cotangents) = jax.value_and_grad(loss, (0, 1), has_aux=True)(
        params, embeddings
    )

    def add(gradient: PyTree, part: tuple[PyTree, PyTree]) -> tuple[PyTree, None]:
        examples, cotangent = part
        _, pull_back = jax.vjp(lambda params: encode(params, examples), params)
        (own,) = pull_back(cotangent)
        return jax.tree.map(lambda total, new: total + new, gradient, own), None

    # Sums of many small parts in half precision would lose them.
    start = jax.tree.map(lambda part: part.astype(computation_dtype(part.dtype)), direct)
    cotangents = _tiles.split(cotangents, chunk, fill=jnp.zeros_like)
    total, _ = jax.lax.scan(add, start, (chunks, cotangents))
    return (value, aux), jax.tree.map(lambda sum, part: sum.astype(part.dtype), total, direct)
