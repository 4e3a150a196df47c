"""Rescaled losses, their meta-gradient, and the statistics that STORM learns from."""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import reweighting


def test_rescaled_losses_keep_their_sum_and_equal_weights_change_nothing(rng):
    losses, weights = np.float32(rng.random((2, 9)))

    @jax.jit
    def program(losses, weights):
        rescaled, pullback = jax.vjp(reweighting.rescale_preserving_sum, losses, weights)
        return rescaled, *pullback(jnp.ones_like(rescaled))

    found, in_losses, in_weights = map(np.asarray, program(losses, weights))
    np.testing.assert_allclose(found.sum(), losses.sum(), rtol=1e-6)
    np.testing.assert_allclose(found / losses / weights, found[0] / losses[0] / weights[0], 1e-5)
    # The network follows the weighted losses.
    np.testing.assert_allclose(in_losses, found / losses, rtol=1e-5)
    # No weight can lower the sum.
    np.testing.assert_allclose(in_weights, np.zeros(9), atol=1e-5)
    equal, *_ = program(losses, np.full(9, 0.3, np.float32))
    np.testing.assert_allclose(equal, losses, rtol=1e-6)


def test_rescaling_without_any_weight_is_0_and_masked_examples_are_left_out():
    losses, where = np.float32([1, 2, np.nan]), np.array([True, True, False])
    rescale = jax.jit(reweighting.rescale_preserving_sum)
    found = rescale(losses, np.zeros(3, np.float32), where=where)
    np.testing.assert_array_equal(found, np.zeros(3))
    found = rescale(losses, np.float32([1, 0, 1]), where=where)
    np.testing.assert_allclose(found, [3, 0, 0], rtol=1e-6)
    assert np.isnan(rescale(losses, np.ones(3, np.float32))).all()


def test_the_meta_gradient_is_that_of_differences_through_the_step(rng):
    with jax.enable_x64(True):
        x, other = rng.normal(size=(2, 12, 3))
        y, clean = rng.integers(2, size=(2, 12)) * 2.0 - 1

        def weighted(weighing, params):
            losses = jax.nn.softplus(-y * (x @ params))
            weights = jax.nn.sigmoid(weighing[0] * losses + weighing[1])
            return reweighting.rescale_preserving_sum(losses, weights).sum()

        def plain(_, params):
            return jax.nn.softplus(-clean * (other @ params)).sum()

        weighing, params = np.array([-0.5, 0.2]), np.array([0.1, -0.2, 0.3])
        evaluate = jax.jit(reweighting.meta_gradient(weighted, plain, learning_rate=0.1))
        _, gradient = evaluate(weighing, params)
        for axis in range(2):
            step = 1e-5 * np.eye(2)[axis]
            above, below = (evaluate(weighing + s, params)[0] for s in (step, -step))
            np.testing.assert_allclose(gradient[axis], (above - below) / 2e-5, rtol=1e-6)


def test_overlap_and_divergence_are_those_of_normal_distributions(rng):
    means = rng.normal(size=(2, 200))
    deviations = np.exp(rng.normal(size=(2, 200)))
    deviations[1, :40] = deviations[0, :40]
    deviations[1, 40:60] = deviations[0, 40:60] * 1.001
    given = (means[0], deviations[0], means[1], deviations[1])
    with jax.enable_x64(True):
        found = jax.jit(reweighting.gaussian_overlap)(*given)
        divergence = np.asarray(jax.jit(reweighting.gaussian_kl)(*given))
    pairs = zip(means.T, deviations.T, strict=True)
    normals = [[statistics.NormalDist(*both) for both in zip(m, d, strict=True)] for m, d in pairs]
    np.testing.assert_allclose(found, [p.overlap(q) for p, q in normals], atol=1e-9)
    grid = np.linspace(-60, 60, 40_001)
    p, q = normals[100]
    log_p, log_q = (-((grid - n.mean) ** 2) / n.variance / 2 - np.log(n.stdev) for n in (p, q))
    mass = np.exp(log_p) / np.sqrt(2 * np.pi) * (grid[1] - grid[0])
    np.testing.assert_allclose(divergence[100], (mass * (log_p - log_q)).sum(), rtol=1e-6)
    assert reweighting.gaussian_kl(0.3, 1.2, 0.3, 1.2) == 0
    assert reweighting.gaussian_kl(0.3, 0.0, 0.3, 1.2) == 0
    assert reweighting.gaussian_overlap(0.3, 1.2, 0.3, 0.0) == 0


storm_features = jax.jit(reweighting.storm_features, static_argnames="num_groups")


def test_features_stand_beside_those_of_their_group(rng):
    losses, confidences = np.float32(rng.random((2, 3, 12)))
    groups = np.arange(12) % 3
    groups[11] = 3
    found = np.asarray(storm_features(losses, confidences, groups, num_groups=4))
    assert found.shape == (12, 18)
    np.testing.assert_allclose(found[:, 0], losses.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found[:, 3], losses.std(0, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(found[:, 6], confidences.mean(0), rtol=1e-5)
    for group in range(3):
        members = groups == group
        for column in range(0, 18, 3):
            own = found[members, column]
            np.testing.assert_allclose(found[members, column + 1], own.mean(), rtol=1e-4)
            deviation = found[members, column + 2]
            np.testing.assert_allclose(deviation, own.std(ddof=1), rtol=1e-3, atol=1e-6)
    # A group of one has no deviation, hence neither divergence nor overlap.
    np.testing.assert_array_equal(found[11, 2::3], np.zeros(6))
    np.testing.assert_array_equal(found[11, [12, 15]], np.zeros(2))


def test_one_pass_has_no_deviation():
    ones = np.ones((1, 4), np.float32)
    found = storm_features(ones, ones, np.zeros(4, np.int32), num_groups=1)
    assert np.isfinite(found).all()


def test_most_passes_decide_and_the_first_where_they_are_even():
    predictions = np.array([[0, 1, 0, 1], [0, 0, 1, 1], [1, 0, 1, 1], [1, 0, 0, 1]])
    agree = jax.jit(reweighting.majority_agreement)
    found = agree(predictions, np.zeros(4, np.int32))
    np.testing.assert_array_equal(found, [True, True, True, False])
    found = agree(predictions[:2, 1:3], np.zeros(2, np.int32))
    np.testing.assert_array_equal(found, [False, True])


def test_weights_fall_with_the_difference_of_two_predictions():
    first, second = np.float32([1, 1, np.nan]), np.float32([1, 3, 1])
    found = jax.jit(reweighting.uncertainty_weights)(first, second, scale=0.5)
    np.testing.assert_allclose(found, [1, np.exp(-1), np.nan], rtol=1e-6)


REFUSED = {
    "weights of another shape": (
        lambda: reweighting.rescale_preserving_sum(jnp.ones(3), jnp.ones(2)),
        r"weights must be floating of shape \(3,\)",
    ),
    "a rate of 0": (
        lambda: reweighting.meta_gradient(max, max, learning_rate=0.0),
        "learning_rate must be a finite number above 0",
    ),
    "predictions of two batches": (
        lambda: reweighting.uncertainty_weights(jnp.ones(3), jnp.ones(2), scale=1.0),
        "first and second must have the same shape",
    ),
    "a pass of another batch": (
        lambda: reweighting.storm_features(
            jnp.ones((2, 3)), jnp.ones((2, 4)), jnp.zeros(3, int), num_groups=1
        ),
        r"same shape \[R, B\]",
    ),
    "groups of floats": (
        lambda: reweighting.storm_features(
            jnp.ones((2, 3)), jnp.ones((2, 3)), jnp.zeros(3), num_groups=1
        ),
        "groups must be integers",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_named(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()
