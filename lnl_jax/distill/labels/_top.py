"""Soft labels in little space: the largest of each row, and how the others are read again."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lnl_jax._arguments import check_count, refuse_explicit_mesh
from lnl_jax._host_arguments import check_integer


class TopLabels(NamedTuple):
    """The k largest entries of each row.

    Attributes:
        values: in descending order, ``[..., k]``.
        classes: theirs, in the smallest unsigned type that holds them, ``[..., k]``.
    """

    values: Array
    classes: Array


def keep_top(values: Array, k: int) -> TopLabels:
    """Keeps the k largest entries of each row.

    Args:
        values: logits or probabilities, ``[..., K]``.
        k: how many, from 1 to K.

    Returns:
        Them and their classes, in the dtype of `values` and uint8, uint16 or uint32.

    Raises:
        ValueError: if k is out of range.

    Example:
        >>> top = keep_top(jnp.array([0.1, 0.7, 0.2]), 2)
        >>> top.values.tolist(), top.classes.tolist(), str(top.classes.dtype)
        ([0.7, 0.2], [1, 2], 'uint8')
    """
    classes = values.shape[-1]
    check_count("k", k, classes)
    found, places = jax.lax.top_k(values, k)
    return TopLabels(found, places.astype(index_dtype(classes)))


def index_dtype(num_classes: int) -> type:
    """The smallest unsigned integer that holds every class.

    Args:
        num_classes: K.

    Returns:
        The type.

    Raises:
        ValueError: if `num_classes` is not from 1 to 2 ** 32.
    """
    check_integer("num_classes", num_classes, at_most=2**32)
    return jnp.uint8 if num_classes <= 256 else jnp.uint16 if num_classes <= 65536 else jnp.uint32


def complete_hard(top: TopLabels, *, num_classes: int) -> Array:
    """FKD's rule for one stored class: all of the probability.

    Args:
        top: of probabilities; only the largest is used.
        num_classes: K.

    Returns:
        Distributions, ``[..., K]``.

    References:
        Shen and Xing, "A Fast Knowledge Distillation Framework for Visual Recognition" (FKD, ECCV
        2022), section on label quantisation, as are the next three.
    """
    _check_top(top, num_classes)
    return jax.nn.one_hot(top.classes[..., 0], num_classes)


def complete_smoothing(top: TopLabels, *, num_classes: int) -> Array:
    """FKD's rule for one stored probability: the rest is shared equally.

    Args:
        top: of probabilities; only the largest is used.
        num_classes: K.

    Returns:
        Distributions, ``[..., K]``.
    """
    _check_top(top, num_classes)
    first = TopLabels(top.values[..., :1], top.classes[..., :1])
    return complete_marginal_smoothing(first, num_classes=num_classes)


def complete_marginal_smoothing(top: TopLabels, *, num_classes: int) -> Array:
    """FKD's rule for k stored probabilities: the others share what is left equally.

    Args:
        top: of probabilities.
        num_classes: K.

    Returns:
        Distributions, ``[..., K]``.

    Example:
        >>> top = keep_top(jnp.array([0.1, 0.7, 0.1, 0.1]), 1)
        >>> complete_marginal_smoothing(top, num_classes=4).tolist()
        [0.1, 0.7, 0.1, 0.1]
    """
    values = top.values.astype(jnp.float32)
    k = values.shape[-1]
    left = jnp.maximum(1 - values.sum(-1, keepdims=True), 0)
    return _scatter(top.classes, values, left / max(num_classes - k, 1), num_classes)


def complete_marginal_renorm(top: TopLabels, *, num_classes: int) -> Array:
    """FKD's rule for k stored probabilities: divided by their sum, the others 0.

    Args:
        top: of probabilities.
        num_classes: K.

    Returns:
        Distributions, ``[..., K]``.
    """
    values = top.values.astype(jnp.float32)
    share = values / values.sum(-1, keepdims=True)
    return _scatter(top.classes, share, jnp.zeros_like(share[..., :1]), num_classes)


def complete_logit_renorm(top: TopLabels, *, num_classes: int) -> Array:
    """LPQLD's MR-k: softmax over the k stored logits, the others minus infinity.

    Args:
        top: of logits.
        num_classes: K.

    Returns:
        Logits, ``[..., K]``.

    References:
        Xiao and He, "Are Large-scale Soft Labels Necessary for Large-scale Dataset Distillation?"
        (LPLD, NeurIPS 2024), and the quantisation of its sequel LPQLD, as is the next.
    """
    values = top.values.astype(jnp.float32)
    return _scatter(top.classes, values, jnp.full_like(values[..., :1], -jnp.inf), num_classes)


def complete_logit_fill(top: TopLabels, *, num_classes: int) -> Array:
    """LPQLD's MRS: the others have the smallest of the stored logits.

    Args:
        top: of logits.
        num_classes: K.

    Returns:
        Logits, ``[..., K]``.
    """
    values = top.values.astype(jnp.float32)
    return _scatter(top.classes, values, values.min(-1, keepdims=True), num_classes)


def as_logits(probabilities: Array) -> Array:
    """Logits of a distribution, minus infinity for 0; LPQLD's MS is this of stored probabilities.

    Args:
        probabilities: ``[..., K]``.

    Returns:
        The same shape.
    """
    positive = probabilities > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, probabilities, 1)), -jnp.inf)


def _scatter(classes: Array, values: Array, rest: Array, num_classes: int) -> Array:
    """Rows of `rest` with the values at their classes."""
    _check_top(TopLabels(values, classes), num_classes)
    refuse_explicit_mesh(top=(values, classes))
    row = jnp.broadcast_to(rest, (*values.shape[:-1], num_classes))
    return jnp.put_along_axis(row, classes.astype(jnp.int32), values, -1, inplace=False)


def _check_top(top: TopLabels, num_classes: int) -> None:
    kept = top.values.shape[-1]
    if top.classes.shape != top.values.shape or not jnp.issubdtype(top.classes.dtype, jnp.integer):
        raise ValueError(
            f"top must hold an integer class for each of its values of shape {top.values.shape}, "
            f"got {top.classes.dtype} of shape {top.classes.shape}."
        )
    check_integer("num_classes", num_classes, at_least=kept)
