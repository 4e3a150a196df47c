"""Epsilon-softmax, negative losses and confidence: official values, and what they turn into."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

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


@functools.cache
def values_and_gradients():
    """All losses of `GOLDEN` and the gradients of their second examples, from one program."""

    @jax.jit
    def program(logits):
        values = {name: loss(logits) for name, (loss, _) in GOLDEN.items()}
        gradients = {
            name: jax.grad(lambda z, name=name: GOLDEN[name][0](z)[1])(logits)[1]
            for name in GRADIENTS
        }
        return values, gradients

    with jax.enable_x64(True):
        return program(waves(4, 5, 0.3, 2.0))


@pytest.mark.parametrize("name", GOLDEN)
def test_values_and_gradients_are_those_of_the_official_codes(name):
    values, gradients = values_and_gradients()
    np.testing.assert_allclose(values[name], GOLDEN[name][1], rtol=2e-11)
    if name in GRADIENTS:
        np.testing.assert_allclose(gradients[name], GRADIENTS[name], rtol=0, atol=6e-13)


def test_means_of_the_confidence_losses_are_those_of_the_official_codes():
    prior = np.array([0.4, 0.3, 0.1, 0.1, 0.1])
    pairs, kinds = waves(5, 2, 0.3, 1.5), np.array([1, 0, 1, 1, 0])

    @jax.jit
    def program(logits, pairs):
        regularized = functools.partial(losses.confidence_regularized_cross_entropy, logits, LABELS)
        thresholds = losses.confidence_thresholds(pairs, kinds)
        return (
            regularized(weight=20 / 29),
            regularized(weight=2.0)[np.array([0, 3])],
            regularized(weight=20 / 29, prior=prior),
            losses.log_confidence(pairs, kinds, weight=0.25, thresholds=thresholds),
            losses.log_confidence(pairs, kinds, weight=0.5, thresholds=thresholds),
        )

    with jax.enable_x64(True):
        means = [np.mean(found) for found in program(waves(4, 5, 0.3, 2.0), pairs)]
    for found, expected, rtol in (
        (means[0], 0.40816129655584044, 1e-11),
        (means[1], -3.4517465711293394, 1e-13),
        (means[2], 0.3905133109862676, 1e-11),
        (means[3], 0.5281231632600808, 1e-13),
        (means[4], 0.47380485806839506, 1e-13),
    ):
        np.testing.assert_allclose(found, expected, rtol=rtol)


def test_an_undecided_example_has_the_gradient_of_cross_entropy_a_decided_one_almost_none():
    logits, labels = jnp.array([[0.3, 0.2, 0.0], [0.3, 0.2, 0.0]]), jnp.array([1, 0])

    @jax.jit
    def gradients(logits):
        epsilon = functools.partial(losses.epsilon_softmax_cross_entropy, mass=1e4)
        return [
            jax.grad(lambda z, loss=loss: loss(z, labels).sum())(logits)
            for loss in (epsilon, optax.softmax_cross_entropy_with_integer_labels)
        ]

    found, plain = gradients(logits)
    np.testing.assert_array_equal(found[0], plain[0])
    assert np.abs(found[1]).max() < 1e-4


def test_epsilon_softmax_without_epsilon_is_cross_entropy(rng):
    logits, labels = np.float32(3 * rng.normal(size=(20, 5))), np.int32(rng.integers(5, size=20))
    found = jax.jit(losses.epsilon_softmax_cross_entropy)(logits, labels, mass=0.0)
    expected = jax.jit(optax.softmax_cross_entropy_with_integer_labels)(logits, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="mass must be at least 0"):
        losses.epsilon_softmax_cross_entropy(logits, labels, mass=-1.0)


def test_a_label_below_the_floor_has_no_gradient():
    with jax.enable_x64(True):
        logits, labels = waves(2, 5, 0.3, 12.0), np.array([2, 3])
        gradient = jax.jit(
            jax.grad(
                lambda z, mass: losses.epsilon_softmax_cross_entropy(z, labels, mass=mass).sum()
            )
        )
        for mass in (1e2, 1e4, 1e5):
            found = gradient(logits, mass)
            np.testing.assert_array_equal(found[1], np.zeros(5))


@pytest.mark.parametrize(
    "loss", [losses.normalized_negative_cross_entropy, losses.normalized_negative_focal]
)
def test_negative_losses_sum_to_one_less_than_the_classes(loss, rng):
    logits, compiled = np.float32(5 * rng.normal(size=(30, 4))), jax.jit(loss)
    values = np.stack([compiled(logits, np.full(30, label, np.int32)) for label in range(4)])
    np.testing.assert_allclose(values.sum(0), 3, rtol=1e-6)
    assert values.max() <= 1
    # A floor that no class need be above.
    assert np.isnan(compiled(logits, np.zeros(30, np.int32), floor=0.3)).all()


def test_without_weight_the_confidence_losses_are_cross_entropy(rng):
    @jax.jit
    def program(logits, labels):
        thresholds = losses.confidence_thresholds(logits, labels)
        return (
            optax.softmax_cross_entropy_with_integer_labels(logits, labels),
            losses.confidence_regularized_cross_entropy(logits, labels, weight=0.0),
            losses.log_confidence(logits, labels, weight=0.0, thresholds=thresholds),
        )

    expected, *found = program(
        np.float32(rng.normal(size=(20, 5))), np.int32(rng.integers(5, size=20))
    )
    for without_weight in found:
        np.testing.assert_allclose(without_weight, expected, rtol=1e-6)


def test_hardened_predictions_have_the_frequencies_of_the_labels(rng):
    logits = np.float32(2 * rng.normal(size=(400, 2)) + [1.5, 0])
    labels = np.int32(rng.random(400) < 0.7)
    confidence_thresholds = jax.jit(losses.confidence_thresholds)
    thresholds = np.asarray(confidence_thresholds(logits, labels))
    hardened = (scipy.special.softmax(logits, axis=-1) / thresholds).argmax(-1)
    assert abs(int(hardened.sum()) - int(labels.sum())) <= 1
    # The order of the batch is of no account.
    order = rng.permutation(400)
    again = confidence_thresholds(logits[order], labels[order])
    np.testing.assert_allclose(again, thresholds, rtol=1e-6)


def test_thresholds_of_two_classes_add_up_to_one(rng):
    logits, labels = np.float32(rng.normal(size=(31, 2))), np.int32(rng.integers(2, size=31))
    thresholds = jax.jit(losses.confidence_thresholds)(logits, labels)
    np.testing.assert_allclose(np.sum(thresholds), 1, rtol=1e-6)
    with pytest.raises(ValueError, match=r"logits must be a batch, \[B, K\]"):
        losses.confidence_thresholds(logits[0], labels[0])


def test_clipped_logits_are_continuous_and_their_gradient_is_tangential():
    direction, weights = np.float32([0.6, 0.0, -0.8]), np.float32([1.0, -2.0, 3.0])
    scales = np.float32([1.49999, 1.50001, 1e30, 1, 3, 0])[:, None]

    @jax.jit
    def program(logits):
        clipped, pullback = jax.vjp(lambda z: losses.logit_clip(z, threshold=1.5), logits)
        return clipped, pullback(jnp.broadcast_to(weights[None], clipped.shape))[0]

    clipped, slopes = program(scales * direction)
    np.testing.assert_allclose(clipped[0], clipped[1], atol=2e-5)
    # The norm of these overflows.
    np.testing.assert_allclose(clipped[2], 1.5 * direction, rtol=1e-6)
    np.testing.assert_array_equal(slopes[3], weights)
    assert abs(np.dot(slopes[4], direction)) < 1e-6
    np.testing.assert_array_equal(slopes[5], weights)
    with pytest.raises(ValueError, match="threshold must be above 0"):
        losses.logit_clip(direction, threshold=0.0)
