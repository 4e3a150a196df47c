"""Which training examples are memorised, and whom they help: from trainings on random subsets."""

import numpy as np
from numpy.typing import ArrayLike

from lnl_jax._host_arguments import check_integer, host_array
from lnl_jax.label_models._nearest import read_features


def memorization_estimates(correct: ArrayLike, in_subset: ArrayLike) -> np.ndarray:
    r"""How much likelier an example is predicted right by models that were trained on it.

    .. math::
        m_i = \frac{\sum_t M_{ti} c_{ti}}{\sum_t M_{ti}}
            - \frac{\sum_t (1 - M_{ti}) c_{ti}}{\sum_t (1 - M_{ti})}

    Its expectation over random subsets is the memorisation of a training on so many examples.

    Args:
        correct: boolean, ``[T, N]``: whether model t predicts the given label of training example
            i. Probabilities of the label are taken as well: they make the estimate less noisy.
        in_subset: M, boolean, ``[T, N]``: whether model t was trained on example i.

    Returns:
        float64, ``[N]``, from -1 to 1; near 1 is memorised. NaN for an example that all or none of
        the models were trained on.

    Raises:
        ValueError: if the shapes are not one ``[T, N]``, `in_subset` is not boolean, or `correct`
            is not finite.

    Example:
        >>> correct = np.array([[True, True], [True, False], [True, True]])
        >>> in_subset = np.array([[True, True], [False, False], [True, True]])
        >>> memorization_estimates(correct, in_subset).tolist()
        [0.0, 1.0]

    References:
        Feldman and Zhang, "What Neural Networks Memorize and Why: Discovering the Long Tail via
        Influence Estimation" (NeurIPS 2020), Eq. 1 and Algorithm 1.
    """
    correct, in_subset = _read_trainings("correct", correct, in_subset)
    if correct.shape != in_subset.shape:
        raise ValueError(
            f"correct and in_subset must have one shape [T, N], got {correct.shape} and "
            f"{in_subset.shape}."
        )
    with_it, without_it = in_subset.sum(0), (~in_subset).sum(0)
    right_with = np.where(in_subset, correct, 0).sum(0)
    right_without = np.where(in_subset, 0, correct).sum(0)
    return _mean(right_with, with_it) - _mean(right_without, without_it)


def influence_estimates(test_correct: ArrayLike, in_subset: ArrayLike) -> np.ndarray:
    r"""How much likelier a test example is predicted right with a training example than without.

    .. math::
        I_{ij} = \frac{\sum_t M_{ti} c'_{tj}}{\sum_t M_{ti}}
               - \frac{\sum_t (1 - M_{ti}) c'_{tj}}{\sum_t (1 - M_{ti})}

    Two products of matrices give all pairs.

    Args:
        test_correct: :math:`c'`, boolean or probabilities of the label, ``[T, J]``: of test example
            j under model t.
        in_subset: M, boolean, ``[T, N]``: whether model t was trained on example i.

    Returns:
        float64, ``[N, J]``; NaN in the row of an example that all or none of the models were
        trained on. An estimate from T models has a standard error of about :math:`1 / \sqrt T`.

    Raises:
        ValueError: if there is not a row per model in both, `in_subset` is not boolean, or
            `test_correct` is not finite.

    Example:
        >>> in_subset = np.array([[True], [False], [True], [False]])
        >>> influence_estimates(np.array([[1], [0], [1], [1]], bool), in_subset).tolist()
        [[0.5]]

    References:
        Feldman and Zhang, "What Neural Networks Memorize and Why: Discovering the Long Tail via
        Influence Estimation" (NeurIPS 2020), Eq. 2.
    """
    test_correct, in_subset = _read_trainings("test_correct", test_correct, in_subset)
    inside = in_subset.astype(np.float64)
    total = test_correct.sum(0)
    with_it = inside.T @ test_correct
    counts = in_subset.sum(0)[:, None]
    return _mean(with_it, counts) - _mean(total - with_it, len(in_subset) - counts)


def long_tail_tau(
    frequencies: ArrayLike, num_examples: int, occurrences: int, *, weights: ArrayLike | None = None
) -> float:
    r"""What an error on a subpopulation costs that was seen a few times: its expected frequency.

    .. math::
        \tau_\ell = \frac{\mathbb E[a^{\ell + 1} (1 - a)^{n - \ell}]}
                         {\mathbb E[a^{\ell} (1 - a)^{n - \ell}]}

    with a drawn from the prior of frequencies. A model that errs on the subpopulations that it has
    seen :math:`\ell` times pays :math:`\tau_\ell` for each: not to fit the examples seen once costs
    :math:`\tau_1` times their number, which in a long tail is no small loss.

    Args:
        frequencies: the values of the prior, each from 0 to 1, ``[M]``.
        num_examples: n, of the training set.
        occurrences: :math:`\ell`, from 0 to n.
        weights: of the values, ``[M]``, not negative; None takes all alike.

    Returns:
        The expected frequency.

    Raises:
        ValueError: if a number is out of range, or the prior gives what was seen no chance.

    Example:
        >>> frequencies = 1 / np.arange(1, 1001)
        >>> round(long_tail_tau(frequencies / frequencies.sum(), 1000, 1), 7)
        0.0005588

    References:
        Feldman, "Does Learning Require Memorization? A Short Tale about a Long Tail" (STOC 2020),
        Theorem 2.3.
    """
    check_integer("num_examples", num_examples)
    check_integer("occurrences", occurrences, at_least=0, at_most=num_examples)
    frequencies = host_array("frequencies", frequencies, np.float64)
    weights = (
        np.ones(frequencies.shape)
        if weights is None
        else host_array("weights", weights, np.float64)
    )
    if frequencies.ndim != 1 or not ((frequencies >= 0) & (frequencies <= 1)).all():
        raise ValueError("frequencies must be numbers from 0 to 1, of shape [M].")
    if weights.shape != frequencies.shape or not ((weights >= 0) & np.isfinite(weights)).all():
        raise ValueError(
            f"weights must be finite, not negative and of the shape {frequencies.shape} of "
            f"frequencies, got the shape {weights.shape}."
        )
    # Of logarithms: the powers themselves are below the smallest number.
    with np.errstate(divide="ignore"):
        logs = np.log(weights)
        # A frequency of 0 to the power of 0 is 1.
        if occurrences:
            logs = logs + occurrences * np.log(frequencies)
        if occurrences < num_examples:
            logs = logs + (num_examples - occurrences) * np.log1p(-frequencies)
    largest = logs.max(initial=-np.inf)
    if largest == -np.inf:
        raise ValueError(
            f"frequencies give {occurrences} of {num_examples} no chance; the prior needs a value "
            "between 0 and 1."
        )
    likelihood = np.exp(logs - largest)
    return float(frequencies @ likelihood / likelihood.sum())


def _read_trainings(
    name: str, correct: ArrayLike, in_subset: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    correct, in_subset = (
        read_features(correct, name, at_least=1),
        host_array("in_subset", in_subset),
    )
    if in_subset.dtype != bool or in_subset.ndim != 2:
        raise ValueError(
            f"in_subset must be boolean of shape [T, N], got {in_subset.dtype} of shape "
            f"{in_subset.shape}."
        )
    if len(correct) != len(in_subset):
        raise ValueError(
            f"{name} must have a row for each of the {len(in_subset)} trainings, got "
            f"{len(correct)}."
        )
    return correct, in_subset


def _mean(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """NaN of nothing."""
    count = np.broadcast_to(count, total.shape)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
