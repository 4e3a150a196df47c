"""Which examples to keep, or to have labelled: scores of difficulty, and query weights."""

import numpy as np

from lnl_jax._arguments import check_integer, check_range
from lnl_jax.distill._checks import host_classes


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


def capped(weights: np.ndarray, budget: int) -> np.ndarray:
    """Inclusion probabilities of a sample: proportional to the weights, none above 1.

    Args:
        weights: not negative, finite, ``[N]``.
        budget: examples in the sample, at most the number of positive weights.

    Returns:
        Probabilities that sum to `budget`, ``[N]``.

    Raises:
        ValueError: if fewer weights are positive than the budget, or a weight is out of range.
    """
    weights = _read_numbers("weights", weights, at_least=0)
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
    inclusion = _read_numbers("inclusion", inclusion, at_least=0)
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


def el2n(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    r"""Error norm :math:`\lVert p - e_y \rVert_2`, averaged over early checkpoints.

    Args:
        probabilities: ``[T, N, K]``.
        labels: integers from 0 to K - 1, ``[N]``.

    Returns:
        float64, ``[N]``; larger is harder.

    Raises:
        ValueError: if the probabilities are not finite, or the labels are no classes.

    Example:
        >>> el2n(np.array([[[0.4, 0.6], [0.0, 1.0]]]), np.array([1, 1])).round(3).tolist()
        [0.566, 0.0]

    References:
        Paul et al., "Deep Learning on a Data Diet" (NeurIPS 2021), Definition 2.
    """
    probabilities = _read_records("probabilities", probabilities)
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities must be finite; a softmax of finite scores is.")
    labels = host_classes(labels, *probabilities.shape[1:])
    truth = np.eye(probabilities.shape[-1])[labels]
    return np.linalg.norm(probabilities - truth, axis=-1).mean(0)


def area_under_margin(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logit of the label less the largest other one, averaged over the training (AUM).

    Args:
        logits: ``[T, N, K]``, K at least 2; minus infinity for a class that cannot be.
        labels: integers from 0 to K - 1, ``[N]``.

    Returns:
        float64, ``[N]``; smaller is harder, or mislabelled. Minus infinity where the label scores
        so once, infinity where all others do.

    Raises:
        ValueError: if the logits are NaN or of one class, or the labels are no classes.

    References:
        Pleiss et al., "Identifying Mislabeled Data using the Area Under the Margin Ranking"
        (NeurIPS 2020), Eq. 1 and 2.
    """
    logits = _read_records("logits", logits)
    if np.isnan(logits).any() or logits.shape[-1] < 2:
        raise ValueError(
            f"logits must be numbers of at least two classes, got the shape {logits.shape} with "
            f"{np.isnan(logits).sum()} NaN."
        )
    labels = host_classes(labels, *logits.shape[1:])
    own = np.take_along_axis(logits, np.broadcast_to(labels[:, None], (*logits.shape[:2], 1)), -1)
    is_own = np.arange(logits.shape[-1]) == labels[:, None]
    others = np.where(is_own, -np.inf, logits).max(-1)
    if (np.isinf(own[..., 0]) & np.isinf(others)).any():
        raise ValueError("logits must be finite for the label or another class, in every record.")
    return (own[..., 0] - others).mean(0)


def forgetting(correct: np.ndarray) -> np.ndarray:
    """How often an example went from right to wrong; one more than possible if never right.

    Args:
        correct: boolean, ``[T, N]``, in the order of the training.

    Returns:
        Integers, ``[N]``; larger is harder.

    Raises:
        ValueError: if `correct` is not boolean of two axes.

    Example:
        >>> forgetting(np.array([[True, False], [False, False], [True, False]])).tolist()
        [1, 3]

    References:
        Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network
        Learning" (ICLR 2019), Definition 1.
    """
    correct = np.asarray(correct)
    # Of integers, the complement below would count other things.
    if correct.dtype != bool or correct.ndim != 2:
        raise ValueError(
            f"correct must be boolean of shape [T, N], got {correct.dtype} of shape "
            f"{correct.shape}; compare predictions with labels."
        )
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
        hardest: fraction that is left out, as likely mislabelled; from 0, less than 1.
        strata: intervals of equal width of the difficulty, at least 1.

    Returns:
        Ascending row numbers, `budget` of them.

    Raises:
        ValueError: if fewer are left than the budget, or a number is out of range.

    References:
        Zheng et al., "Coverage-centric Coreset Selection for High Pruning Rates" (ICLR 2023),
        Algorithm 1.
    """
    difficulty = _read_numbers("difficulty", difficulty)
    check_range("hardest", hardest, at_least=0, below=1)
    check_integer("strata", strata)
    check_integer("budget", budget)
    kept = np.argsort(difficulty, kind="stable")[: round(len(difficulty) * (1 - hardest))]
    if budget > len(kept):
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


def _sorted(
    gains: np.ndarray, wrong: int, at_most: float = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    gains = _read_numbers("gains", gains, above=0, at_most=at_most)
    check_integer("wrong", wrong, at_least=0, at_most=len(gains) - 1)
    return np.argsort(-gains, kind="stable"), np.arange(1, len(gains) + 1)


def _read_numbers(name: str, values: np.ndarray, **bounds: float) -> np.ndarray:
    """A finite number for each example, float64."""
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"{name} must have one number per example, got the shape {values.shape}.")
    check_range(name, values, **{"below": np.inf, "above": -np.inf} | bounds)
    return values


def _read_records(name: str, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 3 or not len(values):
        raise ValueError(
            f"{name} must have the shape [T, N, K], a record of the training first; got "
            f"{values.shape}."
        )
    return values
