"""Which labels are wrong where an example has several: each class is a question of its own."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lnl_jax._host_arguments import host_array
from lnl_jax.label_models._confident_filters import prune_by_noise_rate
from lnl_jax.label_models._confident_joint import confident_joint
from lnl_jax.label_models._label_scores import moving_minimum


class MultilabelIssues(NamedTuple):
    """Which labels of which examples are wrong.

    Attributes:
        ranking: all rows, the most suspicious first: those with a flag in the order of their
            scores, then the others in theirs, ``[N]``.
        scores: how well the labels of an example fit, ``[N]``; smaller is more suspicious.
        flags: boolean, for each class whether it is wrongly given or wrongly missing, ``[N, L]``.
        label_scores: probability of what was given for each class, ``[N, L]``.

    Example:
        >>> MultilabelIssues._fields
        ('ranking', 'scores', 'flags', 'label_scores')
    """

    ranking: np.ndarray
    scores: np.ndarray
    flags: np.ndarray
    label_scores: np.ndarray


def multilabel_scores(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    r"""Probability of what was given for each class: p where it was, 1 - p where it was not.

    Args:
        probabilities: of each class by itself, of a model that has not seen the labels, ``[N, L]``.
        targets: 0 or 1, integers or booleans, ``[N, L]``.

    Returns:
        From 0 to 1, ``[N, L]``; smaller is more suspicious. :func:`moving_minimum` or
        :func:`soft_minimum` makes one score for each example of it.

    Raises:
        ValueError: if the probabilities are not from 0 to 1 (rows are named) or the targets neither
            0 nor 1.

    Example:
        >>> multilabel_scores(np.array([[0.9, 0.75]]), np.array([[1, 0]])).tolist()
        [[0.9, 0.25]]

    References:
        Thyagarajan, Snorrason, Northcutt and Mueller, "Identifying Incorrect Annotations in
        Multi-Label Classification Data" (2022).
    """
    probabilities, targets = _read(probabilities, targets)
    return np.where(targets, probabilities, 1 - probabilities)


def find_multilabel_issues(
    probabilities: np.ndarray,
    targets: np.ndarray,
    *,
    flag: Callable[..., np.ndarray] = prune_by_noise_rate,
    pool: Callable[[np.ndarray], np.ndarray] = moving_minimum,
) -> MultilabelIssues:
    """Finds wrong labels of examples with several, by confident learning of each class alone.

    Args:
        probabilities: of each class by itself, of a model that has not seen the labels, ``[N, L]``.
        targets: 0 or 1, integers or booleans, ``[N, L]``.
        flag: which are wrong, as :func:`find_label_issues` takes it; it is called with the two
            probabilities of a class, ``[N, 2]``.
        pool: one score of the scores of all classes, ``[N, L]`` to ``[N]``.

    Returns:
        The ranking, whose first `flags.any(-1).sum()` rows have a flag, and what it is made of.

    Raises:
        ValueError: if the probabilities are not from 0 to 1 (rows are named) or the targets neither
            0 nor 1.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.95, 0.9], [0.1, 0.2]])
        >>> targets = np.array([[1, 0], [0, 1], [0, 1], [0, 0]])
        >>> find_multilabel_issues(probabilities, targets).ranking.tolist()
        [2, 1, 3, 0]

    References:
        Thyagarajan, Snorrason, Northcutt and Mueller, "Identifying Incorrect Annotations in
        Multi-Label Classification Data" (2022).
    """
    label_scores = multilabel_scores(probabilities, targets)
    probabilities, targets = _read(probabilities, targets)
    flags = np.empty(targets.shape, bool)
    for column, given in enumerate(targets.T):
        present = probabilities[:, column]
        both = np.stack([1 - present, present], -1)
        labels = given.astype(np.int32)
        flags[:, column] = flag(both, labels, joint=confident_joint(both, labels))
    scores = pool(label_scores)
    ranking = np.lexsort((scores, ~flags.any(-1)))
    return MultilabelIssues(ranking, scores, flags, label_scores)


def _read(probabilities: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probabilities, targets = (
        host_array("probabilities", probabilities, np.float64),
        host_array("targets", targets),
    )
    if probabilities.ndim != 2 or 0 in probabilities.shape:
        raise ValueError(
            f"probabilities must have the shape [N, L], a row for each example; got "
            f"{probabilities.shape}."
        )
    broken = np.flatnonzero(~((probabilities >= 0) & (probabilities <= 1)).all(-1))
    if broken.size:
        raise ValueError(
            f"probabilities must be from 0 to 1; {broken.size} of {len(probabilities)} rows are "
            f"not, the first is row {broken[0]}: {probabilities[broken[0]]}."
        )
    if targets.shape != probabilities.shape or targets.dtype.kind not in "iub":
        raise ValueError(
            f"targets must be 0 or 1 for each class, integers of shape {probabilities.shape}; got "
            f"{targets.dtype} of shape {targets.shape}."
        )
    broken = np.flatnonzero(((targets != 0) & (targets != 1)).any(-1))
    if broken.size:
        raise ValueError(
            f"targets must be 0 or 1; {broken.size} of {len(targets)} rows are not, the first is "
            f"row {broken[0]}: {targets[broken[0]]}."
        )
    return probabilities, targets.astype(bool)
