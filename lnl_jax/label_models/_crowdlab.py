"""Annotators together with a classifier: CROWDLAB, and ActiveLab on top of it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from lnl_jax._host_arguments import check_number
from lnl_jax.label_models._annotations import (
    Annotations,
    class_sums,
    mean_of_annotators,
    of_annotators,
    read_annotations,
    vote_counts,
)
from lnl_jax.label_models._probabilities import read_probabilities
from lnl_jax.label_models._votes import normalized

# No weight and no error of the most frequent class is taken to be smaller.
SMALLEST = 1e-6
TEMPERATURES = (0.1, 0.2, 0.5, 0.8, 1.0, 2.0, 3.0, 5.0, 8.0)
FINER = 4


class Crowdlab(NamedTuple):
    """What CROWDLAB says of items, annotators and the classifier.

    Attributes:
        probabilities: of each class, by annotators and classifier together, ``[N, K]``, float64.
        annotator_quality: how good each annotator's labels are, from 0 to 1, ``[J]``.
        iterations: how often the consensus was chosen, 2.
        consensus: the label of each item, ``[N]``.
        consensus_quality: its probability, ``[N]``; the smallest are to be looked at first.
        label_quality: the probability of each label that was given, ``[M]``.
        annotator_weights: of each annotator's vote, ``[J]``.
        classifier_weight: of the classifier's.

    Example:
        >>> given = [[0, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 1]]
        >>> found = crowdlab(given, np.array([[0.1, 0.9], [0.8, 0.2]]))
        >>> found.consensus.tolist(), found.label_quality.shape
        ([1, 0], (4,))
    """

    probabilities: np.ndarray
    annotator_quality: np.ndarray
    iterations: int
    consensus: np.ndarray
    consensus_quality: np.ndarray
    label_quality: np.ndarray
    annotator_weights: np.ndarray
    classifier_weight: float


class ActiveLab(NamedTuple):
    """Which items to have labelled next: those with the lowest scores.

    Attributes:
        labelled: the score of each item that has labels, for one more, ``[N]``.
        pool: the score of each item that has none, ``[P]``.
        temperature: by which the classifier's probabilities were softened.

    Example:
        >>> given = [[0, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 1]]
        >>> active_lab(given, np.array([[0.1, 0.9], [0.8, 0.2]])).labelled.argmin()
        np.int64(1)
    """

    labelled: np.ndarray
    pool: np.ndarray
    temperature: float


class _Weights(NamedTuple):
    """What a consensus makes of annotators and classifier."""

    likelihood: float
    annotators: np.ndarray
    classifier: float


def crowdlab(annotations: Annotations | ArrayLike, probabilities: ArrayLike) -> Crowdlab:
    r"""Combines the labels of annotators with a classifier, each weighed by how much it agrees.

    .. math::
        p_{ik} = \frac{w_M P_{ik} + \sum_{j} w_j \ell(y_{ij}, k)}{w_M + \sum_j w_j}, \qquad
        \ell(y, k) = L \text{ if } y = k \text{ else } \frac{1 - L}{K - 1}

    with L the mean share of an item's labels that are the consensus, :math:`w_j = 1 - (1 - s_j) /
    e_0` of the share :math:`s_j` of other annotators of the same items who agree with j, and
    :math:`w_M = \sqrt{\bar n} (1 - e_M / e_0)` of the error :math:`e_M` of the classifier;
    :math:`e_0` is the error of always naming the most frequent class. No weight is below 1e-6.
    Errors are counted on items with several labels, against a consensus that is first the majority,
    then once the argmax of p. A tied vote goes to the class that the classifier finds more
    probable, then to the rarer one, to that of the annotators who agree with the untied consensus
    more, and to the lowest.

    Args:
        annotations: triples of item, annotator and label, ``[M, 3]``, or `Annotations`.
        probabilities: of a classifier that was not trained on these items, ``[N, K]``.

    Returns:
        `Crowdlab`.

    Raises:
        ValueError: as :func:`read_annotations`, if the probabilities do not fit, or if no item has
            two labels, of which nothing is learned about agreement.

    Example:
        >>> given = [[0, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 1], [2, 0, 0]]
        >>> found = crowdlab(given, np.array([[0.1, 0.9], [0.8, 0.2], [0.6, 0.4]]))
        >>> found.consensus.tolist()
        [1, 0, 0]

    References:
        Goh et al., "CROWDLAB: Supervised learning to infer consensus labels and quality scores for
        data with multiple annotators" (2022), Section 3.
    """
    given, probabilities = _read(annotations, probabilities)
    majority = _majority(given, probabilities)
    posterior = _posterior(given, probabilities, _weigh(given, probabilities, majority))
    best = posterior.max(1, keepdims=True)
    tied = (posterior == best).sum(1) > 1
    consensus = np.where(tied, majority, posterior.argmax(1))
    weights = _weigh(given, probabilities, consensus)
    posterior = _posterior(given, probabilities, weights)
    label_quality = posterior[given.item, given.label]
    return Crowdlab(
        posterior,
        _annotator_quality(given, consensus, label_quality, weights),
        2,
        consensus,
        posterior[np.arange(len(posterior)), consensus],
        label_quality,
        weights.annotators,
        weights.classifier,
    )


def active_lab(
    annotations: Annotations | ArrayLike,
    probabilities: ArrayLike,
    pool_probabilities: ArrayLike | None = None,
    *,
    temperature: float | None = None,
) -> ActiveLab:
    r"""Scores which item a further label would help most; the lowest first.

    .. math::
        \frac{(w_M + \sum_j w_j) q_i + \bar w / K}{w_M + \sum_j w_j + \bar w}

    with the weights of :func:`crowdlab` on softened probabilities, the sum over the annotators of
    item i, and the quality :math:`q_i` of its consensus. An item of the pool has no annotators, and
    :math:`q_i` is its largest probability. Where every item has one label, all weights are 1 and
    :math:`q_i` is the probability of that label, nothing softened.

    Args:
        annotations: triples of item, annotator and label, ``[M, 3]``, or `Annotations`.
        probabilities: of a classifier that was not trained on these items, ``[N, K]``.
        pool_probabilities: of items without labels, ``[P, K]``; None for no such items.
        temperature: softens the probabilities to :math:`P^{1 / T}`; None takes
            :func:`annotator_temperature`.

    Returns:
        `ActiveLab`.

    Raises:
        ValueError: as :func:`crowdlab`, but for items of one label each, or if the temperature is
            out of range.

    Example:
        >>> given = [[0, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 1]]
        >>> scores = active_lab(given, np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([[0.5, 0.5]]))
        >>> bool(scores.pool[0] < scores.labelled.min())
        True

    References:
        Goh & Mueller, "ActiveLab: Active Learning with Re-Labeling by Multiple Annotators" (2023),
        Section 3.
    """
    given, probabilities = _read(annotations, probabilities, single=True)
    pool = np.zeros((0, given.num_classes))
    if pool_probabilities is not None:
        pool = np.float64(read_probabilities(pool_probabilities, "pool_probabilities"))
        if pool.shape[1] != given.num_classes:
            raise ValueError(
                f"pool_probabilities must be of {given.num_classes} classes, as probabilities are; "
                f"got {pool.shape[1]}."
            )
    if temperature is not None:
        check_number("temperature", temperature, above=0)
    if given.num_items == len(given.item):
        temperature = 1.0
        order = np.argsort(given.item)
        quality = probabilities[np.arange(given.num_items), given.label[order]]
        of_annotators_, of_classifier = np.ones(given.num_annotators), 1.0
    else:
        if temperature is None:
            temperature = annotator_temperature(given, probabilities)
        probabilities, pool = (_softened(p, temperature) for p in (probabilities, pool))
        found = crowdlab(given, probabilities)
        quality = found.consensus_quality
        of_annotators_, of_classifier = found.annotator_weights, found.classifier_weight
    of_item = np.bincount(given.item, of_annotators_[given.annotator], given.num_items)
    one_more = of_annotators_.mean()

    def score(of: np.ndarray, weight: np.ndarray | float) -> np.ndarray:
        return (weight * of + one_more / given.num_classes) / (weight + one_more)

    labelled = score(quality, of_classifier + of_item)
    return ActiveLab(labelled, score(pool.max(1, initial=0), of_classifier), float(temperature))


def annotator_temperature(annotations: Annotations | ArrayLike, probabilities: ArrayLike) -> float:
    r"""Finds the temperature at which a classifier's probabilities fit the annotators' labels best.

    .. math::
        \arg\min_T - \frac{1}{N} \sum_{ik} \frac{n_{ik}}{n_i} \log
        \frac{P_{ik}^{1 / T}}{\sum_c P_{ic}^{1 / T}}

    among nine temperatures from 0.1 to 8, then among four steps to each neighbour of the best.

    Args:
        annotations: triples of item, annotator and label, ``[M, 3]``, or `Annotations`.
        probabilities: of a classifier that was not trained on these items, ``[N, K]``.

    Returns:
        T.

    Raises:
        ValueError: as :func:`read_annotations`, or if the probabilities do not fit.

    Example:
        >>> given = [[0, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 1]]
        >>> annotator_temperature(given, np.array([[0.01, 0.99], [0.9, 0.1]]))
        2.25

    References:
        Goh & Mueller, "ActiveLab: Active Learning with Re-Labeling by Multiple Annotators" (2023),
        the calibration of the classifier.
    """
    given, probabilities = _read(annotations, probabilities, single=True)
    shares = normalized(vote_counts(given))

    def cross_entropy(temperature: float) -> float:
        softened = np.maximum(_softened(probabilities, temperature), np.finfo(float).tiny)
        return -(shares * np.log(softened)).sum()

    at = int(np.argmin([cross_entropy(one) for one in TEMPERATURES]))
    nearby = TEMPERATURES[max(at - 1, 0) : at + 2]
    finer = np.concatenate(
        [np.linspace(*pair, FINER + 1) for pair in zip(nearby, nearby[1:], strict=False)]
    )
    return float(finer[np.argmin([cross_entropy(one) for one in finer])])


def _read(annotations, probabilities, single: bool = False) -> tuple[Annotations, np.ndarray]:
    probabilities = np.float64(read_probabilities(probabilities))
    given = read_annotations(annotations, probabilities.shape[1])
    if len(probabilities) != given.num_items:
        raise ValueError(
            f"probabilities must have a row for each of the {given.num_items} items, got "
            f"{len(probabilities)}."
        )
    if not single and len(given.item) == given.num_items:
        raise ValueError(
            "annotations must hold several labels of some items, got one of each: agreement cannot "
            "be counted; look for errors among single labels with the probabilities alone."
        )
    return given, probabilities


def _softened(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    with np.errstate(divide="ignore"):  # what is impossible stays so
        return special.softmax(np.log(probabilities) / temperature, 1)


def _majority(given: Annotations, probabilities: np.ndarray) -> np.ndarray:
    """The class that most annotators gave, ``[N]``; what decides ties, one after another."""
    counts = vote_counts(given)
    frequency = np.broadcast_to(counts.sum(0), counts.shape)
    candidates = np.ones(counts.shape, bool)
    for scores in (counts, probabilities, -frequency):
        candidates = _best(scores, candidates)
    if (candidates.sum(1) > 1).any():
        candidates = _best(_trust(given, counts), candidates)
    return candidates.argmax(1)


def _best(scores: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Those of the candidates with the highest score, ``[N, K]``."""
    scores = np.where(candidates, scores, -np.inf)
    return scores == scores.max(1, keepdims=True)


def _trust(given: Annotations, counts: np.ndarray) -> np.ndarray:
    """How far the annotators who gave a class agree with the untied majority, ``[N, K]``."""
    untied = (counts == counts.max(1, keepdims=True)).sum(1) == 1
    used = untied[given.item]
    right = used & (given.label == counts.argmax(1)[given.item])
    seen = of_annotators(given, used)
    agreement = of_annotators(given, right) / np.maximum(seen, 1)
    unknown = seen == 0
    agreement[unknown] = agreement[~unknown].mean() if not unknown.all() else 0
    sums = class_sums(given, agreement[given.annotator])
    return sums / np.maximum(counts, 1)


def _weigh(given: Annotations, probabilities: np.ndarray, consensus: np.ndarray) -> _Weights:
    counts = vote_counts(given)
    labels = counts.sum(1)
    several = labels > 1
    own = consensus[several]
    likelihood = (counts[np.arange(len(counts)), consensus] / labels)[several].mean()
    frequencies = np.bincount(own, minlength=given.num_classes)
    chance_error = max(1 - frequencies.max() / len(own), SMALLEST)
    # Of the other annotators of its items, how many agree.
    others = of_annotators(given, labels[given.item] - 1)
    agree = of_annotators(given, counts[given.item, given.label] - 1)
    agreement = agree / np.maximum(others, 1)
    agreement[others == 0] = agreement[others > 0].mean()
    annotators = np.maximum(1 - (1 - agreement) / chance_error, SMALLEST)
    error = (probabilities.argmax(1)[several] != own).mean()
    classifier = max(1 - error / chance_error, SMALLEST) * np.sqrt(labels.mean())
    return _Weights(float(likelihood), annotators, float(classifier))


def _posterior(given: Annotations, probabilities: np.ndarray, weights: _Weights) -> np.ndarray:
    wrong = (1 - weights.likelihood) / (given.num_classes - 1)
    votes = class_sums(given, weights.annotators[given.annotator])
    total = votes.sum(1, keepdims=True)
    sums = weights.classifier * probabilities + (weights.likelihood - wrong) * votes + wrong * total
    return sums / (weights.classifier + total)


def _annotator_quality(
    given: Annotations, consensus: np.ndarray, label_quality: np.ndarray, weights: _Weights
) -> np.ndarray:
    """The mean of what is thought of an annotator's labels, and of how often they are consensus."""
    several = (np.bincount(given.item) > 1)[given.item]
    agrees = several & (given.label == consensus[given.item])
    seen = of_annotators(given, several)
    believed = mean_of_annotators(given, label_quality)
    # Who shares no item with anybody is judged by the classifier alone.
    agreement = np.where(seen > 0, of_annotators(given, agrees) / np.maximum(seen, 1), believed)
    labels_by_annotator = len(given.item) / given.num_items / given.num_annotators
    of_crowd = weights.annotators.sum() * labels_by_annotator
    share = weights.classifier / (weights.classifier + of_crowd)
    return share * believed + (1 - share) * agreement
