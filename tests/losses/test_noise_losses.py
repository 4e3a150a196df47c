"""Epsilon-softmax, negative losses and confidence: official values, and what they turn into."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lnl_jax import losses
from tests.losses.formulas import waves

LABELS = np.array([1, 2, 0, 3])
# Of the official codes, in float64, on the logits below.
GOLDEN = {
    "epsilon 1e4": (
        lambda z: losses.epsilon_softmax_cross_entropy(z, LABELS, mass=1e4),
        [5.826227783463e-05, 12.57295913005, 12.28083869054, 5.474717608650e-05],
    ),
    "epsilon 1e2": (
        lambda z: losses.epsilon_softmax_cross_entropy(z, LABELS, mass=1e2),
        [0.005785655831686, 7.977639279918, 7.685518840401, 0.005435652572590],
    ),
    "epsilon 1": (
        lambda z: losses.epsilon_softmax_cross_entropy(z, LABELS, mass=1.0),
        [0.344368174407, 4.055665943637, 3.763545504119, 0.31986890238],
    ),
    "epsilon and MAE": (
        lambda z: (
            0.05 * losses.epsilon_softmax_cross_entropy(z, LABELS, mass=1e4)
            + losses.mean_absolute_error(z, LABELS)
        ),
        [1.165331046696, 2.559352198207, 2.521236598727, 1.09502577846],
    ),
    "negative": (
        lambda z: losses.normalized_negative_cross_entropy(z, LABELS),
        [0.782191073903, 0.811607514959, 0.808157884459, 0.780335864367],
    ),
    "negative focal": (
        lambda z: losses.normalized_negative_focal(z, LABELS),
        [0.781367239854, 0.812038106774, 0.808428565943, 0.779513454505],
    ),
    "active and negative": (
        lambda z: (
            5 * losses.normalized_cross_entropy(z, LABELS)
            + 5 * losses.normalized_negative_cross_entropy(z, LABELS)
        ),
        [4.323098316194, 5.363057498229, 5.26135260138, 4.26797773485],
    ),
    "sieve": (
        lambda z: losses.confidence_regularized_cross_entropy(z, LABELS, weight=1.0),
        [-1.246428995638, 0.785915626194, 0.554839851862, -1.371889194381],
    ),
    "clipped": (
        lambda z: optax.softmax_cross_entropy_with_integer_labels(
            losses.logit_clip(z, threshold=1.5), LABELS
        ),
        [1.131527104131, 2.188880472205, 2.084163422127, 1.09639161321],
    ),
}
# Of the loss of the second example.
GRADIENTS = {
    "epsilon and MAE": [
        0.086608472529,
        0.022675871979,
        -0.115162413279,
        0.001902095698,
        0.003975973074,
    ],
    "negative": [0.00340475982, 0.002945381924, -0.011957273551, 0.00279611514, 0.002811016668],
    "negative focal": [
        0.003136792399,
        0.002924635828,
        -0.011622054445,
        0.002772168798,
        0.00278845742,
    ],
    "clipped": [0.072466992481, 0.076896751349, -0.316683302629, 0.186251710413, 0.145452493611],
}


@pytest.mark.parametrize("name", GOLDEN)
def test_values_and_gradients_are_those_of_the_official_codes(name):
    loss, expected = GOLDEN[name]
    with jax.enable_x64(True):
        logits = jnp.asarray(waves(4, 5, 0.3, 2.0))
        np.testing.assert_allclose(loss(logits), expected, rtol=2e-11)
        if name in GRADIENTS:
            found = jax.grad(lambda z: loss(z)[1])(logits)[1]
            np.testing.assert_allclose(found, GRADIENTS[name], rtol=0, atol=6e-13)


def test_means_of_the_confidence_losses_are_those_of_the_official_codes():
    with jax.enable_x64(True):
        logits = jnp.asarray(waves(4, 5, 0.3, 2.0))

        def mean(weight, kept=slice(None), **arguments):
            return losses.confidence_regularized_cross_entropy(
                logits, LABELS, weight=weight, **arguments
            )[kept].mean()

        np.testing.assert_allclose(mean(20 / 29), 0.40816129655584044, rtol=1e-11)
        kept = np.array([0, 3])
        np.testing.assert_allclose(mean(2.0, kept), -3.4517465711293394, rtol=1e-13)
        prior = np.array([0.4, 0.3, 0.1, 0.1, 0.1])
        np.testing.assert_allclose(mean(20 / 29, prior=prior), 0.3905133109862676, rtol=1e-11)
        logits, labels = jnp.asarray(waves(5, 2, 0.3, 1.5)), np.array([1, 0, 1, 1, 0])
        thresholds = losses.confidence_thresholds(logits, labels)
        for weight, expected in ((0.25, 0.5281231632600808), (0.5, 0.47380485806839506)):
            found = losses.log_confidence(logits, labels, weight=weight, thresholds=thresholds)
            np.testing.assert_allclose(found.mean(), expected, rtol=1e-13)


def test_an_undecided_example_has_the_gradient_of_cross_entropy_a_decided_one_almost_none():
    logits, labels = jnp.array([[0.3, 0.2, 0.0], [0.3, 0.2, 0.0]]), jnp.array([1, 0])
    found = jax.grad(lambda z: losses.epsilon_softmax_cross_entropy(z, labels, mass=1e4).sum())(
        logits
    )
    plain = jax.grad(lambda z: optax.softmax_cross_entropy_with_integer_labels(z, labels).sum())(
        logits
    )
    np.testing.assert_array_equal(found[0], plain[0])
    assert np.abs(found[1]).max() < 1e-4


def test_epsilon_softmax_without_epsilon_is_cross_entropy(rng):
    logits, labels = jnp.float32(3 * rng.normal(size=(20, 5))), jnp.int32(rng.integers(5, size=20))
    found = losses.epsilon_softmax_cross_entropy(logits, labels, mass=0.0)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="mass must be at least 0"):
        losses.epsilon_softmax_cross_entropy(logits, labels, mass=-1.0)


def test_a_label_below_the_floor_has_no_gradient():
    with jax.enable_x64(True):
        logits, labels = jnp.asarray(waves(2, 5, 0.3, 12.0)), np.array([2, 3])
        for mass in (1e2, 1e4, 1e5):
            found = jax.grad(
                lambda z, mass=mass: losses.epsilon_softmax_cross_entropy(
                    z, labels, mass=mass
                ).sum()
            )(logits)
            np.testing.assert_array_equal(found[1], np.zeros(5))


@pytest.mark.parametrize(
    "loss", [losses.normalized_negative_cross_entropy, losses.normalized_negative_focal]
)
def test_negative_losses_sum_to_one_less_than_the_classes(loss, rng):
    logits = jnp.float32(5 * rng.normal(size=(30, 4)))
    values = jnp.stack([loss(logits, jnp.full(30, label)) for label in range(4)])
    np.testing.assert_allclose(values.sum(0), 3, rtol=1e-6)
    assert values.max() <= 1
    # A floor that no class need be above.
    assert jnp.isnan(loss(logits, jnp.zeros(30, jnp.int32), floor=0.3)).all()


def test_without_weight_the_confidence_losses_are_cross_entropy(rng):
    logits, labels = jnp.float32(rng.normal(size=(20, 5))), jnp.int32(rng.integers(5, size=20))
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    found = losses.confidence_regularized_cross_entropy(logits, labels, weight=0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    thresholds = losses.confidence_thresholds(logits, labels)
    found = losses.log_confidence(logits, labels, weight=0.0, thresholds=thresholds)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_hardened_predictions_have_the_frequencies_of_the_labels(rng):
    logits = jnp.float32(2 * rng.normal(size=(400, 2)) + [1.5, 0])
    labels = jnp.int32(rng.random(400) < 0.7)
    thresholds = losses.confidence_thresholds(logits, labels)
    hardened = (jax.nn.softmax(logits) / thresholds[None]).argmax(-1)
    assert abs(int(hardened.sum()) - int(labels.sum())) <= 1
    # The order of the batch is of no account.
    order = rng.permutation(400)
    again = losses.confidence_thresholds(logits[order], labels[order])
    np.testing.assert_allclose(again, thresholds, rtol=1e-6)


def test_thresholds_of_two_classes_add_up_to_one(rng):
    logits, labels = jnp.float32(rng.normal(size=(31, 2))), jnp.int32(rng.integers(2, size=31))
    np.testing.assert_allclose(losses.confidence_thresholds(logits, labels).sum(), 1, rtol=1e-6)
    with pytest.raises(ValueError, match=r"logits must be a batch, \[B, K\]"):
        losses.confidence_thresholds(logits[0], labels[0])


def test_clipped_logits_are_continuous_and_their_gradient_is_tangential():
    direction = jnp.array([0.6, 0.0, -0.8])
    inside, outside = (
        losses.logit_clip(scale * direction, threshold=1.5) for scale in (1.49999, 1.50001)
    )
    np.testing.assert_allclose(inside, outside, atol=2e-5)
    weights = jnp.array([1.0, -2.0, 3.0])
    slope = jax.grad(lambda z: losses.logit_clip(z, threshold=1.5) @ weights)
    np.testing.assert_array_equal(slope(direction), weights)
    assert abs(slope(3 * direction) @ direction) < 1e-6
    # The norm of these overflows.
    np.testing.assert_allclose(
        losses.logit_clip(1e30 * direction, threshold=1.5), 1.5 * direction, rtol=1e-6
    )
    np.testing.assert_array_equal(slope(jnp.zeros(3)), weights)
    with pytest.raises(ValueError, match="threshold must be above 0"):
        losses.logit_clip(direction, threshold=0.0)
