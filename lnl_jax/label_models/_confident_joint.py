"""What confident predictions say of the labels: counts of given and true classes, noise matrices.

Shapes: ``N`` examples, ``K`` classes. Counts are ``[given, true]``, so that row k holds the
examples that were labelled k.
"""

from typing import NamedTuple

import numpy as np

from lnl_jax._host_arguments import host_array, read_class_numbers
from lnl_jax.label_models._probabilities import own_entries, read_labelled, row_blocks

# Probabilities that differ by less are equal.
EQUAL = 1e-6

# No probability reaches it, so nothing is counted into a class without an example.
NEVER = 2.0

SMALLEST_PRIOR = 1e-6


class ConfidentJoint(NamedTuple):
    """What the confident predictions say of the labels.

    Attributes:
        counts: how many examples were labelled k and are confidently of class j, integers,
            ``[K, K]``, at least 1 on the diagonal.
        thresholds: from which probability on a class is confident, ``[K]``.
        classes: the confident class of each example, ``[N]``; -1 where none is.
        predicted: the most probable class, ``[N]``; the given one if it is within 1e-6 of it.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
        >>> confident_joint(probabilities, np.array([0, 1, 0])).classes.tolist()
        [0, 1, -1]
    """

    counts: np.ndarray
    thresholds: np.ndarray
    classes: np.ndarray
    predicted: np.ndarray


def confident_thresholds(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    r"""Mean probability of each class among the examples that are labelled so.

    .. math::
        t_k = \frac{1}{|\{i : y_i = k\}|} \sum_{i : y_i = k} p_{ik}

    Args:
        probabilities: of a model that has not seen the example's label, ``[N, K]``; rows sum to 1.
        labels: the given ones, integers from 0 to K - 1, ``[N]``.

    Returns:
        float64, ``[K]``, at least 2e-6; 2 for a class that no example is labelled.

    Raises:
        ValueError: if the rows are no distributions (they are named), or the labels no classes.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
        >>> confident_thresholds(probabilities, np.array([0, 1, 0])).tolist()
        [0.8, 0.8]

    References:
        Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels"
        (JAIR 2021), Eq. 2.
    """
    return _thresholds(*read_labelled(probabilities, labels))


def confident_joint(
    probabilities: np.ndarray, labels: np.ndarray, *, thresholds: np.ndarray | None = None
) -> ConfidentJoint:
    r"""Counts of given labels and the classes that the model is confident of.

    .. math::
        C_{kj} = |\{i : y_i = k, \; g_i = j\}|, \qquad C_{kk} \geq 1

    An example is confidently of class j if :math:`p_{ij} \geq t_j - 10^{-6}`. With one such class
    :math:`g_i` is that class, with several it is the most probable of all classes, and with none
    the example is not counted.

    Args:
        probabilities: of a model that has not seen the example's label, ``[N, K]``; rows sum to 1.
        labels: the given ones, integers from 0 to K - 1, ``[N]``.
        thresholds: t, ``[K]``; by default :func:`confident_thresholds`.

    Returns:
        The counts, and what they come from.

    Raises:
        ValueError: if the rows are no distributions (they are named), the labels no classes, or the
            thresholds do not fit.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.95, 0.05]])
        >>> confident_joint(probabilities, np.array([0, 1, 1, 1])).counts.tolist()
        [[1, 0], [1, 2]]

    References:
        Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels"
        (JAIR 2021), Eq. 1, and section 3.1 for collisions.
    """
    probabilities, labels = read_labelled(probabilities, labels)
    num_classes = probabilities.shape[1]
    if thresholds is None:
        thresholds = _thresholds(probabilities, labels)
    thresholds = host_array("thresholds", thresholds, np.float64)
    if thresholds.shape != (num_classes,) or np.isnan(thresholds).any():
        raise ValueError(
            f"thresholds must be a number for each class, shape {(num_classes,)}; got the shape "
            f"{thresholds.shape} with {np.isnan(thresholds).sum()} NaN."
        )
    classes, predicted = (np.empty(len(labels), np.int32) for _ in range(2))
    for block in row_blocks(probabilities):
        rows, given = probabilities[block], labels[block]
        top = rows.argmax(-1)
        classes[block] = _confident_classes(rows, top, thresholds - EQUAL)
        predicted[block] = _label_if_as_probable(rows, top, given)
    counted = classes >= 0
    pairs = labels[counted] * np.int64(num_classes) + classes[counted]
    counts = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    np.fill_diagonal(counts, np.maximum(counts.diagonal(), 1))
    return ConfidentJoint(counts, thresholds, classes, predicted)


def calibrate_joint(counts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    r"""The counts scaled to all examples: rows to the number of labels, the whole to N.

    .. math::
        \tilde C_{kj} = \frac{C_{kj}}{\sum_l C_{kl}} |\{i : y_i = k\}|

    Then whole numbers, with the same sum in each row: those whose rounding went furthest the wrong
    way take the difference.

    Args:
        counts: of :func:`confident_joint`, or any other, at least 0, ``[K, K]``.
        labels: the given ones, integers from 0 to K - 1, ``[N]``.

    Returns:
        Integers, ``[K, K]``, of sum N.

    Raises:
        ValueError: if the counts are no matrix of counts or all 0, or the labels no classes.

    Example:
        >>> calibrate_joint(np.array([[2, 0], [1, 2]]), np.array([0, 0, 0, 0, 1, 1])).tolist()
        [[4, 0], [1, 1]]

    References:
        Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels"
        (JAIR 2021), Eq. 3.
    """
    counts = _read_counts(counts)
    given = _label_counts(labels, len(counts))
    totals = counts.sum(-1, keepdims=True)
    scaled = counts / np.where(totals > 0, totals, 1) * given[:, None]
    if not scaled.any():
        raise ValueError(
            "counts must not be 0 in every row of a class that labels hold; count again with lower "
            "thresholds."
        )
    # A class that was given but has no count leaves its examples to the others.
    scaled = scaled / scaled.sum() * given.sum()
    return np.stack([_round_with_sum(row) for row in scaled])


def noise_matrix(counts: np.ndarray) -> np.ndarray:
    r"""Probability of each given label for each true class, :math:`C_{kj} / \sum_l C_{lj}`.

    Args:
        counts: of given labels (rows) and true classes (columns), ``[K, K]``.

    Returns:
        ``[true, given]``, rows of sum 1, as `losses.forward_correction` takes it. A class that
        nothing is counted into is taken to keep its label.

    Raises:
        ValueError: if the counts are no matrix of counts.

    Example:
        >>> noise_matrix(np.array([[3, 0], [1, 2]])).tolist()
        [[0.75, 0.25], [0.0, 1.0]]

    References:
        Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels"
        (JAIR 2021), section 2.
    """
    return _rows_of_sum_one(_read_counts(counts).T)


def inverse_noise_matrix(counts: np.ndarray) -> np.ndarray:
    r"""Probability of each true class for each given label, :math:`C_{kj} / \sum_l C_{kl}`.

    Args:
        counts: of given labels (rows) and true classes (columns), ``[K, K]``.

    Returns:
        ``[given, true]``, rows of sum 1. A label that was never given is taken to be true.

    Raises:
        ValueError: if the counts are no matrix of counts.

    Example:
        >>> inverse_noise_matrix(np.array([[3, 0], [1, 1]])).tolist()
        [[1.0, 0.0], [0.5, 0.5]]

    References:
        Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels"
        (JAIR 2021), section 2.
    """
    return _rows_of_sum_one(_read_counts(counts))


def class_prior(counts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    r"""Share of each true class, by the diagonals of the noise matrices.

    .. math::
        \pi_k \propto \frac{P(\text{true} = k \mid \text{given} = k)}
        {P(\text{given} = k \mid \text{true} = k)} P(\text{given} = k)

    clipped to 1e-6 to 1. The diagonals are what is estimated best.

    Args:
        counts: of given labels (rows) and true classes (columns), ``[K, K]``.
        labels: the given ones, integers from 0 to K - 1, ``[N]``.

    Returns:
        ``[K]``, of sum 1.

    Raises:
        ValueError: if the counts are no matrix of counts, or the labels no classes.

    Example:
        >>> class_prior(np.array([[3, 0], [1, 1]]), np.array([0, 0, 0, 1, 1])).round(3).tolist()
        [0.8, 0.2]

    References:
        Northcutt, Wu and Chuang, "Learning with Confident Examples: Rank Pruning for Robust
        Classification with Noisy Labels" (UAI 2017).
    """
    counts = _read_counts(counts)
    given = _label_counts(labels, len(counts))
    kept = noise_matrix(counts).diagonal()
    still = inverse_noise_matrix(counts).diagonal() * given / given.sum()
    prior = np.divide(still, kept, out=np.zeros(len(given)), where=kept > 0)
    prior = np.clip(prior, SMALLEST_PRIOR, 1)
    return prior / prior.sum()


def _thresholds(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    num_classes = probabilities.shape[1]
    own = own_entries(probabilities, labels)
    given = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, own, num_classes)
    means = np.divide(sums, given, out=np.full(num_classes, NEVER), where=given > 0)
    # Above what counts as equal to 0.
    return np.maximum(means, 2 * EQUAL)


def _confident_classes(rows: np.ndarray, top: np.ndarray, least: np.ndarray) -> np.ndarray:
    # If the most probable class is confident, it is the answer, however many others are.
    classes = np.where(own_entries(rows, top) >= least[top], top, -1)
    left = np.flatnonzero(classes < 0)
    confident = rows[left] >= least
    count = confident.sum(-1)
    only = np.where(count == 1, confident.argmax(-1), -1)
    classes[left] = np.where(count > 1, top[left], only)
    return classes


def _label_if_as_probable(rows: np.ndarray, top: np.ndarray, labels: np.ndarray) -> np.ndarray:
    own = own_entries(rows, labels) + rows.dtype.type(EQUAL)
    return np.where(own >= own_entries(rows, top), labels, top)


def _round_with_sum(row: np.ndarray) -> np.ndarray:
    """Whole numbers of the same sum."""
    whole = np.round(row)
    total = np.round(row.sum())
    while (missing := int(total - whole.sum())) != 0:
        order = np.argsort(row - whole, kind="stable")
        order = order[::-1] if missing > 0 else order
        whole[order[: abs(missing)]] += np.sign(missing)
    return whole.astype(np.int64)


def _rows_of_sum_one(counts: np.ndarray) -> np.ndarray:
    totals = counts.sum(-1, keepdims=True)
    shares = counts / np.where(totals > 0, totals, 1)
    return np.where(totals > 0, shares, np.eye(len(counts)))


def _read_counts(counts: np.ndarray) -> np.ndarray:
    counts = host_array("counts", counts)
    is_square = counts.ndim == 2 and counts.shape[0] == counts.shape[1] >= 2
    if not is_square or counts.dtype.kind not in "iuf":
        raise ValueError(
            f"counts must be numbers of shape [K, K], given labels by true classes; got "
            f"{counts.dtype} of shape {counts.shape}."
        )
    if not (np.isfinite(counts) & (counts >= 0)).all():
        raise ValueError(f"counts must be finite and at least 0, got {counts.min()} as the least.")
    return counts


def _label_counts(labels: np.ndarray, num_classes: int) -> np.ndarray:
    labels = read_class_numbers(labels, num_classes)
    if not len(labels):
        raise ValueError("labels must hold at least one label, got none.")
    return np.bincount(labels, minlength=num_classes)
