"""GLAD: annotators have an ability, items a difficulty."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from lnl_jax._host_arguments import check_integer, check_number
from lnl_jax.label_models._annotations import (
    Annotations,
    class_sums,
    mean_of_annotators,
    of_annotators,
    read_annotations,
)

# The mean of the normal priors of abilities and of log-easiness, whose deviation is 1.
PRIOR_MEAN = 1.0
# The M-step is a few steps of conjugate gradients, not a minimum: the next E-step moves it anyway.
STEPS, GRADIENT = 25, 1e-2


class Glad(NamedTuple):
    """What GLAD says of items and annotators.

    Attributes:
        probabilities: of each class, ``[N, K]``, float64.
        annotator_quality: how often an annotator is right on its items, by the model, ``[J]``.
        iterations: of the EM algorithm.
        ability: of each annotator, ``[J]``; 0 is chance between two classes, negative is worse.
        easiness: of each item, its logarithm, ``[N]``.
        objective: what the EM algorithm raises, per label and class.

    Example:
        >>> found = glad([[0, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 0]])
        >>> found.ability.shape, found.easiness.shape
        ((2,), (2,))
    """

    probabilities: np.ndarray
    annotator_quality: np.ndarray
    iterations: int
    ability: np.ndarray
    easiness: np.ndarray
    objective: float


def glad(
    annotations: Annotations | ArrayLike,
    *,
    num_classes: int | None = None,
    max_iterations: int = 100,
    tolerance: float = 1e-5,
) -> Glad:
    r"""Estimates true labels, the ability of annotators and the easiness of items by EM.

    .. math::
        P(y_{ij} = k | k) = \sigma(\alpha_j e^{\beta_i}), \qquad
        P(y_{ij} = l | k) = \frac{1 - \sigma(\alpha_j e^{\beta_i})}{K - 1}, \quad l \ne k

    with all classes equally frequent and :math:`\alpha_j, \beta_i \sim N(1, 1)`. An M-step is at
    most 25 steps of conjugate gradients. The probabilities are those of the last E-step, from which
    the last abilities were estimated.

    Args:
        annotations: triples of item, annotator and label, ``[M, 3]``, or `Annotations`.
        num_classes: K; None takes one more than the largest label.
        max_iterations: of the EM algorithm.
        tolerance: the gain at which it stops, per label and class.

    Returns:
        `Glad`.

    Raises:
        ValueError: as :func:`read_annotations`, or if a number is out of range.

    Example:
        >>> labels = [[0, 0, 1], [1, 1, 1], [0, 1, 1], [0, 0, 0]]  # of three annotators
        >>> triples = [[i, j, label] for i, row in enumerate(labels) for j, label in enumerate(row)]
        >>> glad(triples).probabilities[0].round(3).tolist()
        [0.888, 0.112]

    References:
        Whitehill et al., "Whose Vote Should Count More: Optimal Integration of Labels from
        Labelers of Unknown Expertise" (NeurIPS 2009), equations 1 to 4.
    """
    check_integer("max_iterations", max_iterations)
    check_number("tolerance", tolerance, at_least=0)
    given = read_annotations(annotations, num_classes)
    cells = len(given.item) * given.num_classes
    parameters = np.full(given.num_annotators + given.num_items, PRIOR_MEAN)
    objective = -np.inf
    for iteration in range(1, max_iterations + 1):
        probabilities = _e_step(given, parameters)
        negated = _negated_objective(given, probabilities[given.item, given.label])
        options = {"maxiter": STEPS}
        found = optimize.minimize(
            negated, parameters, jac=True, method="CG", tol=GRADIENT, options=options
        )
        parameters, before, objective = found.x, objective, -found.fun / cells
        if objective - before < tolerance or iteration == max_iterations:
            break
    ability, easiness = np.split(parameters, [given.num_annotators])
    right = special.expit(_margins(given, parameters))
    quality = mean_of_annotators(given, right)
    return Glad(probabilities, quality, iteration, ability, easiness, float(objective))


def _margins(annotations: Annotations, parameters: np.ndarray) -> np.ndarray:
    """The log-odds that each label is right, ``[M]``."""
    ability, easiness = np.split(parameters, [annotations.num_annotators])
    return ability[annotations.annotator] * np.exp(easiness)[annotations.item]


def _e_step(annotations: Annotations, parameters: np.ndarray) -> np.ndarray:
    # What a label adds to its class, compared with all others.
    evidence = _margins(annotations, parameters) + np.log(annotations.num_classes - 1)
    return special.softmax(class_sums(annotations, evidence), 1)


def _negated_objective(
    annotations: Annotations, right: np.ndarray
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """The function that the M-step minimises, with its gradient.

    Args:
        annotations: the labels.
        right: the probability that each is right, by the E-step, ``[M]``.
    """
    item, annotator = annotations.item, annotations.annotator
    among_others = np.log(annotations.num_classes - 1) * (1 - right).sum()
    normal = 0.5 * np.log(2 * np.pi) * (annotations.num_annotators + annotations.num_items)

    def negated(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        ability, easiness = np.split(parameters, [annotations.num_annotators])
        factor = np.exp(easiness)[item]
        margin = ability[annotator] * factor
        # The logarithm of the sum and the sigmoid, by one exponential that does not overflow.
        small = np.exp(-np.abs(margin))
        softplus = np.maximum(margin, 0) + np.log1p(small)
        sigmoid = np.where(margin >= 0, 1, small) / (1 + small)
        log_likelihood = right @ margin - softplus.sum() - among_others
        from_mean = parameters - PRIOR_MEAN
        value = log_likelihood - 0.5 * from_mean @ from_mean - normal
        slope = (right - sigmoid) * factor
        of_ability = of_annotators(annotations, slope)
        of_easiness = np.bincount(item, slope * ability[annotator], annotations.num_items)
        return -value, from_mean - np.concatenate([of_ability, of_easiness])

    return negated
