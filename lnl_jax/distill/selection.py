"""Which examples to keep, or to have labelled: scores of difficulty, and query weights."""

import numpy as np


def query_weights(gains: np.ndarray, wrong: int) -> np.ndarray:
    r"""Query weights when an adversary makes up to m soft labels worthless.

    .. math:: \max_{p} \min_{|Q| \le m} \sum_{i \notin Q} p_i g_i

    With gains in descending order, :math:`k^* = \arg\max_{k > m} (k - m) / \sum_{j \le k} 1 / g_j`
    and :math:`p_i \propto 1 / g_i` on the first :math:`k^*`.

    Args:
        gains: how informative each label would be if right, positive, ``[N]``.
        wrong: m, how many labels may be wrong, from 0 to N - 1.

    Returns:
        Weights that sum to 1, ``[N]``.

    Raises:
        ValueError: if `gains` are not positive or `wrong` is out of range.

    Example:
        >>> query_weights(np.array([1.0, 0.5, 0.1]), 1).round(2).tolist()
        [0.33, 0.67, 0.0]

    References:
        Nguyen et al., "Robust Active Distillation" (ICLR 2023). The solution was derived here and
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
        ValueError: if `gains` are not positive or `wrong` is out of range.

    References:
        Nguyen et al., "Robust Active Distillation" (ICLR 2023), as of `query_weights`.
    """
    order, sizes = _sorted(gains, wrong)
    values = (np.cumsum(gains[order]) - np.minimum(wrong, sizes)) / sizes
    best = int(values.argmax()) + 1
    weights = np.zeros(len(gains))
    weights[order[:best]] = 1 / best
    return weights


def capped(weights: np.ndarray, budget: int) -> np.ndarray:
    """Inclusion probabilities of a sample: proportional to the weights, none above 1.

    Args:
        weights: not negative, ``[N]``.
        budget: examples in the sample, at most the number of positive weights.

    Returns:
        Probabilities that sum to `budget`, ``[N]``.

    Raises:
        ValueError: if fewer weights are positive than the budget.
    """
    positive = int((weights > 0).sum())
    if not 1 <= budget <= positive:
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
    total = inclusion.sum()
    out_of_range = (inclusion < 0).any() or (inclusion > 1 + 1e-9).any()
    if out_of_range or abs(total - round(total)) > 1e-6:
        raise ValueError(f"inclusion must be from 0 to 1 with an integer sum, got sum {total}.")
    order = rng.permutation(len(inclusion))
    edges = np.cumsum(inclusion[order])
    marks = rng.random() + np.arange(round(total))
    # Rounding of the sum must not push the last mark over the end.
    chosen = np.minimum(np.searchsorted(edges, marks, side="right"), len(order) - 1)
    return np.sort(order[chosen])


def el2n(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    r"""Error norm :math:`\lVert p - e_y \rVert_2`, averaged over early checkpoints.

    Args:
        probabilities: ``[T, N, K]``.
        labels: integers, ``[N]``.

    Returns:
        ``[N]``; larger is harder.

    References:
        Paul et al., "Deep Learning on a Data Diet" (NeurIPS 2021), Definition 2.
    """
    truth = np.eye(probabilities.shape[-1])[labels]
    return np.linalg.norm(probabilities - truth, axis=-1).mean(0)


def area_under_margin(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logit of the label less the largest other one, averaged over the training (AUM).

    Args:
        logits: ``[T, N, K]``.
        labels: integers, ``[N]``.

    Returns:
        ``[N]``; smaller is harder, or mislabelled.

    References:
        Pleiss et al., "Identifying Mislabeled Data using the Area Under the Margin Ranking"
        (NeurIPS 2020), Eq. 1 and 2.
    """
    own = np.take_along_axis(logits, np.broadcast_to(labels[:, None], (*logits.shape[:2], 1)), -1)
    is_own = np.arange(logits.shape[-1]) == labels[:, None]
    others = np.where(is_own, -np.inf, logits).max(-1)
    return (own[..., 0] - others).mean(0)


def forgetting(correct: np.ndarray) -> np.ndarray:
    """How often an example went from right to wrong; one more than possible if never right.

    Args:
        correct: boolean, ``[T, N]``, in the order of the training.

    Returns:
        Integers, ``[N]``; larger is harder.

    References:
        Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network
        Learning" (ICLR 2019), Definition 1.
    """
    events = (correct[:-1] & ~correct[1:]).sum(0)
    return np.where(correct.any(0), events, len(correct))


def coverage_sample(
    difficulty: np.ndarray,
    budget: int,
    rng: np.random.Generator,
    *,
    hardest: float = 0.1,
    strata: int = 50,
) -> np.ndarray:
    """Coverage-centric selection (CCS): the hardest go, the rest is sampled evenly over strata.

    Args:
        difficulty: larger is harder, ``[N]``.
        budget: how many to keep.
        rng: the generator.
        hardest: fraction that is left out, as likely mislabelled.
        strata: intervals of equal width of the difficulty.

    Returns:
        Ascending row numbers, `budget` of them.

    Raises:
        ValueError: if fewer are left than the budget.

    References:
        Zheng et al., "Coverage-centric Coreset Selection for High Pruning Rates" (ICLR 2023),
        Algorithm 1.
    """
    kept = np.argsort(difficulty, kind="stable")[: round(len(difficulty) * (1 - hardest))]
    if not 0 < budget <= len(kept):
        raise ValueError(f"budget must be from 1 to the {len(kept)} that are left, got {budget}.")
    values = difficulty[kept]
    edges = np.linspace(values.min(), values.max(), strata + 1)[1:-1]
    places = np.searchsorted(edges, values, side="right")
    groups = [kept[places == stratum] for stratum in range(strata)]
    # Small strata first: what they lack is shared by the larger ones.
    groups = sorted((group for group in groups if len(group)), key=len)
    chosen = []
    for index, group in enumerate(groups):
        share = min(len(group), (budget - len(chosen)) // (len(groups) - index))
        chosen.extend(rng.choice(group, share, replace=False))
    return np.sort(np.array(chosen))


def _sorted(gains: np.ndarray, wrong: int) -> tuple[np.ndarray, np.ndarray]:
    if gains.ndim != 1 or not (gains > 0).all():
        raise ValueError("gains must be positive, one per example.")
    if not 0 <= wrong < len(gains):
        raise ValueError(f"wrong must be from 0 to {len(gains) - 1}, got {wrong}.")
    return np.argsort(-gains, kind="stable"), np.arange(1, len(gains) + 1)
