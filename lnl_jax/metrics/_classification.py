"""Accuracy and its relatives, each an `Average`."""

import jax
import jax.numpy as jnp
import optax
from jax import Array

from lnl_jax._arguments import check_count
from lnl_jax.metrics._average import Average, average, group_sums
from lnl_jax.metrics._checks import read_classes_below, read_scores, read_where


def accuracy(logits: Array, labels: Array, *, where: Array | None = None) -> Average:
    """How often the largest score is the label's.

    Args:
        logits: scores, shape ``[..., K]``.
        labels: classes, integers of shape ``[...]``.
        where: boolean, the examples to count, ``[...]``; None counts all.

    Returns:
        The `Average` over the counted examples.

    Raises:
        ValueError: if `labels` or `where` have another shape or type.

    Example:
        >>> logits = jnp.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
        >>> counted = jnp.array([True, True, False])
        >>> float(accuracy(logits, jnp.array([0, 0, 1]), where=counted).value)
        0.5
    """
    logits, labels = read_scores(logits, labels)
    return average(logits.argmax(-1) == labels, where)


def top_k_accuracy(logits: Array, labels: Array, k: int, *, where: Array | None = None) -> Average:
    """How often the label's score is one of the k largest.

    Equal scores rank in the order of the classes, as they do for the largest one: with ``k=1`` this
    is `accuracy`, and a model that scores all classes alike gains nothing by it.

    Args:
        logits: scores, shape ``[..., K]``.
        labels: classes, integers of shape ``[...]``.
        k: a Python integer from 1 to K.
        where: boolean, the examples to count, ``[...]``; None counts all.

    Returns:
        The `Average` over the counted examples. A label outside ``[0, K)`` counts as wrong, and so
        does one whose score is NaN; a NaN of another class ranks before every number.

    Raises:
        ValueError: if `labels` or `where` have another shape or type, or `k` is out of range.

    Example:
        >>> logits = jnp.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
        >>> float(top_k_accuracy(logits, jnp.array([1, 2]), 2).value)
        0.5
    """
    logits, labels = read_scores(logits, labels)
    check_count("k", k, logits.shape[-1])
    valid = labels >= 0
    index = jnp.where(valid, labels, 0)[..., None]
    own = jnp.take_along_axis(logits, index, -1)
    classes = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    # Counting takes one pass, where sorting takes many. No NaN is at most another number.
    ahead = ~(logits <= own) | ((logits == own) & (classes < index))
    return average(valid & (ahead.sum(-1) < k), where)


def per_class_accuracy(logits: Array, labels: Array, *, where: Array | None = None) -> Average:
    """The accuracy on the examples of each class.

    `class_mean` of it, after all batches are merged, is the balanced accuracy.

    Args:
        logits: scores, shape ``[..., K]``.
        labels: classes, integers of shape ``[...]``; one outside ``[0, K)`` is of no class and
            counts nowhere.
        where: boolean, the examples to count, ``[...]``; None counts all.

    Returns:
        An `Average` for each class, its `total` and `count` of shape ``[K]``; the value of a class
        without examples is NaN.

    Raises:
        ValueError: if `labels` or `where` have another shape or type.

    Example:
        >>> logits = jnp.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
        >>> per_class_accuracy(logits, jnp.array([0, 0, 1])).value.tolist()
        [0.5, 0.0]
    """
    logits, labels = read_scores(logits, labels)
    correct = logits.argmax(-1) == labels
    num_classes = logits.shape[-1]
    return Average(
        group_sums(correct, labels, num_classes, where),
        group_sums(jnp.ones_like(correct), labels, num_classes, where),
    )


def class_mean(average: Average) -> Array:
    """The mean over the classes that occur, each with the same weight.

    Of `per_class_accuracy` this is the balanced accuracy, the mean recall. It does not add up:
    merge the batches first.

    Args:
        average: with `total` and `count` of shape ``[..., K]``.

    Returns:
        The mean of the values whose count is not 0, ``[...]``; NaN where all are.

    Example:
        >>> first = Average(jnp.array([3.0, 0.0, 0.0]), jnp.array([4.0, 1.0, 0.0]))
        >>> float(class_mean(first))
        0.375

    References:
        Brodersen et al., "The Balanced Accuracy and Its Posterior Distribution" (ICPR 2010).
    """
    occurs = average.count > 0
    total = jnp.where(occurs, average.value, 0).sum(-1)
    return Average(total, occurs.sum(-1).astype(total.dtype)).value


def negative_log_likelihood(logits: Array, labels: Array, *, where: Array | None = None) -> Average:
    r"""Mean :math:`-\log \mathrm{softmax}(f)_y`, in nats.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``.
        labels: classes, integers of shape ``[...]``.
        where: boolean, the examples to count, ``[...]``; None counts all.

    Returns:
        The `Average` over the counted examples; its value is NaN if a label is outside ``[0, K)``.

    Raises:
        ValueError: if `labels` or `where` have another shape or type.

    Example:
        >>> round(float(negative_log_likelihood(jnp.zeros((1, 10)), jnp.array([3])).value), 3)
        2.303
    """
    logits, labels = read_scores(logits, labels)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)
    # Optax takes a negative label for one that counts from the last class.
    return average(jnp.where(labels >= 0, losses, jnp.nan), where)


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
        ValueError: if the labels or `where` have another shape or type.

    Example:
        >>> logits = jnp.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
        >>> given, clean = jnp.array([0, 0, 1]), jnp.array([1, 1, 1])
        >>> float(memorization(logits, given, clean).value)
        0.5

    References:
        Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels"
        (NeurIPS 2020), the memorised fraction of Figure 1.
    """
    logits, labels = read_scores(logits, labels)
    clean = read_classes_below("clean_labels", clean_labels, labels.shape, logits.shape[-1])
    false = labels != clean
    return average(logits.argmax(-1) == labels, false & read_where(where, false.shape))
