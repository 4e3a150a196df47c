"""MACE: an annotator knows the label, or answers by a habit of its own."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from lnl_jax._host_arguments import check_generator, check_integer, check_number
from lnl_jax.label_models._annotations import (
    Annotations,
    class_sums,
    of_annotators,
    read_annotations,
)
from lnl_jax.label_models._votes import normalized


class MaceStarts(NamedTuple):
    """Where MACE starts, several times.

    Attributes:
        competence: the probability that an annotator knows a label, ``[R, J]``.
        strategy: what it gives where it does not know, ``[R, J, K]``.

    Example:
        >>> starts = mace_starts(3, 2, np.random.default_rng(0), restarts=5)
        >>> starts.competence.shape, starts.strategy.shape
        ((5, 3), (5, 3, 2))
    """

    competence: np.ndarray
    strategy: np.ndarray


class Mace(NamedTuple):
    """What MACE says of items and annotators, from its best start.

    Attributes:
        probabilities: of each class, ``[N, K]``, float64.
        annotator_quality: the probability that an annotator knows a label, ``[J]``.
        iterations: of each start.
        strategy: what an annotator gives where it does not know, ``[J, K]``.
        log_likelihood: of all labels, from each start, ``[R]``.

    Example:
        >>> starts = mace_starts(2, 2, np.random.default_rng(0), restarts=3)
        >>> found = mace([[0, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 0]], starts)
        >>> found.log_likelihood.shape
        (3,)
    """

    probabilities: np.ndarray
    annotator_quality: np.ndarray
    iterations: int
    strategy: np.ndarray
    log_likelihood: np.ndarray


def mace_starts(
    num_annotators: int, num_classes: int, rng: np.random.Generator, *, restarts: int = 10
) -> MaceStarts:
    """Draws where MACE starts, anew for each restart.

    Numbers uniform from 1 to 2.5 are normalised, so that no annotator begins as hopeless or sure.

    Args:
        num_annotators: J.
        num_classes: K.
        rng: draws them.
        restarts: R.

    Returns:
        `MaceStarts`.

    Raises:
        ValueError: if a number is out of range, or `rng` is no generator.

    Example:
        >>> starts = mace_starts(3, 2, np.random.default_rng(0), restarts=5)
        >>> bool(np.ptp(starts.competence, axis=0).min() > 0)
        True

    References:
        Hovy et al., "Learning Whom to Trust with MACE" (NAACL 2013), Section 3.2, the restarts.
    """
    check_integer("num_annotators", num_annotators, at_least=2)
    check_integer("num_classes", num_classes, at_least=2)
    check_integer("restarts", restarts)
    check_generator("rng", rng)
    odds = rng.uniform(1, 2.5, (restarts, num_annotators, 2))
    strategy = rng.uniform(1, 2.5, (restarts, num_annotators, num_classes))
    return MaceStarts(normalized(odds)[..., 1], normalized(strategy))


def mace(
    annotations: Annotations | ArrayLike,
    starts: MaceStarts,
    *,
    num_classes: int | None = None,
    iterations: int = 50,
    competence_prior: float = 0.5,
    strategy_prior: float = 10.0,
) -> Mace:
    r"""Estimates true labels and who knows them, by variational EM from several starts.

    .. math::
        p_{ik} \propto \prod_j \big(s_j \theta_j(y_{ij}) + c_j 1[y_{ij} = k]\big)

    Annotator j knows a label by :math:`c_j` and else, by :math:`s_j`, draws it from
    :math:`\theta_j`. An M-step sets each to :math:`e^{\psi(n + \alpha)} / e^{\psi(\sum (n +
    \alpha))}` of its expected counts n, with a Beta prior of c and s and a Dirichlet prior of
    :math:`\theta`; as in the variational bound, they sum to less than 1. The start with the highest
    likelihood of the labels is kept.

    Args:
        annotations: triples of item, annotator and label, ``[M, 3]``, or `Annotations`.
        starts: of :func:`mace_starts`, say; ``[R, J]`` and ``[R, J, K]``.
        num_classes: K; None takes one more than the largest label.
        iterations: of each start.
        competence_prior: :math:`\alpha` of knowing and of not knowing.
        strategy_prior: :math:`\alpha` of each label of the strategies.

    Returns:
        `Mace`.

    Raises:
        ValueError: as :func:`read_annotations`, if the starts do not fit, or a number is out of
            range.

    Example:
        >>> labels = [[0, 0, 1], [1, 1, 1], [0, 1, 1], [0, 0, 0]]  # of three annotators
        >>> triples = [[i, j, label] for i, row in enumerate(labels) for j, label in enumerate(row)]
        >>> found = mace(triples, mace_starts(3, 2, np.random.default_rng(0)))
        >>> found.probabilities.argmax(1).tolist()
        [0, 1, 1, 0]

    References:
        Hovy et al., "Learning Whom to Trust with MACE" (NAACL 2013), equations 1 to 3 and
        Section 3.2.
    """
    check_integer("iterations", iterations)
    check_number("competence_prior", competence_prior, above=0)
    check_number("strategy_prior", strategy_prior, above=0)
    given = read_annotations(annotations, num_classes)
    competence, strategy = _read_starts(starts, given)
    best, log_likelihoods = None, []
    for logs in zip(np.log1p(-competence), np.log(competence), np.log(strategy), strict=True):
        found = _from_start(given, logs, iterations, competence_prior, strategy_prior)
        log_likelihoods.append(found[0])
        if best is None or found[0] > best[0]:
            best = found
    _, probabilities, logs = best
    knows, strategy = np.exp(logs[1]), np.exp(logs[2])
    return Mace(probabilities, knows, iterations, strategy, np.array(log_likelihoods))


def _from_start(given: Annotations, logs, iterations: int, prior: float, strategy_prior: float):
    """The log-likelihood, the probabilities and the logs of the parameters, at the end."""
    cell = given.annotator.astype(np.int64) * given.num_classes + given.label
    size = given.num_annotators * given.num_classes
    for _ in range(iterations):
        _, _, known = _e_step(given, *logs)
        guessed = 1 - known
        strategy = np.bincount(cell, guessed, size).reshape(-1, given.num_classes)
        counts = np.stack([of_annotators(given, guessed), of_annotators(given, known)], 1)
        odds = _expected_log(counts + prior)
        logs = odds[:, 0], odds[:, 1], _expected_log(strategy + strategy_prior)
    log_likelihood, probabilities, _ = _e_step(given, *logs)
    return log_likelihood, probabilities, logs


def _e_step(given: Annotations, spams: np.ndarray, knows: np.ndarray, strategy: np.ndarray):
    """The log-likelihood, the probabilities, and that of having known each label, ``[M]``."""
    # Labels of one class by one annotator say the same, and such pairs are far fewer than labels.
    guess = spams[:, None] + strategy
    either = np.logaddexp(guess, knows[:, None])
    at = given.annotator, given.label
    # Of all classes, and what a label adds to its own; in logarithms, as products of many vanish.
    of_all = np.bincount(given.item, guess[at], given.num_items)
    added = class_sums(given, (either - guess)[at])
    log_joint = of_all[:, None] + added - np.log(given.num_classes)
    log_marginal = special.logsumexp(log_joint, 1)
    probabilities = np.exp(log_joint - log_marginal[:, None])
    known = probabilities[given.item, given.label] * np.exp(knows[:, None] - either)[at]
    return log_marginal.sum(), probabilities, known


def _expected_log(counts: np.ndarray) -> np.ndarray:
    return special.digamma(counts) - special.digamma(counts.sum(1, keepdims=True))


def _read_starts(starts: MaceStarts, given: Annotations) -> tuple[np.ndarray, np.ndarray]:
    competence, strategy = (np.asarray(part, np.float64) for part in starts)
    shape = (given.num_annotators, given.num_classes)
    if competence.ndim != 2 or competence.shape[1:] != shape[:1] or not len(competence):
        raise ValueError(
            f"starts.competence must have the shape [R, {shape[0]}], got {competence.shape}."
        )
    if strategy.shape != (*competence.shape, shape[1]):
        raise ValueError(
            f"starts.strategy must have the shape {(*competence.shape, shape[1])}, got "
            f"{strategy.shape}."
        )
    inside = ((competence > 0) & (competence < 1)).all() and (strategy > 0).all()
    if not inside or np.abs(strategy.sum(-1) - 1).max() > 1e-6:
        raise ValueError(
            "starts must be probabilities: competence above 0 and below 1, and strategies above 0 "
            "that sum to 1."
        )
    return competence, strategy
