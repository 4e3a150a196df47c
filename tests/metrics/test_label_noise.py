"""What an accuracy says where test labels are wrong: definitions, bounds, and what is refused."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from lnl_jax import metrics

MATRIX = np.array([[0.8, 0.15, 0.05], [0.1, 0.9, 0.0], [0.2, 0.1, 0.7]])


def test_without_errors_the_bounds_are_the_interval_of_wilson():
    shares, counts = np.array([0.0, 0.3, 0.9, 1.0]), np.array([10.0, 200.0, 50.0, 7.0])
    agreement = metrics.Average(np.float32(shares * counts), np.float32(counts))
    bounds = functools.partial(metrics.accuracy_bounds, deviations=stats.norm.ppf(0.975))
    lower, upper = map(np.asarray, jax.jit(bounds)(agreement, 0.0))
    for at, (share, count) in enumerate(zip(shares, counts, strict=True)):
        test = stats.binomtest(round(share * count), int(count))
        wanted = test.proportion_ci(0.95, method="wilson")
        np.testing.assert_allclose((lower[at], upper[at]), wanted, atol=1e-6)


def test_the_bounds_hold_the_accuracy_wherever_the_errors_are(rng):
    true, given = rng.integers(3, size=(2, 40, 500))
    given = np.where(rng.random(given.shape) < 0.2, given, true)
    # Of some models the predictions follow the errors, of others they avoid them.
    follow = np.linspace(0, 1, 40)[:, None]
    predicted = np.where(rng.random(given.shape) < follow, given, true)
    right = (predicted == true).mean(1)
    total = np.float32((predicted == given).sum(1))
    agreement = metrics.Average(total, np.full(40, 500, np.float32))
    bounds = functools.partial(metrics.accuracy_bounds, deviations=0.0)
    found = jax.jit(bounds)(agreement, np.float32((given != true).mean(1)))
    lower, upper = map(np.asarray, found)
    assert (lower <= right + 1e-6).all()
    assert (upper >= right - 1e-6).all()
    # Each bound is reached: by a model that follows all errors, and by one that is always right.
    np.testing.assert_allclose((lower[-1], upper[0]), (right[-1], right[0]), atol=1e-6)


def test_known_noise_is_taken_out_of_an_accuracy(rng):
    counts = rng.integers(1, 40, size=(2, 3, 3)).astype(float)
    of_given = np.einsum("tk,btj->bkj", MATRIX, counts)
    correct = jax.jit(metrics.noise_corrected_accuracy)
    found = correct(of_given, MATRIX)
    np.testing.assert_allclose(found, np.trace(counts, axis1=1, axis2=2) / counts.sum((1, 2)), 1e-5)
    assert np.isnan(correct(np.zeros_like(of_given), MATRIX)).all()


def test_at_the_crossing_two_models_are_alike_and_beyond_it_they_have_changed_places(rng):
    right, wrong = rng.random((2, 6))
    found = np.asarray(jax.jit(metrics.crossing_prevalence)(right, wrong))
    for i in range(6):
        for j in range(6):
            changes = (right[i] > right[j]) != (wrong[i] > wrong[j])
            assert np.isfinite(found[i, j]) == (changes and i != j)
            if changes and i != j:
                share = found[i, j]
                one, other = ((1 - share) * right[k] + share * wrong[k] for k in (i, j))
                assert 0 < share < 1
                assert abs(one - other) < 1e-6
    np.testing.assert_array_equal(found, found.T)


REFUSED = {
    "a share above 1": (
        lambda: metrics.accuracy_bounds(metrics.Average(jnp.ones(()), jnp.ones(())), 30),
        "error_rate must be at least 0 and at most 1, got 30",
    ),
    "a negative deviation": (
        lambda: metrics.accuracy_bounds(
            metrics.Average(jnp.ones(()), jnp.ones(())), 0.1, deviations=-1.0
        ),
        "deviations must be at least 0",
    ),
    "counts of other classes": (
        lambda: metrics.noise_corrected_accuracy(np.ones((2, 2)), MATRIX),
        "counts must have the shape [..., K, K] and matrix [K, K]",
    ),
    "models without a pair": (
        lambda: metrics.crossing_prevalence(np.ones(2), np.ones(3)),
        "on_right and on_wrong must each have one number for each model, [M]; got (2,) and (3,).",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused_in_a_line(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
