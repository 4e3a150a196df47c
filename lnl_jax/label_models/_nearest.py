"""Which examples are most alike, by an exact search, a block of examples at a time."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from lnl_jax._host_arguments import check_integer, host_array

# Distances of one block of examples to all others, and differences of pairs, are in memory at once.
ENTRIES_AT_ONCE = 2**22
# Beyond, a tree visits nearly every example, and matrix products are faster.
FEATURES_OF_A_TREE = 8


class Neighbours(NamedTuple):
    """The nearest other examples of each, the nearest first.

    Attributes:
        distances: floating, ``[N, k]``.
        positions: rows of these examples, integers, ``[N, k]``.

    Example:
        >>> nearest_neighbours(np.eye(3), 1)._fields
        ('distances', 'positions')
    """

    distances: np.ndarray
    positions: np.ndarray


def euclidean_distance(queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    r"""Length of the difference, :math:`\lVert q - x \rVert`, of each query to each key.

    Exact for near duplicates too: where the squares of a matrix product nearly cancel, the
    difference itself is taken.

    Args:
        queries: floating, ``[Q, D]``.
        keys: floating, ``[N, D]``.

    Returns:
        ``[Q, N]``, of their dtype.

    Raises:
        ValueError: if they are not rows of as many features, not floating, not finite or so large
            that squares are not.

    Example:
        >>> euclidean_distance(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]])).tolist()
        [[5.0]]
    """
    queries, keys = _alike(queries, keys)
    with np.errstate(over="ignore", invalid="ignore"):
        scale = (queries**2).sum(-1)[:, None] + (keys**2).sum(-1)
        squares = scale - 2 * (queries @ keys.T)
    if not np.isfinite(squares).all():
        raise ValueError(
            "queries and keys must be finite, and so must the squares of their distances; divide "
            "both by the standard deviation."
        )
    _take_differences(squares, queries, keys, scale)
    return np.sqrt(squares)


def cosine_distance(queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    r"""One less the cosine of the angle, :math:`1 - q^\top x / (\lVert q \rVert \lVert x \rVert)`.

    Args:
        queries: floating, ``[Q, D]``; a row of zeros is at distance 1 of all.
        keys: floating, ``[N, D]``, likewise.

    Returns:
        From 0 to 2, ``[Q, N]``, of their dtype.

    Raises:
        ValueError: if they are not rows of as many features, not floating, not finite or so large
            that their lengths are not.

    Example:
        >>> cosine_distance(np.array([[1.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 3.0]])).tolist()
        [[0.0, 1.0]]
    """
    queries, keys = map(_unit_rows, _alike(queries, keys))
    squares = 2 - 2 * (queries @ keys.T)
    _take_differences(squares, queries, keys, 2.0)
    return np.minimum(squares / 2, 2)


def nearest_neighbours(
    features: np.ndarray,
    num_neighbours: int,
    *,
    metric: Callable[[np.ndarray, np.ndarray], np.ndarray] = cosine_distance,
) -> Neighbours:
    """The nearest other examples of each example.

    The search is exact: by a tree for Euclidean distances of few features, otherwise by all
    distances, a block of examples at a time.

    Args:
        features: finite numbers, ``[N, D]``; float32 is searched as such, all else in float64.
        num_neighbours: k, from 1 to N - 1. Of equally near examples at the end, any.
        metric: a function of rows ``[Q, D]`` and ``[N, D]`` that returns distances ``[Q, N]``, as
            `cosine_distance` (usual for learnt features) and `euclidean_distance` (for 3 features
            or fewer).

    Returns:
        Distances and positions; an example is never its own neighbour, its duplicates are.

    Raises:
        ValueError: if the features are not finite, ``[N, D]``, or k is not from 1 to N - 1.

    Example:
        >>> features = np.array([[0.0, 1.0], [0.1, 1.0], [5.0, 0.0]])
        >>> nearest_neighbours(features, 1).positions.tolist()
        [[1], [0], [1]]
    """
    features = read_features(features)
    check_integer("num_neighbours", num_neighbours, at_most=len(features) - 1)
    if metric is euclidean_distance and features.shape[1] <= FEATURES_OF_A_TREE:
        return _search_tree(features, num_neighbours)
    rows = max(1, ENTRIES_AT_ONCE // len(features))
    blocks = [
        _search_block(features, slice(start, start + rows), num_neighbours, metric)
        for start in range(0, len(features), rows)
    ]
    return Neighbours(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def read_features(features: np.ndarray, name: str = "features", *, at_least: int = 2) -> np.ndarray:
    """Float32 as it is, other numbers as float64, ``[N, D]``.

    Raises:
        ValueError: unless they are finite numbers of `at_least` examples.
    """
    features = host_array(name, features)
    if features.ndim != 2 or features.dtype.kind not in "fiub" or 0 in features.shape:
        raise ValueError(
            f"{name} must be numbers of shape [N, D], got {features.dtype} of shape "
            f"{features.shape}{_repair(name, features)}."
        )
    if len(features) < at_least:
        raise ValueError(f"{name} must be of at least {at_least} examples, got {len(features)}.")
    broken = np.flatnonzero(~np.isfinite(features).all(-1))
    if broken.size:
        raise ValueError(
            f"{name} must be finite; {broken.size} of {len(features)} rows are not, the first is "
            f"row {broken[0]}."
        )
    features = features if features.dtype == np.float32 else features.astype(np.float64)
    with np.errstate(over="ignore"):
        far = np.flatnonzero(~np.isfinite(4 * np.einsum("nd,nd->n", features, features)))
    if far.size:
        raise ValueError(
            f"{name} must have squared distances within {features.dtype}; row {far[0]} is too "
            f"large: divide {name} by their standard deviation."
        )
    return features


def _repair(name: str, features: np.ndarray) -> str:
    if features.dtype.kind not in "fiub":
        return f"; turn text into numbers, {name}.astype(np.float32)"
    if features.ndim == 1:
        return f"; a single feature of each example is {name}[:, None]"
    return f"; flatten images, {name}.reshape(len({name}), -1)"


def _alike(queries: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both, if they are rows of as many features."""
    queries, keys = host_array("queries", queries), host_array("keys", keys)
    shapes = queries.shape, keys.shape
    if any(len(shape) != 2 for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise ValueError(
            f"queries and keys must be rows of as many features, [Q, D] and [N, D]; got shapes "
            f"{shapes[0]} and {shapes[1]}."
        )
    for name, rows in (("queries", queries), ("keys", keys)):
        if rows.dtype.kind != "f":
            raise ValueError(
                f"{name} must be floating, got {rows.dtype}; {name}.astype(np.float32) makes "
                "numbers of it."
            )
    return queries, keys


def _search_tree(features: np.ndarray, count: int) -> Neighbours:
    distances, positions = KDTree(features).query(features, count + 1)
    return _without_itself(distances.astype(features.dtype), positions, np.arange(len(features)))


def _search_block(features: np.ndarray, block: slice, count: int, metric: Callable) -> Neighbours:
    distances = metric(features[block], features)
    positions = np.argpartition(distances, count, axis=-1)[:, : count + 1]
    # Equally near ones in the order of the rows.
    positions.sort(axis=-1)
    distances = np.take_along_axis(distances, positions, -1)
    order = np.argsort(distances, axis=-1, kind="stable")
    distances, positions = (np.take_along_axis(x, order, -1) for x in (distances, positions))
    return _without_itself(distances, positions, np.arange(len(features))[block])


def _without_itself(distances: np.ndarray, positions: np.ndarray, rows: np.ndarray) -> Neighbours:
    """One neighbour less: itself or, where so many duplicates came before it, the last."""
    is_itself = positions == rows[:, None]
    is_itself[:, -1] |= ~is_itself.any(-1)
    shape = len(rows), positions.shape[1] - 1
    return Neighbours(distances[~is_itself].reshape(shape), positions[~is_itself].reshape(shape))


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    if not np.isfinite(norms).all():
        raise ValueError(
            "queries and keys must be finite, and so must their lengths; divide both by the "
            "standard deviation."
        )
    return rows / np.where(norms > 0, norms, 1)


def _take_differences(
    squares: np.ndarray, queries: np.ndarray, keys: np.ndarray, scale: np.ndarray | float
) -> None:
    """Writes the squared difference where little is left of `scale`, so that digits are lost."""
    left, right = np.nonzero(squares < np.sqrt(np.finfo(squares.dtype).eps) * scale)
    pairs = max(1, ENTRIES_AT_ONCE // keys.shape[1])
    for start in range(0, len(left), pairs):
        a, b = left[start : start + pairs], right[start : start + pairs]
        squares[a, b] = ((queries[a] - keys[b]) ** 2).sum(-1)
