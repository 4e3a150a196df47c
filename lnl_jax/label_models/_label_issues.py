"""The labels that are wrong, ranked: probabilities in, issues out."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lnl_jax._host_arguments import host_classes
from lnl_jax.label_models._confident_filters import prune_by_noise_rate
from lnl_jax.label_models._confident_joint import calibrate_joint, confident_joint, noise_matrix
from lnl_jax.label_models._label_scores import self_confidence


class LabelIssues(NamedTuple):
    """Which labels are wrong.

    Attributes:
        ranking: all rows, the most suspicious first: the flagged ones in the order of their scores,
            then the others in theirs, ``[N]``.
        scores: how well each label fits, ``[N]``; smaller is more suspicious.
        flags: boolean, ``[N]``.
        suggested: the most probable class of each example, ``[N]``; the given one if as probable.
        noise_matrix: the estimated probability of a given label (columns) for each true class
            (rows), ``[K, K]``.

    Example:
        >>> LabelIssues._fields
        ('ranking', 'scores', 'flags', 'suggested', 'noise_matrix')
    """

    ranking: np.ndarray
    scores: np.ndarray
    flags: np.ndarray
    suggested: np.ndarray
    noise_matrix: np.ndarray


def find_label_issues(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    flag: Callable[..., np.ndarray] = prune_by_noise_rate,
    score: Callable[[np.ndarray, np.ndarray], np.ndarray] = self_confidence,
) -> LabelIssues:
    """Finds the labels that are wrong, by probabilities that were predicted without them.

    Args:
        probabilities: of models that have not seen the example's label, as those of cross
            validation, ``[N, K]``; rows sum to 1.
        labels: the given ones, integers from 0 to K - 1, ``[N]``.
        flag: which are wrong, a function of probabilities, labels and their `joint`, as
            :func:`prune_by_noise_rate`, :func:`prune_by_class`, :func:`prune_by_both`,
            :func:`confident_issues`, :func:`differing_issues`, :func:`lowest_scores`; their
            settings go in by `functools.partial`.
        score: how well a label fits, a function of probabilities and labels, as
            :func:`self_confidence`, :func:`normalized_margin`, :func:`confidence_weighted_entropy`.

    Returns:
        The ranking, whose first `flags.sum()` rows are the flagged ones, and what it is made of.

    Raises:
        ValueError: if the rows are no distributions (they are named), or the labels no classes.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.95, 0.05]])
        >>> issues = find_label_issues(probabilities, np.array([0, 1, 1, 1]))
        >>> issues.ranking.tolist(), issues.suggested[issues.flags].tolist()
        ([3, 2, 0, 1], [0])

    References:
        Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels"
        (JAIR 2021).
    """
    joint = confident_joint(probabilities, labels)
    labels = host_classes(labels, len(joint.classes))
    flags = flag(probabilities, labels, joint=joint)
    scores = score(probabilities, labels)
    return LabelIssues(
        ranking=np.lexsort((scores, ~flags)),
        scores=scores,
        flags=flags,
        suggested=joint.predicted,
        noise_matrix=noise_matrix(calibrate_joint(joint.counts, labels)),
    )
