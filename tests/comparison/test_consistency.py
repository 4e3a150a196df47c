import functools

import numpy as np
import pytest

from lnl_jax import losses
from lnl_jax.comparison.consistency import (
    is_symmetric,
    minimum,
    posteriors_of_order,
    top_k_regret,
)

# No class has more than half in the first, one has in the second.
POSTERIORS = np.array([[0.1, 0.4, 0.2, 0.3], [0.15, 0.05, 0.55, 0.25]])
ldr_2 = functools.partial(losses.ldr_kl, margin=0.1, top_k=2)


def test_ldr_kl_is_consistent_for_every_k_and_its_minimum_is_the_logarithm_of_the_posterior():
    for temperature in (0.5, 3.0):
        found = minimum(losses.ldr_kl, POSTERIORS, {"temperature": temperature})
        assert found.bounded.all()
        assert found.regret.max() < 1e-6
        assert found.gap.min() > 1e-4
        expected = temperature * np.log(POSTERIORS)
        apart = found.scores - found.scores.mean(1, keepdims=True)
        np.testing.assert_allclose(apart, expected - expected.mean(1, keepdims=True), atol=1e-6)
        entropy = -(POSTERIORS * np.log(POSTERIORS)).sum(1)
        np.testing.assert_allclose(found.risk, temperature * (entropy - np.log(4)), atol=1e-9)


def test_a_symmetric_loss_that_is_consistent_for_the_top_1_is_not_for_the_top_2():
    found = minimum(losses.mean_absolute_error, POSTERIORS)
    assert is_symmetric(losses.mean_absolute_error, 4)
    assert found.regret[:, 0].max() < 1e-6
    # The counter-example: all but the first class may stand in any order.
    np.testing.assert_allclose(found.regret[0], [0, 0.2, 0.2], atol=1e-12)
    assert found.gap[:, 1:].max() < 1e-9
    np.testing.assert_allclose(found.risk, 2 * (1 - POSTERIORS.max(1)), atol=1e-9)


@pytest.mark.slow
def test_ldr_k_is_consistent_for_its_k_and_has_no_minimum_where_a_class_has_more_than_a_kth():
    found = minimum(ldr_2, POSTERIORS, {"temperature": 1.0})
    assert found.bounded.tolist() == [True, False]
    assert found.regret[0, :2].max() < 1e-6
    assert found.gap[0, :2].min() > 1e-4
    scores = 1e4 * (POSTERIORS[1] == POSTERIORS[1].max())
    risk = POSTERIORS[1] @ np.asarray(ldr_2(np.tile(np.float32(scores), (4, 1)), np.arange(4)))
    assert risk < -100


@pytest.mark.slow
def test_a_loss_without_a_gradient_at_its_minimum_is_refused_in_one_line():
    with pytest.raises(ValueError, match="loss has no gradient at its minimum.*ldr_kl") as error:
        minimum(losses.crammer_singer, POSTERIORS)
    assert "\n" not in str(error.value)


def test_regrets_are_what_the_worst_order_of_equal_scores_gives():
    scores = np.array([[3.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    posteriors = np.array([0.1, 0.4, 0.2, 0.3])
    found = top_k_regret(scores, posteriors)
    np.testing.assert_allclose(found, [[0.3, 0.4, 0.2], [0.3, 0.4, 0.3]], atol=1e-12)
    assert np.abs(top_k_regret(posteriors, posteriors)).max() < 1e-12


def test_posteriors_are_distributions_with_probabilities_apart():
    found = posteriors_of_order(50, 5, least=0.02, seed=1)
    np.testing.assert_allclose(found.sum(1), 1)
    assert np.diff(np.sort(found, 1), axis=1).min() >= 0.02 - 1e-12
    assert (found.argmax(1) != 4).any()
    with pytest.raises(ValueError, match=r"least must be below 0\.0667 for 5 classes"):
        posteriors_of_order(2, 5, least=0.1, seed=0)


@pytest.mark.parametrize(
    ("posteriors", "message"),
    [
        ([0.5, 0.5], r"posteriors must be of shape \[Q, K\]"),
        ([[0.5, 0.6]], "add up to 1"),
        ([[0.4, 0.4, 0.2]], "must be different in each row"),
    ],
)
def test_bad_posteriors_are_named(posteriors, message):
    with pytest.raises(ValueError, match=message):
        minimum(losses.mean_absolute_error, np.array(posteriors))
