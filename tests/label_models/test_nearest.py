"""The search for neighbours is exact, whatever way it takes."""

import numpy as np
import pytest

from lnl_jax import label_models
from lnl_jax.label_models import _nearest
from tests.label_models.cases import nearest, waves

METRICS = [label_models.cosine_distance, label_models.euclidean_distance]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("width", [3, 12])
def test_trees_and_blocks_find_the_same(metric, width, monkeypatch):
    features = waves(30, width, 0.7) + 0.5 * waves(30, width, 2.2) ** 2
    distances, positions = nearest(features, 4, metric=metric)
    for entries in (2**22, 100):
        monkeypatch.setattr(_nearest, "ENTRIES_AT_ONCE", entries)
        found = label_models.nearest_neighbours(features, 4, metric=metric)
        np.testing.assert_array_equal(found.positions, positions)
        np.testing.assert_allclose(found.distances, distances, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_near_duplicates_far_from_the_origin_keep_their_distance(metric, dtype):
    row = np.array([[300.0, 400.0, 0.0]], dtype)
    near = row + np.array([[0.0, 0.0, 0.01]], dtype)
    exact = {label_models.euclidean_distance: 0.01, label_models.cosine_distance: 2e-10}[metric]
    np.testing.assert_allclose(metric(row, near), exact, rtol=1e-3)
    assert metric(row, row) == 0


def test_of_more_duplicates_than_neighbours_none_is_its_own():
    features = np.repeat(waves(2, 3, 0.1), 8, axis=0)
    for metric in METRICS:
        found = label_models.nearest_neighbours(features, 3, metric=metric)
        assert (found.positions != np.arange(16)[:, None]).all()
        np.testing.assert_array_equal(
            found.positions // 8, np.repeat([[0] * 3, [1] * 3], 8, axis=0)
        )
        np.testing.assert_array_equal(found.distances, 0)


def test_any_function_of_rows_is_a_metric():
    def steps(queries, keys):
        return np.abs(queries[:, None] - keys).sum(-1)

    features = np.array([[0.0, 0.0], [3.0, 0.0], [1.5, 1.6]])
    found = label_models.nearest_neighbours(features, 1, metric=steps)
    assert found.positions.tolist() == [[1], [0], [0]]
