"""Transition matrices: T[i, j] is the probability of label j for an example of class i."""

from collections.abc import Mapping

import numpy as np

from lnl_jax.noise._checks import check_num_classes, check_rate

# automobile, airplane, horse, dog, cat for truck, bird, deer, cat, dog.
_CIFAR10_MISTAKES = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}


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
    check_num_classes(num_classes)
    check_rate(rate)
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
    check_num_classes(num_classes)
    check_rate(rate)
    same = np.eye(num_classes)
    return (1 - rate) * same + rate * np.roll(same, 1, axis=1)


def class_dependent(num_classes: int, rate: float, mapping: Mapping[int, int]) -> np.ndarray:
    """Noise that turns a class into the one that it is mistaken for, and spares the others.

    A class that is not in the mapping stays clean, so that the fraction of false labels is `rate`
    times the share of the classes that are.

    Args:
        num_classes: K, at least 2.
        rate: from 0 to 1.
        mapping: class to class, one direction as given: ``{3: 5}`` turns 3 into 5, not 5 into 3.
            `LETTER_SWAPS`, `VOWEL_SWAPS`, `NEWS20_SWAPS` and `cyclic` are such mappings.

    Returns:
        The transition matrix, ``[K, K]``, float64; its rows sum to 1.

    Raises:
        ValueError: if `rate` or `num_classes` is out of range, or a class of the mapping is no
            integer from 0 to K - 1.

    Example:
        >>> class_dependent(3, 0.4, {0: 2}).tolist()
        [[0.6, 0.0, 0.4], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]

    References:
        Zhu et al., "Label Distributionally Robust Losses for Multi-class Classification" (ICML
        2023), class-dependent noise of Section 6.
    """
    check_num_classes(num_classes)
    check_rate(rate)
    if not isinstance(mapping, Mapping):
        raise ValueError(
            f"mapping must be from class to class, such as {{3: 5}}, got {type(mapping).__name__}."
        )
    matrix = np.eye(num_classes)
    for pair in mapping.items():
        if not all(_is_class(label, num_classes) for label in pair):
            raise ValueError(
                f"mapping must be from class to class, integers from 0 to {num_classes - 1}; got "
                f"{pair[0]!r}: {pair[1]!r}."
            )
        old, new = pair
        matrix[old, old] -= rate
        matrix[old, new] += rate
    return matrix


def _is_class(label: int, num_classes: int) -> bool:
    integer = isinstance(label, int | np.integer) and not isinstance(label, bool)
    return integer and 0 <= label < num_classes


def cifar10_asymmetric(rate: float) -> np.ndarray:
    """Noise between the classes of CIFAR-10 that look alike.

    Truck becomes automobile, bird airplane, deer horse, and cat and dog are swapped; the other five
    classes stay clean, so that half of `rate` of the labels of balanced classes are false.

    Args:
        rate: from 0 to 1, of the five classes; below 1/2 the true class remains the most frequent.

    Returns:
        The transition matrix, ``[10, 10]``, float64; its rows sum to 1.

    Raises:
        ValueError: if `rate` is out of range.

    Example:
        >>> truck, automobile = 9, 1
        >>> cifar10_asymmetric(0.4)[truck, [truck, automobile]].tolist()
        [0.6, 0.4]

    References:
        Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction
        Approach" (CVPR 2017), Section 5.
    """
    return class_dependent(10, rate, _CIFAR10_MISTAKES)
