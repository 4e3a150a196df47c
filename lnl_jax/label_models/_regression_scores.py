"""How well a number that was given as the label fits a prediction."""

import numpy as np

from lnl_jax._host_arguments import check_number, host_array
from lnl_jax.label_models._nearest import euclidean_distance, nearest_neighbours
from lnl_jax.label_models._outliers import outlier_scores


def residual_scores(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    r"""Closeness of prediction and target, :math:`e^{-|f_i - y_i|}`.

    Args:
        predictions: of a model that has not seen the example's target, ``[N]``.
        targets: the given numbers, ``[N]``.

    Returns:
        From 0 to 1, ``[N]``; smaller is more suspicious. It depends on the unit of the targets.

    Raises:
        ValueError: if they are not finite numbers of one shape ``[N]``.

    Example:
        >>> residual_scores(np.array([1.0, 2.0]), np.array([1.0, 4.0])).round(3).tolist()
        [1.0, 0.135]

    References:
        Zhou, Mueller, Kumar, Wang and Lei, "Detecting Errors in Numerical Data via any Regression
        Model" (2023), for the residual as a score.
    """
    predictions, targets = _read(predictions, targets)
    return np.exp(-np.abs(predictions - targets))


def outlying_residual_scores(
    predictions: np.ndarray,
    targets: np.ndarray,
    *,
    residual_weight: float = 5.0,
    neighbour_fraction: float = 0.5,
) -> np.ndarray:
    r"""How usual the residual is among examples of a similar target (OUTRE).

    Each example is the point :math:`(\tilde y_i, w \tilde r_i)` of its target and its residual
    :math:`r_i = f_i - y_i`, both standardised; its score is :func:`outlier_scores` of the
    distances to its nearest points, of which it is one itself.

    Args:
        predictions: of a model that has not seen the example's target, ``[N]``, N at least 3.
        targets: the given numbers, ``[N]``.
        residual_weight: w, above 0.
        neighbour_fraction: of all points that are neighbours, above 0, at most 1; rounded up.

    Returns:
        From 0 to 1, ``[N]``; smaller is more suspicious.

    Raises:
        ValueError: if they are not finite numbers of one shape ``[N]``, or a number is out of
            range.

    Example:
        >>> targets = np.arange(9.0)
        >>> predictions = targets + 0.1 * np.sin(targets) + 4 * (targets == 6)
        >>> outlying_residual_scores(predictions, targets).argmin().item()
        6

    References:
        Kuan and Mueller, "Back to the Basics: Revisiting Out-of-Distribution Detection Baselines"
        (ICML PODS workshop 2022), of these points.
    """
    predictions, targets = _read(predictions, targets)
    if len(targets) < 3:
        raise ValueError(f"targets must be at least 3 to have neighbours, got {len(targets)}.")
    check_number("residual_weight", residual_weight, above=0)
    check_number("neighbour_fraction", neighbour_fraction, above=0, at_most=1)
    residuals = _standardised(predictions - targets)
    points = np.stack([_standardised(targets), residual_weight * residuals], -1)
    count = int(np.ceil(neighbour_fraction * len(targets)))
    others = min(max(count - 1, 1), len(targets) - 1)
    distances = nearest_neighbours(points, others, metric=euclidean_distance).distances
    itself = np.zeros((len(targets), max(count - others, 0)))
    return outlier_scores(np.concatenate([itself, distances], -1))


def _standardised(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean()
    deviation = centred.std()
    return centred / deviation if deviation > 0 else centred


def _read(predictions: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predictions, targets = (
        host_array("predictions", predictions, np.float64),
        host_array("targets", targets, np.float64),
    )
    if predictions.ndim != 1 or predictions.shape != targets.shape or not len(targets):
        raise ValueError(
            f"predictions and targets must be numbers of one shape [N], got {predictions.shape} "
            f"and {targets.shape}."
        )
    for name, values in (("predictions", predictions), ("targets", targets)):
        broken = np.flatnonzero(~np.isfinite(values))
        if broken.size:
            raise ValueError(
                f"{name} must be finite; {broken.size} of {len(values)} are not, the first in row "
                f"{broken[0]}: {values[broken[0]]}."
            )
    return predictions, targets
