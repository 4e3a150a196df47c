"""Jensen-Shannon divergences: limits, bounds, and what views of one example add."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from lnl_jax.losses import generalized_jensen_shannon, jensen_shannon

EXAMPLES, CLASSES = 49, 7


@pytest.fixture
def scores(rng):
    """NumPy logits, integer labels and distributions."""
    logits = 3 * rng.normal(size=(EXAMPLES, CLASSES))
    labels = rng.integers(CLASSES, size=EXAMPLES, dtype=np.int32)
    return logits, labels, rng.dirichlet(np.ones(CLASSES), size=EXAMPLES)


@pytest.fixture
def views(rng, scores):
    """NumPy logits of two views that differ."""
    return np.stack([scores[0], scores[0] + rng.normal(size=(EXAMPLES, CLASSES))])


def target(scores, soft):
    """The labels as the losses take them, and as distributions."""
    return 2 * (scores[2],) if soft else (scores[1], np.eye(CLASSES)[scores[1]])


SOFT = pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])


def scale(weight):
    return -(1 - weight) * np.log1p(-weight)


@SOFT
def test_a_small_weight_gives_cross_entropy_less_the_entropy_of_the_label(float64, scores, soft):
    labels, y = target(scores, soft)
    logits = scores[0] / 3
    expected = (special.xlogy(y, y) - y * special.log_softmax(logits, axis=-1)).sum(-1)
    coarse, fine = (
        np.abs(expected - jensen_shannon(logits, labels, weight=weight)) for weight in (1e-4, 1e-5)
    )
    assert fine.max() < 5e-3
    np.testing.assert_allclose(coarse, 10 * fine, rtol=0.03)


def test_a_weight_of_nearly_one_gives_the_probability_of_the_other_classes(float64, scores):
    logits, labels, _ = scores
    p = np.take_along_axis(special.softmax(logits, axis=-1), labels[:, None], -1)[:, 0]
    previous = np.inf
    for rest in (1e-3, 1e-6, 1e-9):
        slowness = -np.log(rest)
        found = jensen_shannon(logits, labels, weight=1 - rest)
        expected = 1 - p + (1 - p + special.xlogy(p, p)) / slowness
        np.testing.assert_allclose(found, expected, atol=1e-7 + rest)
        error = np.abs(found - (1 - p)).max()
        assert error <= 1 / slowness
        assert error < previous
        previous = error


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
def test_the_loss_falls_from_its_bound_to_zero(float64, weight):
    logits = np.zeros((EXAMPLES, CLASSES))
    logits[:, 0] = np.linspace(-3000, 3000, EXAMPLES)
    logits[14:35, 0] = np.linspace(-10, 10, 21)
    bound = special.entr([weight, 1 - weight]).sum() / scale(weight)
    for labels in (np.zeros(EXAMPLES, np.int32), np.eye(CLASSES)[np.zeros(EXAMPLES, int)]):
        found = np.asarray(jensen_shannon(logits, labels, weight=weight))
        assert (np.diff(found) <= 1e-15).all()
        assert (np.diff(found[14:35]) < 0).all()
        np.testing.assert_allclose(found[[0, -1]], [bound, 0], rtol=1e-13, atol=1e-15)


def test_the_loss_is_zero_where_the_prediction_is_the_label_and_only_there(float64, scores):
    logits, _, others = scores
    own = special.softmax(logits, axis=-1)
    weight = np.linspace(0.01, 0.99, EXAMPLES)
    np.testing.assert_allclose(jensen_shannon(logits, own, weight=weight), 0, atol=1e-14)
    for share, least in ((0.01, 1e-7), (1, 1e-3)):
        labels = (1 - share) * own + share * others
        assert (jensen_shannon(logits, labels, weight=weight) > least).all()


def test_the_closed_form_for_a_class_is_the_divergence_from_its_distribution(float64, scores):
    logits, labels, _ = scores
    weight = np.concatenate([np.geomspace(1e-6, 0.5, 25), 1 - np.geomspace(1e-6, 0.5, 24)])
    for factor in (1, 30):
        found = jensen_shannon(factor * logits, labels, weight=weight)
        soft = jensen_shannon(factor * logits, np.eye(CLASSES)[labels], weight=weight)
        np.testing.assert_allclose(found, soft, rtol=1e-9, atol=1e-10)


@SOFT
def test_one_view_gives_the_divergence_from_it(float64, scores, soft):
    labels, _ = target(scores, soft)
    found = generalized_jensen_shannon(scores[0][None], labels, weights=(0.3, 0.7))
    np.testing.assert_allclose(found, jensen_shannon(scores[0], labels, weight=0.3), rtol=1e-12)


@SOFT
def test_equal_views_give_the_divergence_from_one_of_them(float64, scores, soft):
    labels, _ = target(scores, soft)
    found = generalized_jensen_shannon(np.stack(2 * [scores[0]]), labels, weights=(0.3, 0.5, 0.2))
    np.testing.assert_allclose(found, jensen_shannon(scores[0], labels, weight=0.3), rtol=1e-12)


@SOFT
def test_views_of_equal_weight_can_be_exchanged_and_others_cannot(float64, scores, views, soft):
    labels, _ = target(scores, soft)

    def loss(views, second, third):
        return generalized_jensen_shannon(views, labels, weights=(0.4, second, third))

    np.testing.assert_allclose(loss(views, 0.3, 0.3), loss(views[::-1], 0.3, 0.3), rtol=1e-13)
    np.testing.assert_allclose(loss(views, 0.5, 0.1), loss(views[::-1], 0.1, 0.5), rtol=1e-13)
    assert (np.abs(loss(views, 0.5, 0.1) - loss(views[::-1], 0.5, 0.1)) > 1e-6).all()


@SOFT
def test_views_cost_their_disagreement_more_than_their_mean_does(float64, scores, views, soft):
    labels, _ = target(scores, soft)
    p = special.softmax(views, axis=-1)
    mean = 0.7 * p[0] + 0.3 * p[1]
    found = generalized_jensen_shannon(views, labels, weights=(0.4, 0.42, 0.18))
    agreeing = jensen_shannon(np.log(mean), labels, weight=0.4)
    entropies = special.entr(p).sum(-1)
    disagreement = special.entr(mean).sum(-1) - 0.7 * entropies[0] - 0.3 * entropies[1]
    assert (found > agreeing).all()
    expected = agreeing + 0.6 * disagreement / scale(0.4)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_gradients_flow_to_every_view(float64, scores, views):
    labels = scores[1]

    def total(views):
        return generalized_jensen_shannon(views, labels, weights=(0.4, 0.42, 0.18)).sum()

    gradient = jax.grad(total)(jnp.asarray(views))
    p = special.softmax(views, axis=-1)
    weights = np.array([0.42, 0.18])[:, None, None]
    mixture = 0.4 * np.eye(CLASSES)[labels] + (weights * p).sum(0)
    surprise = np.log(p / mixture)
    expected = weights * p * (surprise - (p * surprise).sum(-1, keepdims=True)) / scale(0.4)
    np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-14)


def test_weights_can_be_of_any_kind(float64, scores, views):
    weights = [0.3, 0.5, 0.2]
    expected = generalized_jensen_shannon(views, scores[1], weights=weights)
    for same in (tuple(weights), np.array(weights), jnp.array(weights)):
        found = generalized_jensen_shannon(views, scores[1], weights=same)
        np.testing.assert_array_equal(found, expected)


def test_weights_that_are_none_raise(scores, views):
    for weights, message in (
        ((0.5, 0.3, 0.3), "weights must have the sum 1, got"),
        (np.array([0.5, 0.3, 0.1]), "weights must have the sum 1, got"),
        ((0.5, 0.5), r"weights must have shape \(3,\), got \(2,\)"),
        ((0.5, 0.2, 0.2, 0.1), r"weights must have shape \(3,\), got \(4,\)"),
        (0.5, r"weights must have shape \(3,\), got \(\)"),
        (jnp.full((3, 1), 1 / 3), r"weights must have shape \(3,\), got \(3, 1\)"),
        ((0.5, 0.5, 0.0), "weights must be above 0 and below 1, got"),
        ((1.2, -0.1, -0.1), "weights must be above 0 and below 1, got"),
    ):
        with pytest.raises(ValueError, match=message):
            generalized_jensen_shannon(jnp.float32(views), scores[1], weights=weights)


def test_logits_without_an_axis_of_views_raise(scores):
    logits, labels = jnp.float32(scores[0]), scores[1]
    with pytest.raises(ValueError, match="leading axis of views.*got shape"):
        generalized_jensen_shannon(logits[0], labels[0], weights=(0.5, 0.5))
    with pytest.raises(ValueError, match="leading axis of views.*got shape"):
        generalized_jensen_shannon(logits[None][:0], labels, weights=(0.5,))
    with pytest.raises(ValueError, match=r"labels must be integers of shape \(\)"):
        generalized_jensen_shannon(logits, labels[:-1], weights=np.full(1 + EXAMPLES, 1 / 50))


@SOFT
def test_the_class_axis_and_the_mask_are_those_of_a_single_view(float64, scores, views, soft):
    labels, _ = target(scores, soft)
    hidden = (scores[1] + 1) % CLASSES
    where = np.arange(CLASSES) != hidden[:, None]
    if soft:
        labels = labels * where / (labels * where).sum(-1, keepdims=True)
    weights = (0.3, 0.5, 0.2)
    found = generalized_jensen_shannon(views, labels, weights=weights, where=where)
    # Far below, a class is as good as masked.
    expected = generalized_jensen_shannon(np.where(where, views, -1e4), labels, weights=weights)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    turned = generalized_jensen_shannon(
        views.swapaxes(1, 2), labels.T, weights=weights, where=where.T, axis=0
    )
    np.testing.assert_allclose(turned, found, rtol=1e-13)


@pytest.mark.parametrize(
    "labels", [np.zeros(4, int), jnp.full((4, 3), 1 / 3)], ids=["hard", "soft"]
)
def test_scores_of_a_single_view_are_told_from_views(labels):
    logits, weights = jnp.zeros((4, 3)), (0.5, 0.5)
    with pytest.raises(
        ValueError, match=r"axis of views.*\(4, 3\), that of a single view: logits\[N"
    ):
        generalized_jensen_shannon(logits, labels, weights=weights)
    assert generalized_jensen_shannon(logits[None], labels, weights=weights).shape == (4,)
