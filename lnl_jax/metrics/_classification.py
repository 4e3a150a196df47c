"""Accuracy and its relatives, each an `Average`."""

import jax.numpy as jnp
import optax
from jax import Array

from lnl_jax.metrics._average import Average, average, check_mask


def accuracy(logits: Array, labels: Array, *, where: Array | None = None) -> Average:
    """How often the largest score is the label's.

    Args:
        logits: scores, shape ``[..., K]``.
        labels: classes, integers of shape ``[...]``.
        where: boolean, the examples to count, ``[...]``; None counts all.

    Returns:
        The `Average` over the counted examples.

    Raises:
        ValueError: if `labels` or `where` have another shape.

    Example:
        >>> logits = jnp.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
        >>> counted = jnp.array([True, True, False])
        >>> float(accuracy(logits, jnp.array([0, 0, 1]), where=counted).value)
        0.5
    """
    _check_labels(logits, labels)
    return average(logits.argmax(-1) == labels.astype(jnp.int32), where)


def negative_log_likelihood(logits: Array, labels: Array, *, where: Array | None = None) -> Average:
    r"""Mean :math:`-\log \mathrm{softmax}(f)_y`, in nats.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``.
        labels: classes, integers of shape ``[...]``.
        where: boolean, the examples to count, ``[...]``; None counts all.

    Returns:
        The `Average` over the counted examples; its value is NaN if a label is outside ``[0, K)``.

    Raises:
        ValueError: if `labels` or `where` have another shape.

    Example:
        >>> round(float(negative_log_likelihood(jnp.zeros((1, 10)), jnp.array([3])).value), 3)
        2.303
    """
    _check_labels(logits, labels)
    labels = labels.astype(jnp.int32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)
    # Optax takes a negative label for one that counts from the last class.
    outside = (labels < 0) | (labels >= logits.shape[-1])
    return average(jnp.where(outside, jnp.nan, losses), where)


def memorization(
    logits: Array, labels: Array, clean_labels: Array, *, where: Array | None = None
) -> Average:
    """The fraction of the falsely labelled examples whose false label is predicted.

    Args:
        logits: scores, shape ``[..., K]``.
        labels: the labels that were trained on, integers of shape ``[...]``.
        clean_labels: the true ones, integers of shape ``[...]``.
        where: boolean, the examples to count, ``[...]``; None counts all.

    Returns:
        The `Average` over those of them whose two labels differ; its value is NaN if none does.

    Raises:
        ValueError: if the labels or `where` have another shape.

    Example:
        >>> logits = jnp.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
        >>> given, clean = jnp.array([0, 0, 1]), jnp.array([1, 1, 1])
        >>> float(memorization(logits, given, clean).value)
        0.5

    References:
        Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels"
        (NeurIPS 2020), the memorised fraction of Figure 1.
    """
    _check_labels(logits, labels)
    _check_labels(logits, clean_labels)
    false = labels.astype(jnp.int32) != clean_labels.astype(jnp.int32)
    if where is not None:
        check_mask(where, false.shape)
        false &= where
    return average(logits.argmax(-1) == labels.astype(jnp.int32), false)


def _check_labels(logits: Array, labels: Array) -> None:
    if labels.shape != logits.shape[:-1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels must be integers of shape {logits.shape[:-1]}, as logits have; got "
            f"{labels.dtype} of shape {labels.shape}."
        )
