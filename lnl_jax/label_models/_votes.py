"""Votes: each label counts alike, or as much as its annotator agrees with the others."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from lnl_jax._host_arguments import check_integer, check_number
from lnl_jax.label_models._annotations import (
    Annotations,
    class_sums,
    mean_of_annotators,
    read_annotations,
    vote_counts,
)
from lnl_jax.label_models._probabilities import read_probabilities


class Consensus(NamedTuple):
    """What a vote says of the items, and of those who voted.

    Attributes:
        probabilities: of each class, ``[N, K]``, float64.
        annotator_quality: how often an annotator gave the label that won, from 0 to 1, ``[J]``.
        iterations: how often the votes were counted.

    Example:
        >>> normalized_votes([[0, 0, 1], [0, 1, 1], [0, 2, 0]]).probabilities.round(2).tolist()
        [[0.33, 0.67]]
    """

    probabilities: np.ndarray
    annotator_quality: np.ndarray
    iterations: int


def majority_vote(
    annotations: Annotations | ArrayLike, *, num_classes: int | None = None
) -> Consensus:
    r"""Gives each item the label that most of its annotators gave, as a hard label.

    .. math::
        p_{ik} = 1\big[k = \arg\max_c n_{ic}\big]

    with :math:`n_{ic}` annotators who gave class c. A tie goes to the class that was given more
    often over all items, then to the lower one.

    Args:
        annotations: triples of item, annotator and label, ``[M, 3]``, or `Annotations`.
        num_classes: K; None takes one more than the largest label.

    Returns:
        `Consensus`.

    Raises:
        ValueError: as :func:`read_annotations`.

    Example:
        >>> majority_vote([[0, 0, 1], [0, 1, 1], [0, 2, 0]]).probabilities.tolist()
        [[0.0, 1.0]]

    References:
        Wright & Augenstein, "Aggregating Soft Labels from Crowd Annotations Improves Uncertainty
        Estimation Under Distribution Shift" (2022), Section 3.
    """
    given = read_annotations(annotations, num_classes)
    winner = winners(given, vote_counts(given))
    return Consensus(np.eye(given.num_classes)[winner], _agreement(given, winner), 1)


def normalized_votes(
    annotations: Annotations | ArrayLike, *, num_classes: int | None = None
) -> Consensus:
    r"""Takes the share of the annotators who gave a class for its probability.

    .. math::
        p_{ik} = n_{ik} / \sum_c n_{ic}

    Args:
        annotations: triples of item, annotator and label, ``[M, 3]``, or `Annotations`.
        num_classes: K; None takes one more than the largest label.

    Returns:
        `Consensus`.

    Raises:
        ValueError: as :func:`read_annotations`.

    Example:
        >>> normalized_votes([[0, 0, 1], [0, 1, 1], [0, 2, 0]]).probabilities.round(2).tolist()
        [[0.33, 0.67]]

    References:
        Wright & Augenstein, "Aggregating Soft Labels from Crowd Annotations Improves Uncertainty
        Estimation Under Distribution Shift" (2022), Section 3.
    """
    given = read_annotations(annotations, num_classes)
    counts = vote_counts(given)
    return Consensus(normalized(counts), _agreement(given, winners(given, counts)), 1)


def softmax_votes(
    annotations: Annotations | ArrayLike, *, num_classes: int | None = None
) -> Consensus:
    r"""Takes the softmax of the counts: more annotators who agree are surer.

    .. math::
        p_{ik} = \exp(n_{ik}) / \sum_c \exp(n_{ic})

    Args:
        annotations: triples of item, annotator and label, ``[M, 3]``, or `Annotations`.
        num_classes: K; None takes one more than the largest label.

    Returns:
        `Consensus`.

    Raises:
        ValueError: as :func:`read_annotations`.

    Example:
        >>> softmax_votes([[0, 0, 1], [0, 1, 1], [0, 2, 0]]).probabilities.round(2).tolist()
        [[0.27, 0.73]]

    References:
        Wright & Augenstein, "Aggregating Soft Labels from Crowd Annotations Improves Uncertainty
        Estimation Under Distribution Shift" (2022), Section 3.
    """
    given = read_annotations(annotations, num_classes)
    counts = vote_counts(given)
    agreement = _agreement(given, winners(given, counts))
    return Consensus(special.softmax(counts, 1), agreement, 1)


def wawa(annotations: Annotations | ArrayLike, *, num_classes: int | None = None) -> Consensus:
    r"""Weighs each vote by how often its annotator agrees with the majority.

    .. math::
        p_{ik} \propto \sum_{j} a_j 1[y_{ij} = k]

    with :math:`a_j` the share of the labels of annotator j that the majority of the item gave too
    (worker agreement with aggregate), ties as in :func:`majority_vote`.

    Args:
        annotations: triples of item, annotator and label, ``[M, 3]``, or `Annotations`.
        num_classes: K; None takes one more than the largest label.

    Returns:
        `Consensus`, with the weights :math:`a_j` as quality.

    Raises:
        ValueError: as :func:`read_annotations`.

    Example:
        >>> found = wawa([[0, 0, 0], [0, 1, 0], [0, 2, 1], [1, 0, 1], [1, 1, 1], [1, 2, 1]])
        >>> found.probabilities.tolist(), found.annotator_quality.tolist()
        ([[0.8, 0.2], [0.0, 1.0]], [1.0, 1.0, 0.5])

    References:
        Ustalov et al., "Learning from Crowds with Crowd-Kit" (JOSS 2024), the
        aggregation by worker agreement.
    """
    given = read_annotations(annotations, num_classes)
    quality = _agreement(given, winners(given, vote_counts(given)))
    return Consensus(_weighted(given, quality), quality, 2)


def zero_based_skill(
    annotations: Annotations | ArrayLike,
    *,
    num_classes: int | None = None,
    iterations: int = 100,
    learning_rate: float = 1.0,
    halved_every: int = 20,
) -> Consensus:
    r"""Weighs votes by skills, which move towards the agreement with the weighted vote.

    .. math::
        s_j \leftarrow s_j + \eta_t (a_j(s) - s_j), \qquad
        p_{ik} \propto \sum_{j} s_j 1[y_{ij} = k]

    with :math:`a_j(s)` the share of annotator j's labels that win the vote with the weights s, of
    a tie the lower class. All skills start a little above chance, at :math:`1 / K + 10^{-5}`.

    Args:
        annotations: triples of item, annotator and label, ``[M, 3]``, or `Annotations`.
        num_classes: K; None takes one more than the largest label.
        iterations: how often the skills move.
        learning_rate: :math:`\eta` at the start, above 0 and at most 1.
        halved_every: after how many iterations it is halved, each time.

    Returns:
        `Consensus`, with the skills as quality.

    Raises:
        ValueError: as :func:`read_annotations`, or if a number is out of range.

    Example:
        >>> found = zero_based_skill([[0, 0, 0], [0, 1, 0], [0, 2, 1], [1, 0, 1], [1, 2, 1]])
        >>> found.probabilities.round(2).tolist()
        [[0.8, 0.2], [0.0, 1.0]]

    References:
        Ustalov et al., "Learning from Crowds with Crowd-Kit" (JOSS 2024), the
        aggregation by zero-based skill.
    """
    check_integer("iterations", iterations)
    check_integer("halved_every", halved_every)
    check_number("learning_rate", learning_rate, above=0, at_most=1)
    given = read_annotations(annotations, num_classes)
    skill = np.full(given.num_annotators, 1 / given.num_classes + 1e-5)
    for iteration in range(1, iterations + 1):
        winner = _weighted(given, skill).argmax(1)
        rate = learning_rate * 0.5 ** (iteration // halved_every)
        skill += rate * (_agreement(given, winner) - skill)
    return Consensus(_weighted(given, skill), skill, iterations)


def average_distribution(distributions: Sequence[ArrayLike]) -> np.ndarray:
    r"""Averages what several label models say, each with the same weight.

    .. math::
        p_{ik} = \frac{1}{R} \sum_r p^{(r)}_{ik}

    Args:
        distributions: the probabilities of R models, ``[N, K]`` each.

    Returns:
        The mean, ``[N, K]``, float64.

    Raises:
        ValueError: if there are none, or they differ in shape, or are not distributions; names the
            one.

    Example:
        >>> average_distribution([[[1.0, 0.0]], [[0.5, 0.5]]]).tolist()
        [[0.75, 0.25]]

    References:
        Wright & Augenstein, "Aggregating Soft Labels from Crowd Annotations Improves Uncertainty
        Estimation Under Distribution Shift" (2022), Section 3, the average of all aggregations.
    """
    read = [
        np.float64(read_probabilities(np.asarray(one), f"distributions[{r}]"))
        for r, one in enumerate(distributions)
    ]
    shapes = {one.shape for one in read}
    if len(shapes) != 1:
        raise ValueError(
            "distributions must be at least one, all of one shape [N, K]; got "
            f"{', '.join(map(str, sorted(shapes))) or 'none'}."
        )
    return np.mean(read, 0)


def normalized(sums: np.ndarray) -> np.ndarray:
    return sums / np.einsum("...k->...", sums)[..., None]


def winners(annotations: Annotations, scores: np.ndarray) -> np.ndarray:
    """The class with the highest score; of several, the one that is given most often, ``[N]``."""
    common = np.argsort(-np.bincount(annotations.label, minlength=scores.shape[1]), kind="stable")
    return common[scores[:, common].argmax(1)]


def _weighted(annotations: Annotations, weights: np.ndarray) -> np.ndarray:
    return normalized(class_sums(annotations, weights[annotations.annotator]))


def _agreement(annotations: Annotations, winner: np.ndarray) -> np.ndarray:
    """How often each annotator gave the label that won, ``[J]``."""
    agrees = annotations.label == winner[annotations.item]
    return mean_of_annotators(annotations, agrees)
