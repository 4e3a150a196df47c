"""Examples that are like no other, or like another one too much, by distances to neighbours."""

from typing import NamedTuple

import numpy as np

from lnl_jax._host_arguments import check_number, host_array
from lnl_jax.label_models._nearest import Neighbours

# So many roundings of 1 are no distance: such neighbours are duplicates.
ROUNDINGS = 100
SMALLEST = np.finfo(np.float64).eps


class NearDuplicates(NamedTuple):
    """Which examples are nearly the same as another one.

    Attributes:
        scores: from 0 (an exact duplicate) to 1, ``[N]``.
        flags: boolean, ``[N]``.
        pairs: rows of such pairs, the smaller first, each once, in order, ``[P, 2]``.

    Example:
        >>> NearDuplicates._fields
        ('scores', 'flags', 'pairs')
    """

    scores: np.ndarray
    flags: np.ndarray
    pairs: np.ndarray


def outlier_scores(distances: np.ndarray, *, scale: float | None = None) -> np.ndarray:
    r"""How usual it is to be so far from one's neighbours: near 0 for outliers.

    .. math::
        s_i = \exp(-\bar d_i / \mathrm{median}_j \, \bar d_j), \qquad
        \bar d_i = \tfrac1k \sum_{n=1}^k d_{in}

    Args:
        distances: to the nearest neighbours, ``[N, k]``, of :func:`nearest_neighbours`; 10 of them
            are usual.
        scale: of the distances, above 0, instead of their median, as for new examples scored
            among old ones.

    Returns:
        From 0 to 1, ``[N]``; smaller is more suspicious, 1 where all neighbours are duplicates.

    Raises:
        ValueError: if the distances are not finite or below 0, or the scale is out of range.

    Example:
        >>> outlier_scores(np.array([[0.1], [0.1], [0.1], [0.7]])).round(4).tolist()
        [0.3679, 0.3679, 0.3679, 0.0009]

    References:
        Kuan and Mueller, "Back to the Basics: Revisiting Out-of-Distribution Detection Baselines"
        (ICML PODS workshop 2022).
    """
    mean = _read_distances(distances).mean(-1)
    if scale is None:
        scale = max(np.median(mean), SMALLEST)
    check_number("scale", scale, above=0)
    return np.where(mean < ROUNDINGS * SMALLEST, 1.0, np.exp(-mean / scale))


def outlier_flags(distances: np.ndarray, *, spread: float = 1.7) -> np.ndarray:
    r"""Flags distances beyond the usual ones: the third quartile and a multiple of their range.

    .. math::
        \bar d_i > Q_3 + c \, (Q_3 - Q_1)

    of the mean distances :math:`\bar d` to the neighbours.

    Args:
        distances: to the nearest neighbours, ``[N, k]``, of :func:`nearest_neighbours`.
        spread: c, at least 0.

    Returns:
        Boolean, ``[N]``.

    Raises:
        ValueError: if the distances are not finite or below 0, or the spread is out of range.

    Example:
        >>> outlier_flags(np.array([[0.1], [0.12], [0.11], [0.1], [0.7]])).tolist()
        [False, False, False, False, True]

    References:
        Tukey, "Exploratory Data Analysis" (1977), for fences beyond the quartiles.
    """
    mean = _read_distances(distances).mean(-1)
    check_number("spread", spread, at_least=0)
    lower, upper = np.percentile(mean, [25, 75])
    return mean > upper + spread * (upper - lower)


def near_duplicates(neighbours: Neighbours, *, fraction: float = 0.13) -> NearDuplicates:
    r"""Finds examples that are much nearer to another one than is usual.

    .. math::
        s_i = 1 - \exp(-d_{i1} / m), \qquad m = \mathrm{median}_j \, d_{j1}

    A pair is flagged if its distance is below `fraction` times m and one is among the neighbours of
    the other.

    Args:
        neighbours: of :func:`nearest_neighbours`; a set of more duplicates than k is found as pairs
            of its members, not as all of them.
        fraction: of the median distance to the nearest one, at least 0.

    Returns:
        Scores, flags and pairs.

    Raises:
        ValueError: if the distances are not finite or below 0, or the fraction is out of range.

    Example:
        >>> distances = np.array([[0.01], [1.0], [0.01], [0.9]])
        >>> found = near_duplicates(Neighbours(distances, np.array([[2], [0], [0], [1]])))
        >>> found.pairs.tolist(), found.flags.tolist()
        ([[0, 2]], [True, False, True, False])

    References:
        Kuan and Mueller, "Back to the Basics: Revisiting Out-of-Distribution Detection Baselines"
        (ICML PODS workshop 2022), for distances scaled by their median.
    """
    distances = _read_distances(neighbours.distances)
    positions = np.asarray(neighbours.positions)
    if positions.shape != distances.shape or positions.dtype.kind not in "iu":
        raise ValueError(
            f"neighbours must have integer positions in the shape of their distances, "
            f"{distances.shape}; got {positions.dtype} of shape {positions.shape}."
        )
    check_number("fraction", fraction, at_least=0)
    # As if they were 0, so that it is the same on every machine.
    distances = np.where(distances < ROUNDINGS * SMALLEST, 0, distances)
    usual = max(np.median(distances[:, 0]), SMALLEST)
    rows, columns = np.nonzero(distances < fraction * usual)
    pairs = np.sort(np.stack([rows, positions[rows, columns]], -1), axis=-1)
    pairs = np.unique(pairs, axis=0)
    flags = np.zeros(len(distances), bool)
    flags[pairs] = True
    return NearDuplicates(-np.expm1(-distances[:, 0] / usual), flags, pairs)


def _read_distances(distances: np.ndarray) -> np.ndarray:
    distances = host_array("distances", distances, np.float64)
    if distances.ndim != 2 or 0 in distances.shape:
        raise ValueError(
            f"distances must have the shape [N, k], to k neighbours; got {distances.shape}."
        )
    broken = np.flatnonzero(~(np.isfinite(distances) & (distances >= 0)).all(-1))
    if broken.size:
        raise ValueError(
            f"distances must be finite and at least 0; {broken.size} of {len(distances)} rows are "
            f"not, the first is row {broken[0]}."
        )
    return distances
