"""LDR-KL and LDR-k: limits, closed forms, and the maximum found by exhaustion."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

from lnl_jax.losses import ldr_kl

EXAMPLES, CLASSES = 60, 6


@pytest.fixture
def scores(rng):
    """NumPy logits, integer labels and distributions."""
    logits = 2 * rng.normal(size=(EXAMPLES, CLASSES))
    labels = rng.integers(CLASSES, size=EXAMPLES, dtype=np.int32)
    return logits, labels, rng.dirichlet(np.ones(CLASSES), size=EXAMPLES)


def margin_violations(logits, labels, margin):
    """Delta in float64 NumPy, and the labels as distributions."""
    logits = np.asarray(logits, np.float64)
    if labels.ndim < logits.ndim:
        labels = np.eye(logits.shape[-1])[labels]
    own = (labels * logits).sum(-1, keepdims=True)
    return logits - own + np.expand_dims(margin, -1) * (1 - labels), labels


def value_and_gradient(logits, labels, **settings):
    logits = jnp.asarray(logits)
    losses, pullback = jax.vjp(lambda logits: ldr_kl(logits, labels, **settings), logits)
    return losses, pullback(jnp.ones_like(losses))[0]


compiled = jax.jit(value_and_gradient, static_argnames="top_k")


def value_and_worst(logits, labels, **settings):
    """The losses, and the p that take the maximum: the gradient is p - y."""
    losses, gradient = compiled(logits, labels, **settings)
    return losses, np.asarray(gradient) + margin_violations(logits, labels, 0)[1]


def best_by_exhaustion(delta, temperature, top_k):
    """The best value and p, per row, over all choices of saturated classes with p at most 1/k."""
    num_classes = delta.shape[-1]
    best, best_p = np.full(len(delta), -np.inf), np.zeros_like(delta)
    for size in range(top_k):
        for full in itertools.combinations(range(num_classes), size):
            others = np.setdiff1d(range(num_classes), full)
            share = special.softmax(delta[:, others] / temperature[:, None], axis=-1)
            p = np.full_like(delta, 1 / top_k)
            p[:, others] = (1 - size / top_k) * share
            price = temperature * special.xlogy(p, p * num_classes).sum(-1)
            value = (p * delta).sum(-1) - price
            better = (p.max(-1) <= 1 / top_k + 1e-12) & (value > best)
            best, best_p = np.where(better, value, best), np.where(better[:, None], p, best_p)
    return best, best_p


def draw_with_ties(rng, examples, num_classes):
    """Logits, a third of them with equal classes, labels, temperatures and margins."""
    logits = 2 * rng.normal(size=(examples, num_classes))
    logits[::3] = np.round(logits[::3] / 2)
    labels = rng.integers(num_classes, size=examples)
    return logits, labels, rng.uniform(0.2, 3, size=examples), rng.choice([0, 0.3, 1], examples)


def test_temperature_one_is_cross_entropy_minus_log_k(float64, scores):
    logits, integers, distributions = scores
    for labels, cross_entropy in (
        (integers, optax.softmax_cross_entropy_with_integer_labels),
        (distributions, optax.softmax_cross_entropy),
    ):
        found, _ = compiled(logits, labels)
        expected = jax.jit(cross_entropy)(logits, labels)
        np.testing.assert_allclose(found + np.log(CLASSES), expected, atol=1e-14)


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_a_small_temperature_gives_the_crammer_singer_maximum(scores, margin):
    logits, labels, _ = scores
    found = ldr_kl(jnp.float32(logits), labels, temperature=1e-6, margin=margin)
    delta, _ = margin_violations(np.float32(logits), labels, margin)
    # At most 1e-6 log K below it, and rounding.
    np.testing.assert_allclose(found, delta.max(-1), atol=3e-6)


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("temperature", [1e4, pytest.param(1e6, marks=pytest.mark.slow), 1e8])
@pytest.mark.parametrize("masked", [False, True], ids=["all", "where"])
def test_a_large_temperature_gives_the_mean_in_float32(rng, temperature, masked, jit):
    logits = 4 * rng.normal(size=(16, 100))
    labels = rng.integers(50, size=16, dtype=np.int32)
    included = np.arange(100) < (50 if masked else 100)
    loss = jax.jit(ldr_kl) if jit else ldr_kl
    where = jnp.asarray(included)[None] if masked else None
    found = loss(jnp.float32(logits), labels, temperature=temperature, margin=0.5, where=where)
    delta = margin_violations(np.float32(logits), labels, 0.5)[0][:, included]
    # The next term of the series in 1 / temperature matters at 1e4 alone.
    expected = delta.mean(-1) + delta.var(-1) / (2 * temperature)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_float32_is_exact_to_a_millionth_of_the_range_of_the_scores(rng, num_classes):
    """At temperatures of up to 1e5 times the scores, flat rows and sharp ones."""
    logits = np.float32(rng.normal(size=(6, num_classes)) * np.geomspace(1e-3, 100, 6)[:, None])
    labels = rng.integers(num_classes, size=6, dtype=np.int32)
    delta, _ = margin_violations(logits, labels, 0)
    for temperature in (1.0, 10.0, 1e5):
        scaled = delta / temperature
        centred = scaled - scaled.max(-1, keepdims=True)
        log_mean = np.log1p(np.expm1(centred).mean(-1))
        expected = temperature * (scaled.max(-1) + log_mean)
        found = compiled(jnp.asarray(logits), labels, temperature=temperature)[0]
        error = np.abs(np.asarray(found) - expected) / np.ptp(delta, axis=-1)
        assert (error < 1e-6).all(), f"{error} at temperature {temperature}"


def test_losses_on_both_sides_of_the_large_temperature_formula_agree(float64, rng):
    """One batch holds examples that are and that are not mended for rounding."""
    logits = rng.normal(size=(EXAMPLES, CLASSES)) * np.geomspace(1e-3, 100, EXAMPLES)[:, None]
    labels = rng.integers(CLASSES, size=EXAMPLES, dtype=np.int32)
    delta, _ = margin_violations(logits, labels, 0.3)
    expected = 2 * (special.logsumexp(delta / 2, axis=-1) - np.log(CLASSES))
    found, _ = compiled(logits, labels, temperature=2.0, margin=0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 1e6])
@pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])
def test_gradient_is_softmax_of_the_violations_minus_the_label(float64, scores, temperature, soft):
    logits, integers, distributions = scores
    labels = distributions if soft else integers
    delta, _ = margin_violations(logits, labels, 0.3)
    _, p = value_and_worst(logits, labels, temperature=temperature, margin=0.3)
    np.testing.assert_allclose(p, special.softmax(delta / temperature, axis=-1), atol=1e-14)


@pytest.mark.parametrize("top_k", [1, 2, pytest.param(CLASSES, marks=pytest.mark.slow)])
@pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])
def test_adding_a_constant_to_all_logits_changes_nothing(float64, scores, soft, top_k):
    logits, integers, distributions = scores
    labels = distributions if soft else integers
    settings = {"temperature": 0.7, "margin": 0.3, "top_k": top_k}
    before = compiled(logits, labels, **settings)
    after = compiled(logits + 3.7, labels, **settings)
    np.testing.assert_allclose(before[0], after[0], atol=1e-14)
    np.testing.assert_allclose(before[1], after[1], atol=1e-14)
    np.testing.assert_allclose(before[1].sum(-1), 0, atol=1e-14)


@pytest.mark.parametrize(
    "num_classes", [4, *(pytest.param(k, marks=pytest.mark.slow) for k in (5, 6))]
)
def test_top_k_is_the_maximum_over_distributions_of_at_most_one_kth(float64, rng, num_classes):
    logits, labels, temperature, margin = draw_with_ties(rng, EXAMPLES, num_classes)
    delta, _ = margin_violations(logits, labels, margin)
    for top_k in range(1, num_classes + 1):
        found, p = value_and_worst(
            logits, labels, temperature=temperature, margin=margin, top_k=top_k
        )
        assert (p <= 1 / top_k + 1e-14).all()
        np.testing.assert_allclose(p.sum(-1), 1, atol=1e-14)
        best, best_p = best_by_exhaustion(delta, temperature, top_k)
        np.testing.assert_allclose(found, best, atol=1e-13)
        np.testing.assert_allclose(p, best_p, atol=1e-13)


@pytest.mark.parametrize(
    "top_k",
    [2, *(pytest.param(k, marks=pytest.mark.slow) for k in range(1, CLASSES + 1) if k != 2)],
)
def test_top_k_at_a_small_temperature_is_the_mean_of_the_k_largest(float64, scores, top_k):
    logits, labels, _ = scores
    delta, _ = margin_violations(logits, labels, 0.3)
    found, _ = compiled(logits, labels, temperature=1e-6, margin=0.3, top_k=top_k)
    # Below it by the divergence of the uniform distribution over k classes.
    expected = np.sort(delta)[:, -top_k:].mean(-1) - 1e-6 * np.log(CLASSES / top_k)
    np.testing.assert_allclose(found, expected, atol=1e-13)


@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
def test_top_k_of_all_classes_is_the_mean_at_any_temperature(float64, scores, temperature):
    logits, labels, _ = scores
    found, p = value_and_worst(logits, labels, temperature=temperature, margin=0.3, top_k=CLASSES)
    delta, _ = margin_violations(logits, labels, 0.3)
    np.testing.assert_allclose(found, delta.mean(-1), atol=1e-13)
    np.testing.assert_allclose(p, 1 / CLASSES, atol=1e-14)


@pytest.mark.parametrize(
    "top_k", [2, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, CLASSES - 1, CLASSES))]
)
def test_hessian_is_the_covariance_of_the_unsaturated_classes(float64, rng, top_k):
    logits, labels, temperature, _ = draw_with_ties(rng, EXAMPLES, CLASSES)

    def loss(logits, label, temperature):
        return ldr_kl(logits, label, temperature=temperature, top_k=top_k)

    found = jax.jit(jax.vmap(jax.hessian(loss)))(logits, labels, temperature)
    _, p = value_and_worst(logits, labels, temperature=temperature, top_k=top_k)
    for hessian, free, one_temperature in zip(
        found, np.where(p < 1 / top_k - 1e-9, p, 0), temperature, strict=True
    ):
        # The free mass, of which the softmax is a share, does not change.
        covariance = np.diag(free) - np.outer(free, free) / max(free.sum(), 1e-300)
        np.testing.assert_allclose(hessian, covariance / one_temperature, atol=1e-13)


@pytest.mark.parametrize("top_k", [0, -1, CLASSES + 1, 2**70, 2.0, float("nan"), True, "2", None])
def test_top_k_that_is_no_number_of_classes_raises(scores, top_k):
    logits, labels, _ = scores
    with pytest.raises(ValueError, match="top_k must be an integer from 1 to .*, 6; got"):
        ldr_kl(jnp.float32(logits), labels, top_k=top_k)


@pytest.mark.parametrize("name", ["temperature", "margin"])
def test_an_infinite_number_is_refused_or_gives_nan(name):
    logits, labels = jnp.zeros((1, 3)), jnp.zeros(1, jnp.int32)
    with pytest.raises(ValueError, match=f"{name} must be .* and finite, got inf"):
        ldr_kl(logits, labels, **{name: float("inf")})
    assert jnp.isnan(compiled(logits, labels, **{name: jnp.inf})[0])


def test_fewer_classes_than_top_k_give_nan(scores):
    logits = jnp.float32(scores[0])
    where = np.arange(CLASSES) < np.arange(EXAMPLES)[:, None]
    found = ldr_kl(logits, jnp.zeros(EXAMPLES, jnp.int32), top_k=3, where=where)
    included = where.sum(-1)
    np.testing.assert_array_equal(np.isnan(found), (included > 0) & (included < 3))
    assert found[0] == 0


@pytest.mark.slow
def test_top_k_compiled_equals_eager(rng):
    logits = jnp.float32(3 * rng.normal(size=(64, 100)))
    labels = jnp.asarray(rng.integers(100, size=64), jnp.int32)
    settings = {"temperature": 0.3, "margin": 0.1, "top_k": 3}
    eager = value_and_gradient(logits, labels, **settings)
    found = compiled(logits, labels, **settings)
    np.testing.assert_allclose(found[0], eager[0], rtol=1e-6, atol=2e-6)
    np.testing.assert_allclose(found[1], eager[1], atol=5e-7)
