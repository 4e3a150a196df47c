"""Which examples to have labelled: query weights, and samples that follow them."""

import numpy as np

from lnl_jax._host_arguments import check_integer
from lnl_jax.distill._checks import read_numbers


def query_weights(gains: np.ndarray, wrong: int) -> np.ndarray:
    r"""Query weights when an adversary makes up to m soft labels worthless.

    .. math:: \max_{p} \min_{|Q| \le m} \sum_{i \notin Q} p_i g_i

    With gains in descending order, :math:`k^* = \arg\max_{k > m} (k - m) / \sum_{j \le k} 1 / g_j`
    and :math:`p_i \propto 1 / g_i` on the first :math:`k^*`.

    Args:
        gains: how informative each label would be if right, positive and finite, ``[N]``.
        wrong: m, how many labels may be wrong, from 0 to N - 1.

    Returns:
        Weights that sum to 1, ``[N]``.

    Raises:
        ValueError: if `gains` are not positive or `wrong` is out of range.

    Example:
        >>> query_weights(np.array([1.0, 0.5, 0.1]), 1).round(2).tolist()
        [0.33, 0.67, 0.0]

    References:
        Baykal et al., "Robust Active Distillation" (ICLR 2023). The solution was derived here and
        is checked against a linear program; which of the two games is the paper's is our reading.
    """
    order, sizes = _sorted(gains, wrong)
    inverse = 1 / gains[order]
    values = np.where(sizes > wrong, (sizes - wrong) / np.cumsum(inverse), -np.inf)
    best = int(values.argmax()) + 1
    weights = np.zeros(len(gains))
    weights[order[:best]] = inverse[:best] / inverse[:best].sum()
    return weights


def query_weights_with_cost(gains: np.ndarray, wrong: int) -> np.ndarray:
    r"""Query weights when a wrong soft label costs :math:`1 - g_i`, not only its gain.

    .. math:: \max_p \min_{|Q| \le m} \sum_{i \notin Q} p_i g_i - \sum_{i \in Q} p_i (1 - g_i)

    Uniform on the :math:`k^* = \arg\max_k (\sum_{i \le k} g_i - \min(m, k)) / k` largest gains.

    Args:
        gains: from 0 to 1, positive, ``[N]``.
        wrong: m, from 0 to N - 1.

    Returns:
        Weights that sum to 1, ``[N]``.

    Raises:
        ValueError: if `gains` are not from 0 to 1 and positive or `wrong` is out of range.

    Example:
        >>> query_weights_with_cost(np.array([0.9, 0.8, 0.1]), 1).tolist()
        [0.5, 0.5, 0.0]

    References:
        Baykal et al., "Robust Active Distillation" (ICLR 2023), as of `query_weights`.
    """
    order, sizes = _sorted(gains, wrong, at_most=1)
    values = (np.cumsum(gains[order]) - np.minimum(wrong, sizes)) / sizes
    best = int(values.argmax()) + 1
    weights = np.zeros(len(gains))
    weights[order[:best]] = 1 / best
    return weights


def inclusion_probabilities(weights: np.ndarray, budget: int) -> np.ndarray:
    """Inclusion probabilities of a sample: proportional to the weights, none above 1.

    Args:
        weights: not negative, finite, ``[N]``.
        budget: examples in the sample, at most the number of positive weights.

    Returns:
        Probabilities that sum to `budget`, ``[N]``.

    Raises:
        ValueError: if fewer weights are positive than the budget, or a weight is out of range.
    """
    weights = read_numbers("weights", weights, at_least=0)
    positive = int((weights > 0).sum())
    check_integer("budget", budget)
    if budget > positive:
        raise ValueError(f"budget must be from 1 to the {positive} positive weights, got {budget}.")
    certain = np.zeros(len(weights), bool)
    while True:
        left = budget - certain.sum()
        rest = np.where(certain, 0, weights)
        inclusion = np.where(certain, 1.0, left * rest / max(rest.sum(), 1e-300))
        above = inclusion > 1 + 1e-12
        if not above.any():
            return np.minimum(inclusion, 1)
        certain |= above


def systematic_sample(inclusion: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws distinct examples with given inclusion probabilities, always the same number.

    Args:
        inclusion: from 0 to 1, with an integer sum, ``[N]``.
        rng: the generator.

    Returns:
        Ascending row numbers, as many as the sum.

    Raises:
        ValueError: if the sum is no integer or a probability is out of range.

    References:
        Madow, "On the Theory of Systematic Sampling, II" (1949), on a random order.
    """
    inclusion = read_numbers("inclusion", inclusion, at_least=0)
    total = inclusion.sum()
    out_of_range = (inclusion > 1 + 1e-9).any()
    if out_of_range or abs(total - round(total)) > 1e-6:
        raise ValueError(f"inclusion must be from 0 to 1 with an integer sum, got sum {total}.")
    order = rng.permutation(len(inclusion))
    edges = np.cumsum(inclusion[order])
    marks = rng.random() + np.arange(round(total))
    # Rounding of the sum must not push the last mark over the end.
    chosen = np.minimum(np.searchsorted(edges, marks, side="right"), len(order) - 1)
    return np.sort(order[chosen])


def _sorted(
    gains: np.ndarray, wrong: int, at_most: float = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    gains = read_numbers("gains", gains, above=0, at_most=at_most)
    check_integer("wrong", wrong, at_least=0, at_most=len(gains) - 1)
    return np.argsort(-gains, kind="stable"), np.arange(1, len(gains) + 1)
