"""Scores of a distilled data set that no trick of the evaluation raises."""

import math

from lnl_jax._arguments import check_range


def label_robust_score(
    *,
    real_hard: float,
    synthetic_hard: float,
    synthetic_any: float,
    random_any: float,
    weight: float = 0.5,
) -> float:
    r"""DD-Ranking's label-robust score, from accuracies as fractions.

    .. math:: \mathrm{LRS} = \frac{e^{a} - e^{-1}}{e - e^{-1}}, \quad
        a = w\,\mathrm{IOR} - (1 - w)\,\mathrm{HLR}

    HLR is what hard labels lose, ``real_hard - synthetic_hard``; IOR what the images gain over
    random ones of the same number with the same labels, ``synthetic_any - random_any``.

    Args:
        real_hard: accuracy of all real images with hard labels.
        synthetic_hard: of the distilled images with hard labels.
        synthetic_any: of the distilled images with the method's labels.
        random_any: of random real images with the method's labels.
        weight: w, from 0 to 1.

    Returns:
        From 0 to 1.

    Raises:
        ValueError: if an accuracy is not from 0 to 1: percentages leave the scale; or the weight.

    References:
        Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation" (2025). Its code
        0.2.0 puts percentages into the exponential, so that its scores are not from 0 to 1.
    """
    check_range("weight", weight, at_least=0, at_most=1)
    _check(real_hard, synthetic_hard, synthetic_any, random_any)
    lost, gained = real_hard - synthetic_hard, synthetic_any - random_any
    return _scale(weight * gained - (1 - weight) * lost)


def augmentation_robust_score(
    *,
    synthetic_augmented: float,
    random_augmented: float,
    synthetic_plain: float,
    random_plain: float,
    weight: float = 0.5,
) -> float:
    r"""DD-Ranking's augmentation-robust score, from accuracies as fractions.

    The scale of `label_robust_score`, of the gain over random images with augmentation, weighted
    by `weight`, and without, weighted by the rest.

    Args:
        synthetic_augmented: accuracy of the distilled images with augmentation.
        random_augmented: of random real images with it.
        synthetic_plain: of the distilled images without.
        random_plain: of random real images without.
        weight: of the former, from 0 to 1.

    Returns:
        From 0 to 1.

    Raises:
        ValueError: if an accuracy or the weight is not from 0 to 1.

    References:
        Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation" (2025).
    """
    check_range("weight", weight, at_least=0, at_most=1)
    _check(synthetic_augmented, random_augmented, synthetic_plain, random_plain)
    augmented, plain = synthetic_augmented - random_augmented, synthetic_plain - random_plain
    return _scale(weight * augmented + (1 - weight) * plain)


def _scale(value: float) -> float:
    return (math.exp(value) - math.exp(-1)) / (math.e - math.exp(-1))


def _check(*accuracies: float) -> None:
    if not all(0 <= value <= 1 for value in accuracies):
        raise ValueError(f"accuracies must be fractions from 0 to 1, got {accuracies}.")
