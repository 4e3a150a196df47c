"""Scores from the records of a training, by hand."""

import numpy as np

from lnl_jax import label_models
from tests.label_models.cases import waves


def test_the_area_under_the_margin_by_hand():
    logits = np.array([[[3.0, 1, 0], [0, 2, 5]], [[1, 1, 0], [0, 2, 4]]])
    found = label_models.area_under_margin(logits, np.array([0, 1]))
    np.testing.assert_allclose(found, [1, -2.5])


def test_forgetting_by_hand():
    correct = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]], bool)
    np.testing.assert_array_equal(label_models.forgetting(correct), [2, 1, 4])


def test_the_area_under_the_margin_is_the_authors():
    logits = np.stack([waves(4, 5, 0.3 + 0.5 * t, 2.0) for t in range(3)])
    found = label_models.area_under_margin(logits, np.array([1, 2, 0, 3]))
    wanted = [0.125384438182, -2.895666247314, -3.434991313764, -0.466120922225]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=5e-13)
