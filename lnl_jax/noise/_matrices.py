"""Transition matrices: T[i, j] is the probability of label j for an example of class i."""

import numpy as np


def symmetric(num_classes: int, rate: float, *, include_self: bool = False) -> np.ndarray:
    """Noise that ignores the class.

    Two conventions are in use. Without `include_self` a fraction `rate` of the labels becomes
    false, each other class being as likely. With it, a fraction `rate` is drawn again uniformly
    over *all* classes, so that only ``rate * (K - 1) / K`` of the labels become false.

    Args:
        num_classes: K, at least 2.
        rate: from 0 to 1.
        include_self: whether a redrawn label may be the old one.

    Returns:
        The transition matrix, ``[K, K]``, float64; its rows sum to 1.

    Raises:
        ValueError: if `rate` or `num_classes` is out of range.

    Example:
        >>> symmetric(3, 0.6).tolist()
        [[0.4, 0.3, 0.3], [0.3, 0.4, 0.3], [0.3, 0.3, 0.4]]
        >>> symmetric(3, 0.6, include_self=True).tolist()
        [[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]]
    """
    _check(num_classes, rate)
    redrawn = np.full((num_classes, num_classes), 1 / num_classes)
    if not include_self:
        redrawn = (1 - np.eye(num_classes)) / (num_classes - 1)
    return (1 - rate) * np.eye(num_classes) + rate * redrawn


def pairflip(num_classes: int, rate: float) -> np.ndarray:
    """Noise that turns a class into the next one, and the last into the first.

    Args:
        num_classes: K, at least 2.
        rate: from 0 to 1; below 1/2 the true class remains the most frequent.

    Returns:
        The transition matrix, ``[K, K]``, float64; its rows sum to 1.

    Raises:
        ValueError: if `rate` or `num_classes` is out of range.

    Example:
        >>> pairflip(3, 0.4).tolist()
        [[0.6, 0.4, 0.0], [0.0, 0.6, 0.4], [0.4, 0.0, 0.6]]
    """
    _check(num_classes, rate)
    same = np.eye(num_classes)
    return (1 - rate) * same + rate * np.roll(same, 1, axis=1)


def _check(num_classes: int, rate: float) -> None:
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}.")
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must be from 0 to 1, got {rate}.")
