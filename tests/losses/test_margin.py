"""Margin losses: hinges as limits and bounds, margins by class frequency, weights of classes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lnl_jax.losses import class_balanced_weights, crammer_singer, ldam, ldr_kl, weston_watkins

CLASSES = 7
EXAMPLES = CLASSES * CLASSES

COUNTS = np.array([900.0, 40.0, 5000.0, 7.0, 300.0, 12.0, 60.0])


@pytest.fixture
def scores(rng):
    """NumPy logits, integer labels and distributions."""
    logits = 3 * rng.normal(size=(EXAMPLES, CLASSES))
    labels = rng.integers(CLASSES, size=EXAMPLES, dtype=np.int32)
    return logits, labels, rng.dirichlet(np.ones(CLASSES), size=EXAMPLES)


HINGES = pytest.mark.parametrize("loss", [crammer_singer, weston_watkins])
SOFT = pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])


@SOFT
def test_crammer_singer_is_the_label_robust_loss_without_temperature(float64, scores, soft):
    logits, integers, distributions = scores
    labels = distributions if soft else integers
    hinge = crammer_singer(logits, labels, margin=0.5)
    for temperature in (1.0, 0.1, 0.01, 1e-4):
        below = hinge - ldr_kl(logits, labels, temperature=temperature, margin=0.5)
        assert (below >= -1e-14).all()
        assert (below <= temperature * np.log(CLASSES) + 1e-14).all()
    # A single largest violation is all that is left.
    np.testing.assert_allclose(below, 1e-4 * np.log(CLASSES), rtol=0.1)


@SOFT
def test_weston_watkins_is_between_a_share_of_crammer_singer_and_all_of_it(float64, scores, soft):
    logits, integers, distributions = scores
    labels = distributions if soft else integers
    for margin in (0.0, 0.3, 4.0):
        largest = crammer_singer(logits, labels, margin=margin)
        mean = weston_watkins(logits, labels, margin=margin)
        assert (mean <= largest + 1e-14).all()
        assert (largest <= CLASSES * mean + 1e-14).all()


@HINGES
def test_the_hinges_are_zero_where_the_margin_is_kept_and_only_there(float64, scores, loss):
    logits, labels, _ = scores
    rows = np.arange(EXAMPLES)
    lead = np.linspace(-1, 2, EXAMPLES)
    lead[:3] = [0.75, 0.75 + 1e-9, 0.75 - 1e-9]
    others = np.where(np.arange(CLASSES) == labels[:, None], -np.inf, logits).max(-1)
    # Eighths, so that a margin is kept exactly.
    others = np.round(8 * others) / 8
    logits = np.minimum(logits, others[:, None])
    logits[rows, (labels + 1) % CLASSES] = others
    logits[rows, labels] = others + lead
    found = loss(logits, labels, margin=0.75)
    np.testing.assert_array_equal(found == 0, lead >= 0.75)
    assert (found >= 0).all()


@SOFT
@HINGES
def test_the_hinges_move_at_most_twice_as_far_as_a_score(float64, rng, scores, loss, soft):
    logits, integers, distributions = scores
    labels = distributions if soft else integers
    change = rng.uniform(-1, 1, size=logits.shape) * np.linspace(0.01, 5, EXAMPLES)[:, None]
    before, after = loss(logits, labels), loss(logits + change, labels)
    assert (np.abs(after - before) <= 2 * np.abs(change).max(-1) + 1e-14).all()


@pytest.mark.parametrize(
    ("loss", "slope"), [(crammer_singer, 2), (weston_watkins, 2 * (CLASSES - 1) / CLASSES)]
)
def test_the_hinges_move_that_far_where_the_label_falls_and_the_others_rise(
    float64, scores, loss, slope
):
    logits, labels, _ = scores
    is_label = np.arange(CLASSES) == labels[:, None]
    # Every class violates the margin.
    logits = np.where(is_label, logits.min(-1, keepdims=True) - 1, logits)
    moved = logits + 0.25 * np.where(is_label, -1, 1)
    difference = loss(moved, labels) - loss(logits, labels)
    np.testing.assert_allclose(difference, 0.25 * slope, rtol=1e-12)


@HINGES
def test_the_hinges_of_distributions_are_not_negative(float64, scores, loss):
    logits, _, labels = scores
    for margin in (0.0, 1.0):
        assert (loss(logits, labels, margin=margin) > 0).all()
    # Equal scores violate nothing but the margin.
    flat = np.ones_like(logits)
    np.testing.assert_allclose(loss(flat, labels, margin=0.0), 0, atol=1e-15)
    assert (loss(flat, labels, margin=1.0) > 0).all()


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_the_gradient_of_crammer_singer_at_ties_is_a_subgradient(float64, scores, margin):
    _, labels, _ = scores
    logits = np.round(np.random.default_rng(1).normal(size=(EXAMPLES, CLASSES)))
    logits[:3] = 0
    y = np.eye(CLASSES)[labels]
    own = (y * logits).sum(-1, keepdims=True)
    violations = logits - own + margin * (1 - y)
    largest = violations == violations.max(-1, keepdims=True)
    assert (largest.sum(-1) > 1).sum() > 10
    gradient = jax.grad(lambda logits: crammer_singer(logits, labels, margin=margin).sum())(logits)
    worst = np.asarray(gradient) + y
    # All of it on the first of the largest.
    np.testing.assert_allclose(worst, np.eye(CLASSES)[largest.argmax(-1)], atol=1e-15)


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_the_gradient_of_weston_watkins_at_ties_is_a_subgradient(float64, scores, margin):
    _, labels, _ = scores
    logits = np.round(np.random.default_rng(1).normal(size=(EXAMPLES, CLASSES)))
    logits[:3] = 0
    y = np.eye(CLASSES)[labels]
    violations = logits - (y * logits).sum(-1, keepdims=True) + margin * (1 - y)
    assert ((violations == 0) & (y == 0)).any(-1).sum() > 10
    gradient = jax.grad(lambda logits: weston_watkins(logits, labels, margin=margin).sum())(logits)
    np.testing.assert_allclose(gradient.sum(-1), 0, atol=1e-15)
    others = CLASSES * np.where(y == 1, 0, gradient)
    np.testing.assert_allclose(others[violations > 0], np.where(y == 1, 0, 1)[violations > 0])
    np.testing.assert_allclose(others[violations < 0], 0)
    assert ((others >= 0) & (others <= 1 + 1e-14)).all()


@pytest.mark.parametrize("soft", [False, True], ids=["integer", "one_hot"])
@pytest.mark.parametrize(
    "loss",
    [
        crammer_singer,
        weston_watkins,
        ldam,
    ],
)
def test_a_label_that_scores_minus_infinity_costs_infinitely(float64, scores, loss, soft):
    logits, labels, _ = scores
    logits = np.where(np.arange(CLASSES) == labels[:, None], -np.inf, logits)
    arguments = {"class_counts": COUNTS} if loss is ldam else {}
    target = np.eye(CLASSES)[labels] if soft else labels
    np.testing.assert_array_equal(loss(logits, target, **arguments), np.inf)


def of_each_label(class_counts, **arguments):
    """Loss for each class as the label, at equal scores."""
    labels = np.arange(EXAMPLES, dtype=np.int32) % CLASSES
    found = ldam(np.zeros((EXAMPLES, CLASSES)), labels, class_counts=class_counts, **arguments)
    return np.asarray(found)[:CLASSES]


def margins(class_counts, *, scale=3.0, **arguments):
    """The margin of each class, read off the losses at equal scores."""
    where = arguments.get("where", np.ones(CLASSES, bool))
    found = of_each_label(class_counts, scale=scale, **arguments)
    return np.log(np.expm1(found) / (where.sum() - 1)) / scale


def test_the_rarest_class_has_the_largest_margin_and_the_others_less_by_a_fourth_root(float64):
    found = margins(COUNTS, max_margin=0.8)
    np.testing.assert_allclose(found, 0.8 * (7.0 / COUNTS) ** 0.25, rtol=1e-12)
    assert found.argmax() == 3
    np.testing.assert_allclose(found[3], 0.8, rtol=1e-12)
    # Only their ratios count.
    np.testing.assert_allclose(margins(COUNTS / 1e3, max_margin=0.8), found, rtol=1e-12)


def test_the_rarest_of_the_included_classes_has_the_largest_margin(float64):
    where = np.arange(CLASSES) != 3
    found = margins(COUNTS, max_margin=0.8, where=where[None])
    expected = np.where(where, 0.8 * (12.0 / COUNTS) ** 0.25, np.nan)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@SOFT
def test_equal_counts_give_every_class_the_same_margin(float64, scores, soft):
    logits, integers, distributions = scores
    labels = distributions if soft else integers
    y = distributions if soft else np.eye(CLASSES)[integers]
    found = ldam(logits, labels, class_counts=np.full(CLASSES, 37), max_margin=0.4, scale=5.0)
    expected = optax.softmax_cross_entropy(jnp.asarray(5 * (logits - 0.4 * y)), y)
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)


@SOFT
def test_without_a_margin_it_is_cross_entropy_of_the_scaled_scores(float64, scores, soft):
    logits, integers, distributions = scores
    labels = distributions if soft else integers
    y = distributions if soft else np.eye(CLASSES)[integers]
    found = ldam(logits, labels, class_counts=COUNTS, max_margin=0.0, scale=5.0)
    expected = optax.softmax_cross_entropy(jnp.asarray(5 * logits), y)
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)


def test_golden_values_with_and_without_class_weights(float64):
    rows, columns = np.arange(3)[:, None], np.arange(4)
    logits = 0.5 * np.sin(1.7 * rows + 0.9 * columns + 0.3)
    labels = np.array([0, 2, 3])
    counts = np.array([5000, 500, 50, 5])
    losses = jax.jit(functools.partial(ldam, class_counts=counts, max_margin=0.5, scale=30.0))(
        logits, labels
    )
    np.testing.assert_allclose(losses.mean(), 16.38376636082349, rtol=1e-13)
    weights = np.array([0.1, 0.2, 0.7, 3.0])[labels]
    weighted = (weights * losses).sum() / weights.sum()
    np.testing.assert_allclose(weighted, 10.333052478175636, rtol=1e-13)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999])
def test_class_weights_follow_the_effective_number_of_examples(float64, beta):
    found = class_balanced_weights(COUNTS, beta=beta)
    effective = [(beta ** np.arange(count)).sum() for count in COUNTS.astype(int)]
    expected = 1 / np.array(effective)
    np.testing.assert_allclose(found, expected * CLASSES / expected.sum(), rtol=1e-11)
    np.testing.assert_allclose(found.sum(), CLASSES, rtol=1e-14)
    if beta == 0:
        np.testing.assert_allclose(found, 1, rtol=1e-14)


def test_class_weights_approach_the_inverse_counts(float64):
    inverse = CLASSES / COUNTS / (1 / COUNTS).sum()
    for rest in (1e-6, 1e-9, 1e-12):
        found = class_balanced_weights(COUNTS, beta=1 - rest)
        np.testing.assert_allclose(found, inverse, rtol=COUNTS.max() * rest)


@pytest.mark.parametrize(
    "beta",
    [
        0.9999,
        1 - 1e-6,
        1 - 1e-9,
    ],
)
def test_class_weights_of_a_beta_near_one_are_accurate_in_float32(beta):
    found = class_balanced_weights(jnp.float32(COUNTS), beta=beta)
    expected = (1 - beta) / -np.expm1(COUNTS * np.log(beta))
    np.testing.assert_allclose(found, expected * CLASSES / expected.sum(), rtol=1e-4)


def test_class_weights_of_integer_counts_are_those_of_floating_ones():
    counts = COUNTS.astype(np.int32)
    for integers in (counts, jnp.asarray(counts)):
        found = class_balanced_weights(integers)
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found, class_balanced_weights(jnp.float32(COUNTS)))


@pytest.mark.parametrize("beta", [1.0, 1.5, -0.1, float("nan")])
def test_class_weights_of_a_beta_out_of_range_raise(beta):
    with pytest.raises(ValueError, match="beta must be at least 0 and below 1, got"):
        class_balanced_weights(COUNTS, beta=beta)


def test_class_counts_of_zero_raise():
    counts = np.where(COUNTS == 7, 0, COUNTS)
    with pytest.raises(ValueError, match="class_counts must be above 0 and finite, got"):
        class_balanced_weights(counts)
    with pytest.raises(ValueError, match="class_counts must be above 0 and finite, got"):
        of_each_label(counts)
