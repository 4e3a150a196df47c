"""Which labels are wrong, by the confident joint: filters, each of which flags examples."""

from collections.abc import Callable

import numpy as np

from lnl_jax._host_arguments import check_integer, check_number, host_classes
from lnl_jax.label_models._confident_joint import ConfidentJoint, calibrate_joint, confident_joint
from lnl_jax.label_models._label_scores import self_confidence
from lnl_jax.label_models._probabilities import as_wide


def confident_issues(
    probabilities: np.ndarray, labels: np.ndarray, *, joint: ConfidentJoint | None = None
) -> np.ndarray:
    """Flags the examples that are confidently of another class (off the diagonal of the joint).

    Args:
        probabilities: of a model that has not seen the example's label, ``[N, K]``; rows sum to 1.
        labels: the given ones, integers from 0 to K - 1, ``[N]``.
        joint: :func:`confident_joint` of both, where it is at hand.

    Returns:
        Boolean, ``[N]``; an example whose label is the most probable class is not flagged.

    Raises:
        ValueError: as :func:`confident_joint` does, or if the joint is of other examples.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.95, 0.05]])
        >>> confident_issues(probabilities, np.array([0, 1, 1, 1])).tolist()
        [False, False, False, True]

    References:
        Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels"
        (JAIR 2021), section 3.2, method 2.
    """
    _, labels, joint = _read_with_joint(probabilities, labels, joint)
    return (joint.classes >= 0) & (joint.classes != labels) & (joint.predicted != labels)


def differing_issues(
    probabilities: np.ndarray, labels: np.ndarray, *, joint: ConfidentJoint | None = None
) -> np.ndarray:
    """Flags the examples of which another class is the most probable one.

    Args:
        probabilities: of a model that has not seen the example's label, ``[N, K]``; rows sum to 1.
        labels: the given ones, integers from 0 to K - 1, ``[N]``.
        joint: :func:`confident_joint` of both, where it is at hand.

    Returns:
        Boolean, ``[N]``.

    Raises:
        ValueError: as :func:`confident_joint` does, or if the joint is of other examples.

    Example:
        >>> differing_issues(np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([0, 0])).tolist()
        [False, True]

    References:
        Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels"
        (JAIR 2021), section 3.2, method 1.
    """
    _, labels, joint = _read_with_joint(probabilities, labels, joint)
    return joint.predicted != labels


def prune_by_class(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    joint: ConfidentJoint | None = None,
    min_examples: int = 1,
    fraction: float = 1.0,
) -> np.ndarray:
    r"""Flags as many of each class as are wrong by the calibrated joint, the least probable first.

    Of the :math:`N_k` examples labelled k it is the :math:`N_k - \tilde C_{kk}` with the smallest
    :math:`p_{ik}`; equal ones in the order of the rows.

    Args:
        probabilities: of a model that has not seen the example's label, ``[N, K]``; rows sum to 1.
        labels: the given ones, integers from 0 to K - 1, ``[N]``.
        joint: :func:`confident_joint` of both, where it is at hand; its counts are calibrated.
        min_examples: how many of a class stay at least; smaller classes are not pruned.
        fraction: of the wrong ones that are flagged, from 0 to 1.

    Returns:
        Boolean, ``[N]``; an example whose label is the most probable class is not flagged.

    Raises:
        ValueError: as :func:`confident_joint` does, if the joint is of other examples, or a number
            is out of range.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.95, 0.05]])
        >>> prune_by_class(probabilities, np.array([0, 1, 1, 1])).tolist()
        [False, False, False, True]

    References:
        Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels"
        (JAIR 2021), section 3.2, method 3.
    """
    probabilities, labels, joint = _read_with_joint(probabilities, labels, joint)
    counts = _counts_to_prune(joint, labels, min_examples, fraction)
    flags = np.zeros(len(labels), bool)
    for label, rows in _rows_by_class(labels, len(counts)):
        if len(rows) > min_examples:
            wrong = len(rows) - counts[label, label]
            flags[rows] = _largest(-probabilities[rows, label], wrong)
    return flags & (joint.predicted != labels)


def prune_by_noise_rate(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    joint: ConfidentJoint | None = None,
    min_examples: int = 1,
    fraction: float = 1.0,
) -> np.ndarray:
    r"""Flags as many of each pair of classes as are wrong by the calibrated joint.

    For each label k and class j it is the :math:`\tilde C_{kj}` examples labelled k with the
    largest :math:`p_{ij} - p_{ik}`; equal ones in the order of the rows.

    Args:
        probabilities: of a model that has not seen the example's label, ``[N, K]``; rows sum to 1.
        labels: the given ones, integers from 0 to K - 1, ``[N]``.
        joint: :func:`confident_joint` of both, where it is at hand; its counts are calibrated.
        min_examples: how many of a class stay at least; smaller classes are not pruned.
        fraction: of the wrong ones that are flagged, from 0 to 1.

    Returns:
        Boolean, ``[N]``; an example whose label is the most probable class is not flagged.

    Raises:
        ValueError: as :func:`confident_joint` does, if the joint is of other examples, or a number
            is out of range.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.95, 0.05]])
        >>> prune_by_noise_rate(probabilities, np.array([0, 1, 1, 1])).tolist()
        [False, False, False, True]

    References:
        Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels"
        (JAIR 2021), section 3.2, method 4.
    """
    probabilities, labels, joint = _read_with_joint(probabilities, labels, joint)
    counts = _counts_to_prune(joint, labels, min_examples, fraction)
    flags = np.zeros(len(labels), bool)
    for label, rows in _rows_by_class(labels, len(counts)):
        if len(rows) <= min_examples:
            continue
        wrong = counts[label].copy()
        wrong[label] = 0
        # Contiguous for each class.
        columns = np.ascontiguousarray(probabilities[rows].T)
        own = columns[label]
        found = np.zeros(len(rows), bool)
        for other in np.flatnonzero(wrong):
            found |= _largest(columns[other] - own, wrong[other])
        flags[rows] = found
    return flags & (joint.predicted != labels)


def prune_by_both(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    joint: ConfidentJoint | None = None,
    min_examples: int = 1,
    fraction: float = 1.0,
) -> np.ndarray:
    """Flags what :func:`prune_by_class` and :func:`prune_by_noise_rate` both flag.

    Args:
        probabilities: of a model that has not seen the example's label, ``[N, K]``; rows sum to 1.
        labels: the given ones, integers from 0 to K - 1, ``[N]``.
        joint: :func:`confident_joint` of both, where it is at hand; its counts are calibrated.
        min_examples: how many of a class stay at least; smaller classes are not pruned.
        fraction: of the wrong ones that are flagged, from 0 to 1.

    Returns:
        Boolean, ``[N]``.

    Raises:
        ValueError: as :func:`confident_joint` does, if the joint is of other examples, or a number
            is out of range.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.95, 0.05]])
        >>> prune_by_both(probabilities, np.array([0, 1, 1, 1])).tolist()
        [False, False, False, True]

    References:
        Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels"
        (JAIR 2021), section 3.2, method 5.
    """
    probabilities, labels, joint = _read_with_joint(probabilities, labels, joint)
    settings = {"joint": joint, "min_examples": min_examples, "fraction": fraction}
    by_class = prune_by_class(probabilities, labels, **settings)
    return by_class & prune_by_noise_rate(probabilities, labels, **settings)


def lowest_scores(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    joint: ConfidentJoint | None = None,
    score: Callable[[np.ndarray, np.ndarray], np.ndarray] = self_confidence,
) -> np.ndarray:
    """Flags the lowest scores, as many as :func:`confident_issues` flags.

    Args:
        probabilities: of a model that has not seen the example's label, ``[N, K]``; rows sum to 1.
        labels: the given ones, integers from 0 to K - 1, ``[N]``.
        joint: :func:`confident_joint` of both, where it is at hand.
        score: a function of probabilities and labels, as :func:`self_confidence`,
            :func:`normalized_margin` or :func:`confidence_weighted_entropy`.

    Returns:
        Boolean, ``[N]``; of equal scores those of the first rows.

    Raises:
        ValueError: as :func:`confident_joint` does, or if the joint is of other examples.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.95, 0.05]])
        >>> lowest_scores(probabilities, np.array([0, 1, 1, 1])).tolist()
        [False, False, False, True]

    References:
        Northcutt, Athalye and Mueller, "Pervasive Label Errors in Test Sets Destabilize Machine
        Learning Benchmarks" (NeurIPS 2021), section 3.
    """
    probabilities, labels, joint = _read_with_joint(probabilities, labels, joint)
    count = confident_issues(probabilities, labels, joint=joint).sum()
    return _largest(-score(probabilities, labels), count)


def _counts_to_prune(
    joint: ConfidentJoint, labels: np.ndarray, min_examples: int, fraction: float
) -> np.ndarray:
    """Calibrated counts whose diagonal keeps `min_examples`, the others taken in a fraction."""
    check_integer("min_examples", min_examples)
    check_number("fraction", fraction, at_least=0, at_most=1)
    counts = calibrate_joint(joint.counts, labels)
    kept = np.maximum(counts.diagonal(), min_examples)
    wrong_classes = np.maximum(np.count_nonzero(counts, axis=-1) - 1, 1)
    # What the diagonal is given is taken from the other counts alike.
    taken = (kept - counts.diagonal()) / wrong_classes
    left = np.maximum(counts - taken[:, None], 0)
    np.fill_diagonal(left, 0)
    pruned = left * fraction
    np.fill_diagonal(pruned, kept + (left - pruned).sum(-1))
    return pruned.astype(np.int64)


def _rows_by_class(labels: np.ndarray, num_classes: int) -> list[tuple[int, np.ndarray]]:
    """Each class with its rows in their order."""
    # Of 16 bits they are sorted by counting.
    narrow = labels.astype(np.uint16) if num_classes <= 2**16 else labels
    order = np.argsort(narrow, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=num_classes))
    return list(enumerate(np.split(order, ends[:-1])))


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Flags so many of the values; of equal ones, the first."""
    if count <= 0 or count >= len(values):
        return np.full(len(values), count > 0)
    edge = np.partition(values, len(values) - count)[len(values) - count]
    flags = values > edge
    flags[np.flatnonzero(values == edge)[: count - flags.sum()]] = True
    return flags


def _read_with_joint(
    probabilities: np.ndarray, labels: np.ndarray, joint: ConfidentJoint | None
) -> tuple[np.ndarray, np.ndarray, ConfidentJoint]:
    """The probabilities are read once, where the joint is made."""
    if joint is None:
        joint = confident_joint(probabilities, labels)
    probabilities = as_wide(probabilities)
    labels = host_classes(labels, len(probabilities), len(joint.counts))
    if probabilities.shape != (len(joint.classes), len(joint.thresholds)):
        raise ValueError(
            f"joint must be of these examples: it is of {len(joint.classes)} and "
            f"{len(joint.thresholds)} classes, probabilities have the shape {probabilities.shape}."
        )
    return probabilities, labels, joint
