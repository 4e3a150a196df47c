"""Every function of the label models once, with its definition in float64 NumPy.

A definition is written from the formula, an example or a class at a time, and takes what the
function takes. `test_contract.py` compares them all; what it cannot hold is in `WITHOUT_CASE`, with
the reason.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from lnl_jax import label_models


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A function, its definition, and what both are called with.

    `tolerance`: relative and absolute; larger where the function computes in float32.
    """

    function: Callable
    definition: Callable
    arguments: tuple
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
    tolerance: float = 1e-9


def waves(rows, columns, phase, scale=1.0):
    """Numbers without a pattern that repeats."""
    return scale * np.sin(1.7 * np.arange(rows)[:, None] + 0.9 * np.arange(columns) + phase)


def softmax(scores):
    shares = np.exp(scores)
    return shares / shares.sum(-1, keepdims=True)


# --- records of a training ---


def area_under_margin(logits, labels):
    return [
        np.mean([row[i][y] - max(np.delete(row[i], y)) for row in logits])
        for i, y in enumerate(labels)
    ]


def forgetting(correct):
    counts = []
    for column in correct.T:
        lost = sum(before and not after for before, after in zip(column, column[1:], strict=False))
        counts.append(lost if any(column) else len(column))
    return counts


# --- nearest neighbours ---


def length(q, x):
    return np.sqrt(sum((q - x) ** 2))


def angle(q, x):
    return 1 - q @ x / np.sqrt((q @ q) * (x @ x))


def of_pairs(distance):
    return lambda queries, keys: [[distance(q, x) for x in keys] for q in queries]


def nearest(features, count, *, metric):
    """All pairs, sorted."""
    distance = {label_models.euclidean_distance: length, label_models.cosine_distance: angle}
    found = []
    for i, row in enumerate(features):
        others = [(distance[metric](row, x), j) for j, x in enumerate(features) if j != i]
        found.append(sorted(others)[:count])
    distances, positions = (np.array([[pair[n] for pair in row] for row in found]) for n in (0, 1))
    return distances, positions.astype(int)


RECORDS = np.stack([waves(5, 3, t, 2.0) for t in range(4)])
FEATURES = waves(12, 5, 0.3) + 0.3 * waves(12, 5, 2.1) ** 2

CASES = {
    "area_under_margin": Case(
        label_models.area_under_margin, area_under_margin, (RECORDS, np.array([1, 2, 0, 2, 1]))
    ),
    "forgetting": Case(label_models.forgetting, forgetting, (RECORDS[..., 0] > 0,)),
    "cosine_distance": Case(
        label_models.cosine_distance, of_pairs(angle), (FEATURES[:4], FEATURES[4:])
    ),
    "euclidean_distance": Case(
        label_models.euclidean_distance, of_pairs(length), (FEATURES[:4], FEATURES[4:])
    ),
    "nearest_neighbours": Case(
        label_models.nearest_neighbours,
        nearest,
        (FEATURES, 3),
        {"metric": label_models.cosine_distance},
    ),
}

# A name -> why it has no case.
WITHOUT_CASE = {
    "Neighbours": "what nearest_neighbours returns",
}
