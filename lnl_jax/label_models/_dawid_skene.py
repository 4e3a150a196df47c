"""Dawid and Skene's model: each annotator has a confusion matrix."""

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from lnl_jax._host_arguments import check_integer, check_number
from lnl_jax.label_models._annotations import Annotations, incidence, read_annotations, vote_counts
from lnl_jax.label_models._votes import normalized

# No rate and no probability is taken to be smaller: what a few labels say is never certain.
SMALLEST = 1e-10


class DawidSkene(NamedTuple):
    """What the model of Dawid and Skene says of items and annotators.

    Attributes:
        probabilities: of each class, ``[N, K]``, float64.
        annotator_quality: how often an annotator is right, by the model, ``[J]``.
        iterations: of the EM algorithm.
        prior: how frequent each class is, ``[K]``.
        confusion: the probability that an annotator gives label l to an item of class k, at
            ``[j, k, l]``; a class that none of its items has any weight in is given its labels
            in equal shares.
        evidence: the lower bound of the log-likelihood that the EM algorithm raises, by label.

    Example:
        >>> dawid_skene([[0, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 0]]).confusion[0].round(3).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """

    probabilities: np.ndarray
    annotator_quality: np.ndarray
    iterations: int
    prior: np.ndarray
    confusion: np.ndarray
    evidence: float


def dawid_skene(
    annotations: Annotations | ArrayLike,
    *,
    num_classes: int | None = None,
    max_iterations: int = 100,
    tolerance: float = 1e-5,
) -> DawidSkene:
    r"""Estimates true labels and the confusion matrix of each annotator by EM, in log-space.

    .. math::
        p_{ik} \propto \pi_k \prod_{j} e_j(y_{ij} | k), \qquad
        e_j(l | k) \propto \sum_{i} p_{ik} 1[y_{ij} = l], \qquad
        \pi_k = \frac{1}{N} \sum_i p_{ik}

    It starts from the normalised votes. It ends where the lower bound of the log-likelihood rises
    by less than `tolerance` a label, and so does the bound with the prior counted at each label
    instead of once for each item, by which Crowd-Kit ends. No probability is below 1e-10.

    Args:
        annotations: triples of item, annotator and label, ``[M, 3]``, or `Annotations`.
        num_classes: K; None takes one more than the largest label.
        max_iterations: of the EM algorithm.
        tolerance: the gain at which it stops, in nats per label; 0 goes on as long as there is one.

    Returns:
        `DawidSkene`.

    Raises:
        ValueError: as :func:`read_annotations`, or if a number is out of range.

    Example:
        >>> labels = [[0, 0, 1], [1, 1, 1], [0, 1, 1], [0, 0, 0]]  # of three annotators
        >>> triples = [[i, j, label] for i, row in enumerate(labels) for j, label in enumerate(row)]
        >>> dawid_skene(triples).probabilities.round(3).tolist()
        [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]

    References:
        Dawid & Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM
        Algorithm" (Applied Statistics 1979), equations 2.3 to 2.5.
    """
    check_integer("max_iterations", max_iterations)
    check_number("tolerance", tolerance, at_least=0)
    given = read_annotations(annotations, num_classes)
    votes = incidence(given)
    by_annotator = votes.T.tocsr()
    used = np.diff(by_annotator.indptr).reshape(-1, given.num_classes, 1) > 0
    probabilities = normalized(vote_counts(given))
    further = np.float64(np.bincount(given.item, minlength=given.num_items) - 1)
    bounds = np.full(2, -np.inf)
    prior, rates, logits = _m_step(votes, by_annotator, used, probabilities)
    for iteration in range(1, max_iterations + 1):
        probabilities, logs = _softmax(logits)
        # One array serves two ends: the bound of this iteration, and the labels of the next.
        prior, rates, logits = _m_step(votes, by_annotator, used, probabilities)
        # The lower bound by label, and with the prior counted at each label.
        bound = np.einsum("ik,ik->", probabilities, logits - logs)
        counted = further @ probabilities @ np.log(np.maximum(prior, SMALLEST))
        before, bounds = bounds, np.array([bound, bound + counted]) / len(given.item)
        if (bounds - before < tolerance).all() or iteration == max_iterations:
            break
    confusion = rates.transpose(0, 2, 1)
    quality = np.einsum("k,jkk->j", prior, confusion)
    probabilities = normalized(np.maximum(probabilities, SMALLEST))
    return DawidSkene(probabilities, quality, iteration, prior, confusion, float(bounds[0]))


def _m_step(
    votes: sparse.csr_array,
    by_annotator: sparse.csr_array,
    used: np.ndarray,
    probabilities: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The prior, the rates, and by both the log-probability of each item's labels and class.

    The rates are how often an annotator gives label l to items of class k, at ``[j, l, k]``.
    """
    prior = np.einsum("ik->k", probabilities) / len(probabilities)
    sums = (by_annotator @ probabilities).reshape(*used.shape[:2], -1)
    rates = np.where(used, np.maximum(sums, SMALLEST), 0)
    rates /= rates.sum(1, keepdims=True)
    # A label that an annotator never gave meets no vote; its logarithm is not asked for.
    logs = np.log(np.where(used, rates, 1)).reshape(-1, len(prior))
    return prior, rates, np.log(np.maximum(prior, SMALLEST)) + votes @ logs


def _softmax(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities and their logarithms.

    Class by class and by `einsum`: along the few classes of an item, NumPy reduces slowly.
    """
    shifted = logits - functools.reduce(np.maximum, logits.T)[:, None]
    exponentials = np.exp(shifted)
    sums = np.einsum("ik->i", exponentials)[:, None]
    return exponentials / sums, shifted - np.log(sums)
