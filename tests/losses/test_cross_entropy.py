"""Cross-entropy and its bounded relatives: limits, bounds, closed-form gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

from lnl_jax.losses import (
    _checks,
    confident,
    generalized_cross_entropy,
    partially_huberised_cross_entropy,
    taylor_cross_entropy,
    truncated_generalized_cross_entropy,
)

EXAMPLES, CLASSES = 49, 7


@pytest.fixture
def scores(rng):
    """NumPy logits, integer labels and distributions."""
    logits = 3 * rng.normal(size=(EXAMPLES, CLASSES))
    labels = rng.integers(CLASSES, size=EXAMPLES, dtype=np.int32)
    return logits, labels, rng.dirichlet(np.ones(CLASSES), size=EXAMPLES)


@pytest.mark.parametrize("where", [None, np.arange(CLASSES) != 2])
def test_looking_up_the_label_is_comparing_all_classes_with_it(monkeypatch, scores, where):
    logits, labels = jnp.float32(scores[0]), jnp.asarray(scores[1]).at[0].set(CLASSES)

    def both(logits):
        losses = generalized_cross_entropy(logits, labels, q=0.7, where=where)
        return jnp.nansum(losses), losses

    compared = jax.grad(both, has_aux=True)(logits)
    monkeypatch.setattr(_checks, "FEW_CLASSES", CLASSES - 1)
    looked_up = jax.grad(both, has_aux=True)(logits)
    for found, expected in zip(compared, looked_up, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert np.isnan(compared[1][0])
    assert np.isnan(compared[1]).sum() == 1 + (0 if where is None else (labels == 2).sum())


def test_a_small_q_gives_cross_entropy_in_float32(scores):
    logits, labels = jnp.float32(scores[0]), jnp.asarray(scores[1])
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    found = generalized_cross_entropy(logits, labels, q=1e-6)
    # The next term of the series in q is -q / 2 times the square: 5e-5 at the most here.
    expected = cross_entropy - 1e-6 / 2 * cross_entropy**2
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_q_one_is_the_probability_of_the_other_classes(float64, scores):
    logits, integers, distributions = scores
    p = special.softmax(logits, axis=-1)
    for labels, own in (
        (integers, p[np.arange(EXAMPLES), integers]),
        (distributions, (distributions * p).sum(-1)),
    ):
        found = generalized_cross_entropy(jnp.asarray(logits), labels, q=1.0)
        np.testing.assert_allclose(found, 1 - own, atol=1e-15)


def test_q_one_summed_over_the_labels_is_constant(float64, scores):
    logits = jnp.asarray(scores[0])
    by_label = [
        generalized_cross_entropy(logits, np.full(EXAMPLES, label), q=1.0)
        for label in range(CLASSES)
    ]
    np.testing.assert_allclose(sum(by_label), CLASSES - 1, atol=1e-14)


@pytest.mark.parametrize("q", [0.05, 0.7, 1.0])
def test_the_loss_is_bounded_by_one_over_q_and_reaches_it(q):
    logits = np.zeros((61, CLASSES), np.float32)
    logits[:, 0] = np.linspace(-3000, 3000, 61)
    found = generalized_cross_entropy(jnp.asarray(logits), np.zeros(61, np.int32), q=q)
    assert (found >= 0).all()
    assert (found <= np.float32(1 / q)).all()
    assert (np.diff(found) <= 0).all()
    np.testing.assert_allclose(found[0], 1 / q, rtol=1e-6)
    assert found[-1] == 0


@pytest.mark.parametrize("q", [0.05, 0.7, 1.0])
@pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])
def test_gradient_is_that_of_cross_entropy_damped_by_the_probability(float64, scores, q, soft):
    logits, integers, distributions = scores
    labels = distributions if soft else integers
    y = distributions if soft else np.eye(CLASSES)[integers]
    p = special.softmax(logits, axis=-1)
    own = (y * p).sum(-1, keepdims=True)
    found = jax.grad(lambda logits: generalized_cross_entropy(logits, labels, q=q).sum())(logits)
    np.testing.assert_allclose(found, own**q * (p - y * p / own), atol=1e-15)


def both_labels(scores):
    """Integer and soft labels, with the probability that the scores give them."""
    logits, integers, distributions = scores
    p = special.softmax(logits, axis=-1)
    return (
        (integers, p[np.arange(EXAMPLES), integers]),
        (distributions, (distributions * p).sum(-1)),
    )


def falling(own):
    """Scores that give class 0 the probabilities `own`, one per example."""
    others = np.tile((1 - own)[:, None] / (CLASSES - 1), CLASSES - 1)
    return np.log(np.concatenate([own[:, None], others], axis=-1))


FIRST = np.zeros(EXAMPLES, np.int32)


@pytest.mark.parametrize("q", [0.05, 0.7, 1.0])
def test_truncation_changes_only_examples_whose_label_is_not_believed(float64, scores, q):
    logits = jnp.asarray(scores[0])
    for labels, own in both_labels(scores):
        threshold = np.sort(own)[EXAMPLES // 2 : EXAMPLES // 2 + 2].mean()

        def truncated(logits, labels=labels, threshold=threshold):
            return truncated_generalized_cross_entropy(
                logits, labels, q=q, threshold=threshold.item()
            )

        def plain(logits, labels=labels):
            return generalized_cross_entropy(logits, labels, q=q)

        kept = own > threshold
        assert kept.sum() == EXAMPLES // 2
        found, pullback = jax.vjp(truncated, logits)
        gradient = pullback(jnp.ones_like(found))[0]
        np.testing.assert_allclose(found[~kept], (1 - threshold**q) / q, rtol=1e-14)
        np.testing.assert_array_equal(found[kept], plain(logits)[kept])
        np.testing.assert_array_equal(gradient[~kept], 0)
        expected = jax.grad(lambda logits, plain=plain: plain(logits).sum())(logits)
        np.testing.assert_array_equal(gradient[kept], expected[kept])


def test_the_truncated_loss_is_bounded_and_reaches_it(float64):
    for q, threshold in ((0.05, 0.5), (0.7, 0.2), (1.0, 0.9)):
        logits = falling(np.linspace(1e-9, 1 - 1e-12, EXAMPLES))
        found = truncated_generalized_cross_entropy(logits, FIRST, q=q, threshold=threshold)
        bound = (1 - threshold**q) / q
        assert (found <= bound + 1e-15).all()
        np.testing.assert_allclose(found[0], bound, rtol=1e-14)
        np.testing.assert_allclose(found[-1], 0, atol=1e-11)


def test_confident_examples_are_those_that_truncation_leaves_a_gradient(float64, scores):
    threshold = np.linspace(0.01, 0.6, EXAMPLES)
    for labels, own in both_labels(scores):
        kept = confident(scores[0], labels, threshold=threshold)
        np.testing.assert_array_equal(kept, own > threshold)
        assert 0 < kept.sum() < EXAMPLES

        def total(logits, labels=labels):
            return truncated_generalized_cross_entropy(logits, labels, threshold=threshold).sum()

        gradient = jax.grad(total)(jnp.asarray(scores[0]))
        np.testing.assert_array_equal(kept, (gradient != 0).any(-1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_example_exactly_at_the_threshold_is_not_confident(dtype):
    with jax.enable_x64(True):
        logits = np.full((EXAMPLES, CLASSES), -np.inf, dtype)
        logits[:, :2] = np.arange(EXAMPLES)[:, None] / 4
        assert not confident(jnp.asarray(logits), FIRST, threshold=0.5).any()
        assert confident(jnp.asarray(logits), FIRST, threshold=0.49).all()


@pytest.mark.parametrize("threshold", [0.0, 0.1])
def test_no_label_is_confident_without_a_class_or_a_score(float64, scores, threshold):
    logits, labels = jnp.asarray(100 * np.eye(CLASSES)[scores[1]]), scores[1].copy()
    where = np.ones((EXAMPLES, CLASSES), bool)
    assert confident(logits, labels, threshold=threshold, where=where).all()
    where[0, labels[0]] = False
    where[1] = False
    logits = logits.at[2, (labels[2] + 1) % CLASSES].set(jnp.nan)
    soft = np.eye(CLASSES)[labels]
    found = confident(logits, soft, threshold=threshold, where=where)
    np.testing.assert_array_equal(found, np.arange(EXAMPLES) > 2)
    assert found.dtype == bool
    labels[3:5] = -1, CLASSES
    # An integer outside the classes is looked up as class 0, which must not be what counts.
    logits = logits.at[3:5].set(100 * jnp.eye(CLASSES)[0])
    found = confident(logits, labels, threshold=threshold, where=where)
    np.testing.assert_array_equal(found, np.arange(EXAMPLES) > 4)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_out_of_range_raises(scores, threshold):
    for loss in (confident, truncated_generalized_cross_entropy):
        with pytest.raises(ValueError, match="threshold must be"):
            loss(jnp.float32(scores[0]), scores[1], threshold=threshold)


def test_taylor_series_rise_from_the_other_probability_to_cross_entropy(float64, scores):
    for labels, own in both_labels(scores):
        orders = (1, 2, 3, 10, 60)
        found = np.stack([taylor_cross_entropy(scores[0], labels, order=t) for t in orders])
        np.testing.assert_allclose(found[0], 1 - own, atol=1e-14)
        assert (np.diff(found, axis=0) >= 0).all()
        assert (np.diff(found[:3], axis=0) > 0).all()
        remainder = -np.log(own) - found
        t = np.array(orders)[:, None]
        # The rest of the series, term by term below a geometric one.
        bound = (1 - own) ** (t + 1) / ((t + 1) * own)
        assert (remainder >= -1e-14).all()
        assert (remainder <= bound + 1e-14).all()
        assert (remainder >= (1 - own) ** (t + 1) / (t + 1) - 1e-14).all()


@pytest.mark.parametrize("order", [1, 2, 7])
def test_taylor_series_are_bounded_by_the_harmonic_number(float64, order):
    logits = np.zeros((EXAMPLES, CLASSES))
    logits[:, 0] = np.linspace(-3000, 3000, EXAMPLES)
    found = taylor_cross_entropy(logits, FIRST, order=order)
    harmonic = (1 / np.arange(1, order + 1)).sum()
    assert (np.diff(found) <= 0).all()
    np.testing.assert_allclose([found[0], found[-1]], [harmonic, 0], rtol=1e-14)


@pytest.mark.parametrize("order", [0, -1, 2.0, True, "2", None, 1001, 2**70])
def test_an_order_that_is_no_count_raises(scores, order):
    with pytest.raises(ValueError, match="order must be an integer from 1 to 1000, got"):
        taylor_cross_entropy(jnp.float32(scores[0]), scores[1], order=order)


@pytest.mark.parametrize("temperature", [1.5, 3.0, 40.0])
def test_the_huberised_pieces_meet_with_equal_slope(float64, temperature):
    nearby = (1 + np.linspace(-1e-6, 1e-6, EXAMPLES)) / temperature
    logits = jnp.asarray(falling(nearby))

    def loss(logits):
        return partially_huberised_cross_entropy(logits, FIRST, temperature=temperature)

    found, pullback = jax.vjp(loss, logits)
    line = np.log(temperature) + 1 - temperature * nearby
    np.testing.assert_allclose(found, line, atol=2e-12)
    slopes = pullback(jnp.ones_like(found))[0][:, 0] / (nearby * (1 - nearby))
    np.testing.assert_allclose(slopes, -temperature, rtol=2e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0, 1e6])
def test_the_huberised_gradient_is_that_of_cross_entropy_clipped(float64, scores, temperature):
    for labels, own in both_labels(scores):
        own = own[:, None]
        y = labels if labels.ndim == 2 else np.eye(CLASSES)[labels]
        p = special.softmax(scores[0], axis=-1)

        def total(logits, labels=labels):
            return partially_huberised_cross_entropy(logits, labels, temperature=temperature).sum()

        found = jax.grad(total)(jnp.asarray(scores[0]))
        clipped = np.minimum(1 / own, temperature)
        np.testing.assert_allclose(found, -clipped * p * (y - own), rtol=1e-9, atol=1e-14)


def test_huberisation_is_bounded_and_reaches_its_bound(float64):
    logits = np.zeros((EXAMPLES, CLASSES))
    logits[:, 0] = np.linspace(-3000, 3000, EXAMPLES)
    for temperature in (1.0, 3.0, 1e6):
        found = partially_huberised_cross_entropy(logits, FIRST, temperature=temperature)
        bound = np.log(temperature) + 1
        assert (np.diff(found) <= 0).all()
        np.testing.assert_allclose([found[0], found[-1]], [bound, 0], rtol=1e-14)


def test_huberisation_is_linear_at_temperature_one_and_absent_at_a_high_one(float64, scores):
    for labels, own in both_labels(scores):
        found = partially_huberised_cross_entropy(scores[0], labels, temperature=1.0)
        np.testing.assert_allclose(found, 1 - own, atol=1e-14)
        found = partially_huberised_cross_entropy(scores[0], labels, temperature=1e12)
        np.testing.assert_allclose(found, -np.log(own), rtol=1e-12)


@pytest.mark.parametrize(
    "soft",
    [False, True],
    ids=["integer", "one_hot"],
)
@pytest.mark.parametrize(
    ("loss", "settings"),
    [
        (generalized_cross_entropy, {}),
        (truncated_generalized_cross_entropy, {}),
        (taylor_cross_entropy, {"order": 3}),
        (partially_huberised_cross_entropy, {"temperature": 3.0}),
    ],
)
def test_a_label_that_scores_minus_infinity_has_no_gradient(float64, scores, loss, settings, soft):
    labels = np.eye(CLASSES)[scores[1]] if soft else scores[1]
    logits = np.where(np.arange(CLASSES) == scores[1][:, None], -np.inf, scores[0])
    gradient = jax.grad(lambda logits: loss(logits, labels, **settings).sum())(logits)
    np.testing.assert_array_equal(gradient, 0)
