"""Which class a class is mistaken for."""

from collections.abc import Iterable

from lnl_jax.noise._checks import check_num_classes


def _swaps(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    return {old: new for pair in pairs for old, new in (pair, pair[::-1])}


#: Ten pairs of letters that look alike, both ways, of 26 classes (A is 0): B-D, C-G, E-F, H-N, I-L,
#: K-X, M-W, O-Q, P-R, U-V. For `class_dependent`; Zhu et al., "Label Distributionally Robust Losses
#: for Multi-class Classification" (ICML 2023), official code.
LETTER_SWAPS = _swaps(
    (ord(first) - ord("A"), ord(second) - ord("A"))
    for first, second in "BD CG EF HN IL KX MW OQ PR UV".split()
)

#: Five pairs of vowels, both ways: 0-1, 2-3, 4-5, 6-7, 8-9; the last of the 11 classes stays clean.
#: For `class_dependent`; Zhu et al. (ICML 2023), official code.
VOWEL_SWAPS = _swaps((first, first + 1) for first in range(0, 10, 2))

#: Six pairs of related newsgroups, both ways, of 20 classes: 2-5, 3-4, 7-8, 9-10, 11-12, 15-18. For
#: `class_dependent`; Zhu et al. (ICML 2023), official code.
NEWS20_SWAPS = _swaps([(2, 5), (3, 4), (7, 8), (9, 10), (11, 12), (15, 18)])


def cyclic(num_classes: int) -> dict[int, int]:
    """Every class is mistaken for the next one, and the last for the first.

    Args:
        num_classes: K, at least 2.

    Returns:
        The mapping ``{i: (i + 1) % K}``; `class_dependent` with it is `pairflip`.

    Raises:
        ValueError: if `num_classes` is below 2.

    Example:
        >>> cyclic(3)
        {0: 1, 1: 2, 2: 0}

    References:
        Zhu et al., "Label Distributionally Robust Losses for Multi-class Classification" (ICML
        2023), class-dependent noise on CIFAR-100 and others, official code.
    """
    check_num_classes(num_classes)
    return {label: (label + 1) % num_classes for label in range(num_classes)}
