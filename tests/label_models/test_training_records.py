"""Scores from the records of a training, by hand."""

import numpy as np

from lnl_jax import label_models


def test_the_area_under_the_margin_by_hand():
    logits = np.array([[[3.0, 1, 0], [0, 2, 5]], [[1, 1, 0], [0, 2, 4]]])
    found = label_models.area_under_margin(logits, np.array([0, 1]))
    np.testing.assert_allclose(found, [1, -2.5])


def test_forgetting_by_hand():
    correct = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]], bool)
    np.testing.assert_array_equal(label_models.forgetting(correct), [2, 1, 4])
