"""Which examples to keep: how hard they were in training."""

import numpy as np

from lnl_jax._arguments import check_range
from lnl_jax._host_arguments import check_integer
from lnl_jax.distill._checks import host_classes, read_numbers


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
    difficulty = read_numbers("difficulty", difficulty)
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


def _read_records(name: str, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 3 or not len(values):
        raise ValueError(
            f"{name} must have the shape [T, N, K], a record of the training first; got "
            f"{values.shape}."
        )
    return values
