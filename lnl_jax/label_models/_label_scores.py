"""How well a label fits the probabilities that a model gave without having seen it."""

import numpy as np
from scipy.special import xlogy

from lnl_jax._host_arguments import check_number, host_array
from lnl_jax.label_models._probabilities import (
    own_entries,
    read_labelled,
    read_probabilities,
    row_blocks,
)

SMALLEST = 1e-6


def self_confidence(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    r"""Probability of the given label, :math:`p_{iy_i}`.

    Args:
        probabilities: of a model that has not seen the example's label, ``[N, K]``; rows sum to 1.
        labels: integers from 0 to K - 1, ``[N]``.

    Returns:
        From 0 to 1, ``[N]``; smaller is more suspicious.

    Raises:
        ValueError: if the rows are no distributions (they are named), or the labels no classes.

    Example:
        >>> self_confidence(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1])).tolist()
        [0.9, 0.2]

    References:
        Kuan and Mueller, "Model-agnostic label quality scoring to detect real-world label errors"
        (ICML DataPerf workshop 2022).
    """
    return own_entries(*read_labelled(probabilities, labels))


def normalized_margin(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    r"""How far the given label is ahead of the best other one, scaled to 0 to 1.

    .. math::
        \tfrac12 \left(p_{iy_i} - \max_{k \neq y_i} p_{ik} + 1\right)

    Args:
        probabilities: of a model that has not seen the example's label, ``[N, K]``; rows sum to 1.
        labels: integers from 0 to K - 1, ``[N]``.

    Returns:
        From 0 to 1, ``[N]``; smaller is more suspicious, 0.5 is a tie.

    Raises:
        ValueError: if the rows are no distributions (they are named), or the labels no classes.

    Example:
        >>> normalized_margin(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1])).tolist()
        [0.9, 0.2]

    References:
        Kuan and Mueller, "Model-agnostic label quality scoring to detect real-world label errors"
        (ICML DataPerf workshop 2022).
    """
    probabilities, labels = read_labelled(probabilities, labels)
    best = np.empty(len(labels), probabilities.dtype)
    for block in row_blocks(probabilities):
        others = probabilities[block].copy()
        np.put_along_axis(others, labels[block, None], -np.inf, -1)
        best[block] = others.max(-1)
    return (own_entries(probabilities, labels) - best + 1) / 2


def confidence_weighted_entropy(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    r"""Entropy of the prediction over the label's own probability, mapped to 0 to 1.

    .. math::
        r_i = \frac{H(p_i) / \log K}{\max(p_{iy_i}, 10^{-6})}, \qquad
        s_i = \frac{\log(1 + r_i)}{\max(r_i, 10^{-6})}

    Args:
        probabilities: of a model that has not seen the example's label, ``[N, K]``; rows sum to 1.
        labels: integers from 0 to K - 1, ``[N]``.

    Returns:
        From 0 to 1, ``[N]``; smaller is more suspicious. A prediction that is certain (r = 0) has
        0, as the formula says, whatever the label.

    Raises:
        ValueError: if the rows are no distributions (they are named), or the labels no classes.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.8, 0.2]])
        >>> confidence_weighted_entropy(probabilities, np.array([0, 1])).round(3).tolist()
        [0.805, 0.423]

    References:
        Kuan and Mueller, "Model-agnostic label quality scoring to detect real-world label errors"
        (ICML DataPerf workshop 2022).
    """
    probabilities, labels = read_labelled(probabilities, labels)
    entropy = np.empty(len(labels), probabilities.dtype)
    for block in row_blocks(probabilities):
        entropy[block] = -xlogy(probabilities[block], probabilities[block]).sum(-1)
    own = np.maximum(own_entries(probabilities, labels), SMALLEST)
    ratio = entropy / np.log(probabilities.shape[1]) / own
    return np.log1p(ratio) / np.maximum(ratio, SMALLEST)


def adjusted_probabilities(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    r"""Probabilities less the confidence that is usual for each class, as distributions again.

    .. math::
        \tilde p_{ik} \propto p_{ik} - t_k + \max_j t_j

    A class of which the model is never sure is not suspicious for that; any score takes these
    instead of the probabilities.

    Args:
        probabilities: ``[N, K]``; rows sum to 1.
        thresholds: :func:`confident_thresholds`, ``[K]``.

    Returns:
        ``[N, K]``, rows of sum 1.

    Raises:
        ValueError: if the rows are no distributions (they are named), or the thresholds do not fit.

    Example:
        >>> thresholds = np.array([0.9, 0.5])
        >>> adjusted_probabilities(np.array([[0.6, 0.4]]), thresholds).round(3).tolist()
        [[0.429, 0.571]]

    References:
        Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels"
        (JAIR 2021), section 3.1, for the thresholds.
    """
    probabilities = read_probabilities(probabilities)
    thresholds = host_array("thresholds", thresholds, np.float64)
    if thresholds.shape != probabilities.shape[1:] or not np.isfinite(thresholds).all():
        raise ValueError(
            f"thresholds must be a finite number for each class, shape "
            f"{probabilities.shape[1:]}; got the shape {thresholds.shape}."
        )
    shifted = probabilities + (thresholds.max() - thresholds).astype(probabilities.dtype)
    return shifted / shifted.sum(-1, keepdims=True)


def soft_minimum(scores: np.ndarray, *, temperature: float) -> np.ndarray:
    r"""Mean of scores in which the smallest count most.

    .. math::
        \sum_k s_k \, \mathrm{softmax}_k\left((1 - s_k) / T\right)

    Args:
        scores: of the labels of an example or the tokens of a sentence, the last axis ``[..., L]``.
        temperature: T, above 0; small is the minimum, large the mean. 0.1 is usual for the labels
            of an example and 0.05 for the tokens of a sentence.

    Returns:
        ``[...]``.

    Raises:
        ValueError: if there are no scores, one is not finite, or T is out of range.

    Example:
        >>> soft_minimum(np.array([0.9, 0.1, 0.8]), temperature=0.1).round(4).item()
        0.1009

    References:
        Wang and Mueller, "Detecting Label Errors in Token Classification Data"
        (NeurIPS InterNLP workshop 2022).
    """
    scores = read_scores(scores)
    check_number("temperature", temperature, above=0)
    weights = np.exp((scores.min(-1, keepdims=True) - scores) / temperature)
    return (scores * weights).sum(-1) / weights.sum(-1)


def moving_minimum(scores: np.ndarray, *, decay: float = 0.8) -> np.ndarray:
    r"""Exponential moving average of the scores from the largest to the smallest.

    .. math::
        m_1 = s_{(1)}, \qquad m_t = \alpha s_{(t)} + (1 - \alpha) m_{t - 1}

    Args:
        scores: of the labels of an example, ``[..., L]``.
        decay: :math:`\alpha`, from 0 (the largest score) to 1 (the smallest).

    Returns:
        :math:`m_L`, ``[...]``.

    Raises:
        ValueError: if there are no scores, one is not finite, or the decay is out of range.

    Example:
        >>> moving_minimum(np.array([0.1, 0.2, 0.3]), decay=0.5).round(4).item()
        0.175

    References:
        Thyagarajan, Snorrason, Northcutt and Mueller, "Identifying Incorrect Annotations in
        Multi-Label Classification Data" (2022).
    """
    scores = read_scores(scores)
    check_number("decay", decay, at_least=0, at_most=1)
    falling = np.sort(scores, axis=-1)[..., ::-1]
    left = (1 - decay) ** np.arange(scores.shape[-1])[::-1]
    # The first counts whole.
    return falling @ (left * np.where(np.arange(len(left)), decay, 1))


def read_scores(scores: np.ndarray, name: str = "scores") -> np.ndarray:
    """Float64, ``[..., L]``.

    Raises:
        ValueError: unless they are finite numbers, with one at least on the last axis.
    """
    scores = host_array(name, scores, np.float64)
    if not scores.ndim or not scores.shape[-1] or not np.isfinite(scores).all():
        raise ValueError(
            f"{name} must be finite numbers, at least one on the last axis; got the shape "
            f"{scores.shape} with {np.isnan(scores).sum()} NaN and {np.isinf(scores).sum()} "
            "infinite."
        )
    return scores
