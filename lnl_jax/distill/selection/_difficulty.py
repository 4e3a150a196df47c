"""Which examples to keep: how hard they were in training."""

import numpy as np

from lnl_jax._arguments import check_range
from lnl_jax._host_arguments import check_integer, host_classes, read_records
from lnl_jax.distill._checks import read_numbers


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
    probabilities = read_records("probabilities", probabilities)
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities must be finite; a softmax of finite scores is.")
    labels = host_classes(labels, *probabilities.shape[1:])
    truth = np.eye(probabilities.shape[-1])[labels]
    return np.linalg.norm(probabilities - truth, axis=-1).mean(0)


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
