"""Who was hard, or is mislabelled, by what was recorded during a training."""

import numpy as np

from lnl_jax._host_arguments import host_array, host_classes, read_records


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

    Example:
        >>> logits = np.array([[[3.0, 1.0], [0.0, 2.0]], [[2.0, 1.0], [1.0, 2.0]]])
        >>> area_under_margin(logits, np.array([0, 0])).tolist()
        [1.5, -1.5]

    References:
        Pleiss et al., "Identifying Mislabeled Data using the Area Under the Margin Ranking"
        (NeurIPS 2020), Eq. 1 and 2.
    """
    logits = read_records("logits", logits)
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
    correct = host_array("correct", correct)
    # Of integers, the complement below would count other things.
    if correct.dtype != bool or correct.ndim != 2:
        raise ValueError(
            f"correct must be boolean of shape [T, N], got {correct.dtype} of shape "
            f"{correct.shape}; compare predictions with labels."
        )
    events = (correct[:-1] & ~correct[1:]).sum(0)
    return np.where(correct.any(0), events, len(correct))
