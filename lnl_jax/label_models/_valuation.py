"""What each training example is worth to a prediction of the others, exactly."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from lnl_jax._host_arguments import check_integer, host_array, host_classes
from lnl_jax.label_models._nearest import ENTRIES_AT_ONCE, euclidean_distance, read_features


def knn_shapley(
    features: ArrayLike,
    labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    *,
    num_neighbours: int = 10,
    metric: Callable[[np.ndarray, np.ndarray], np.ndarray] = euclidean_distance,
) -> np.ndarray:
    r"""The exact Shapley values of training examples for a k-nearest-neighbour classifier.

    The worth of a set S for a test example is the number of matching labels among its
    :math:`\min(k, |S|)` nearest in S, over k. With the training examples sorted by their distance
    to the test example,

    .. math::
        s_{(N)} = \frac{1[y_{(N)} = y]}{N}, \qquad
        s_{(j)} = s_{(j+1)} + \frac{1[y_{(j)} = y] - 1[y_{(j+1)} = y]}{k} \frac{\min(k, j)}{j}

    and the value of an example is the mean of its s over the test examples. All values sum to the
    worth of the whole training set. It takes :math:`O(N \log N)` for each test example.

    Args:
        features: of the training examples, ``[N, D]``, finite.
        labels: theirs, integers from 0 on, ``[N]``.
        test_features: ``[Q, D]``.
        test_labels: integers from 0 on, ``[Q]``.
        num_neighbours: k, from 1 to N.
        metric: a function of rows ``[Q, D]`` and ``[N, D]`` that returns distances ``[Q, N]``, as
            `euclidean_distance` and `cosine_distance`.

    Returns:
        float64, ``[N]``; smaller is worth less, below 0 is harmful. Of examples as far from a test
        example the one of the smaller index counts as nearer.

    Raises:
        ValueError: if features are not finite or do not fit each other, labels are no classes, or k
            is out of range.

    Example:
        >>> features, labels = np.array([[0.0], [1.0], [5.0]]), np.array([0, 1, 1])
        >>> values = knn_shapley(features, labels, [[0.4]], [0], num_neighbours=1)
        >>> values.round(3).tolist()
        [1.0, 0.0, 0.0]

    References:
        Jia et al., "Efficient Task-Specific Data Valuation for Nearest Neighbor Algorithms"
        (VLDB 2019), Theorem 1.
    """
    features = read_features(features, at_least=1)
    test_features = read_features(test_features, "test_features", at_least=1)
    if features.shape[1] != test_features.shape[1]:
        raise ValueError(
            f"test_features must have the {features.shape[1]} columns of features, got "
            f"{test_features.shape[1]}."
        )
    labels = host_classes(labels, len(features))
    test_labels = host_classes(test_labels, len(test_features), name="test_labels")
    check_integer("num_neighbours", num_neighbours, at_most=len(features))
    total = np.zeros(len(features))
    for rows in _parts(len(test_features), len(features)):
        nearest_first = _order(metric(test_features[rows], features))
        matches = labels[nearest_first] == test_labels[rows, None]
        total += _sum_by_example(nearest_first, _sorted_values(matches, num_neighbours))
    return total / len(test_features)


def knn_shapley_of_others(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_neighbours: int = 10,
    metric: Callable[[np.ndarray, np.ndarray], np.ndarray] = euclidean_distance,
) -> np.ndarray:
    """The exact Shapley values where each example is the test example of all others.

    As `knn_shapley`, whose training set is all examples but the test example; no example has a
    worth for itself. The mean is over all N test examples. Mislabelled ones are worth least.

    Args:
        features: ``[N, D]``, finite.
        labels: integers from 0 on, ``[N]``, the ones to be judged.
        num_neighbours: k, from 1 to N - 1.
        metric: of the distances, as there.

    Returns:
        float64, ``[N]``; smaller is more suspicious.

    Raises:
        ValueError: if features are not finite, labels are no classes, or k is out of range.

    Example:
        >>> features = np.array([[0.0], [0.1], [0.2], [0.3], [5.0], [5.1]])
        >>> values = knn_shapley_of_others(features, [0, 0, 1, 0, 1, 1], num_neighbours=1)
        >>> int(values.argmin())
        2

    References:
        As :func:`knn_shapley`.
    """
    features = read_features(features)
    labels = host_classes(labels, len(features))
    check_integer("num_neighbours", num_neighbours, at_most=len(features) - 1)
    total = np.zeros(len(features))
    for rows in _parts(len(features), len(features)):
        distances = metric(features[rows], features)
        # The last one then is the example itself, which is left out.
        distances[np.arange(len(rows)), rows] = np.inf
        nearest_first = _order(distances)[:, :-1]
        matches = labels[nearest_first] == labels[rows, None]
        values = _sorted_values(matches, num_neighbours)
        total += _sum_by_example(nearest_first, values, len(features))
    return total / len(features)


def _parts(tests: int, size: int) -> list[np.ndarray]:
    step = max(1, ENTRIES_AT_ONCE // size)
    return [np.arange(start, min(start + step, tests)) for start in range(0, tests, step)]


def _order(distances: np.ndarray) -> np.ndarray:
    """The nearest first, of equally near ones the smaller index."""
    order = np.argsort(distances, axis=1)
    ordered = np.take_along_axis(distances, order, 1)
    # A stable sort takes five times as long, and few rows need it.
    ties = (ordered[:, 1:] == ordered[:, :-1]).any(1)
    order[ties] = np.argsort(distances[ties], axis=1, kind="stable")
    return order


def _sorted_values(matches: np.ndarray, num_neighbours: int) -> np.ndarray:
    """The values of the examples by rank, ``[Q, N]``, the nearest first."""
    size = matches.shape[1]
    rank = np.arange(1, size)
    matches = matches.astype(np.int8)
    steps = matches[:, :-1] - matches[:, 1:]
    steps = steps * (np.minimum(num_neighbours, rank) / (rank * num_neighbours))
    values = np.empty(matches.shape)
    values[:, -1] = matches[:, -1] / size
    np.cumsum(steps[:, ::-1], axis=1, out=values[:, -2::-1])
    values[:, :-1] += values[:, -1:]
    return values


def _sum_by_example(
    nearest_first: np.ndarray, values: np.ndarray, size: int | None = None
) -> np.ndarray:
    """The values of all test examples, back in the order of the training examples, ``[N]``."""
    size = nearest_first.shape[1] if size is None else size
    return np.bincount(nearest_first.ravel(), values.ravel(), minlength=size)


def out_of_bag_values(scores: ArrayLike, in_subset: ArrayLike) -> np.ndarray:
    r"""The mean score of each example under the models that were not trained on it (Data-OOB).

    .. math::
        v_i = \frac{\sum_b (1 - M_{bi})\, s_{bi}}{\sum_b (1 - M_{bi})}

    Args:
        scores: of example i under model b, ``[B, N]``: whether the prediction is the label
            (boolean), or for regression minus the squared error. Those in the bag are not read.
        in_subset: boolean, ``[B, N]``: whether model b was trained on example i, as in a bag that
            is drawn with replacement. The authors take 1000 bags.

    Returns:
        float64, ``[N]``; smaller is more suspicious. NaN for an example that was never out of a
        bag: more bags are needed for it.

    Raises:
        ValueError: if the shapes differ or are not ``[B, N]``, `in_subset` is not boolean, or a
            score out of the bag is NaN.

    Example:
        >>> correct = np.array([[True, False, True], [True, True, False]])
        >>> in_subset = np.array([[False, False, True], [False, True, True]])
        >>> out_of_bag_values(correct, in_subset).tolist()
        [1.0, 0.0, nan]

    References:
        Kwon and Zou, "Data-OOB: Out-of-bag Estimate as a Simple and Efficient Data Value"
        (ICML 2023), Section 3.
    """
    scores, in_subset = host_array("scores", scores), host_array("in_subset", in_subset)
    if in_subset.dtype != bool or in_subset.ndim != 2 or scores.shape != in_subset.shape:
        raise ValueError(
            "scores and in_subset must have one shape [B, N], in_subset boolean; got "
            f"{scores.shape} and {in_subset.dtype} of shape {in_subset.shape}."
        )
    if scores.dtype.kind not in "fiub":
        raise ValueError(f"scores must be boolean or numbers, got {scores.dtype}.")
    scores = np.where(in_subset, 0.0, scores.astype(np.float64))
    if np.isnan(scores).any():
        raise ValueError(
            f"scores must be numbers out of the bag; {np.isnan(scores).any(0).sum()} examples have "
            "NaN there."
        )
    count = (~in_subset).sum(0)
    return np.divide(scores.sum(0), count, out=np.full(len(count), np.nan), where=count > 0)
