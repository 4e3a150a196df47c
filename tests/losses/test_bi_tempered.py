"""Bi-tempered logistic loss: its normaliser, its limits and its bound."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from scipy import optimize, special

from lnl_jax.losses._bi_tempered import (
    bi_tempered_logistic,
    log_tempered_softmax,
    normaliser,
)

EXAMPLES, CLASSES = 12, 7

# Both temperatures are traced, so that one compilation serves all their values.
compiled = jax.jit(bi_tempered_logistic)
compiled_log_softmax = jax.jit(log_tempered_softmax)


@pytest.fixture
def scores(rng):
    """NumPy logits, integer labels and distributions."""
    logits = 3 * rng.normal(size=(EXAMPLES, CLASSES))
    labels = rng.integers(CLASSES, size=EXAMPLES, dtype=np.int32)
    return logits, labels, rng.dirichlet(np.ones(CLASSES), size=EXAMPLES)


def log_probabilities(f, t2):
    """Of one example, by bisection on Lambda above the largest score."""
    gaps, s = f.max() - f, t2 - 1
    if s == 0:
        return special.log_softmax(f)

    def log_p(level):
        return -np.log1p(s * (level + gaps)) / s

    highest = (len(f) ** s - 1) / s * (1 + 1e-9) + 1e-9
    found = optimize.brentq(lambda level: np.exp(log_p(level)).sum() - 1, 0, highest, xtol=1e-15)
    return log_p(found)


def reference(f, y, t1, t2):
    log_p = log_probabilities(f, t2)

    def tempered(log_x):
        return log_x if t1 == 1 else np.expm1((1 - t1) * log_x) / (1 - t1)

    labelled = y > 0
    entropy = (y * tempered(np.log(np.where(labelled, y, 1)))).sum()
    powers = (y ** (2 - t1) - np.exp((2 - t1) * log_p)) / (2 - t1)
    return entropy - (y * np.where(labelled, tempered(log_p), 0)).sum() - powers.sum()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.slow
def test_temperatures_of_one_give_cross_entropy_even_when_traced(scores, dtype):
    with jax.enable_x64(True):
        logits, integers, distributions = (jnp.asarray(array) for array in scores)
        logits, distributions = logits.astype(dtype), distributions.astype(dtype)
        epsilon = float(jnp.finfo(dtype).eps)

        @jax.jit
        def found(logits, labels, t1, t2):
            def loss(logits):
                return bi_tempered_logistic(logits, labels, t1=t1, t2=t2)

            return loss(logits), jax.grad(lambda logits: loss(logits).sum())(logits)

        one_hot = jax.nn.one_hot(integers, CLASSES, dtype=dtype)
        for labels, y in ((integers, one_hot), (distributions, distributions)):
            value, gradient = found(logits, labels, dtype(1), dtype(1))
            entropy = special.entr(np.asarray(y)).sum(-1)
            expected = optax.softmax_cross_entropy(logits, y) - entropy
            assert value.dtype == dtype
            np.testing.assert_allclose(value, expected, atol=20 * epsilon, rtol=4 * epsilon)
            expected = jax.nn.softmax(logits) - y
            np.testing.assert_allclose(gradient, expected, atol=4 * epsilon)


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
def test_derivatives_at_temperatures_of_one_have_their_closed_form(scores, dtype):
    with jax.enable_x64(True):
        logits, labels = scores[0].astype(dtype), scores[1]
        log_p = special.log_softmax(scores[0], axis=-1)
        p = np.exp(log_p)
        own = log_p[np.arange(EXAMPLES), labels]

        def loss(t1, t2):
            return bi_tempered_logistic(jnp.asarray(logits), labels, t1=t1, t2=t2)

        slopes = jax.jit(jax.jacfwd(loss, argnums=(0, 1)))(
            jnp.asarray(1, dtype), jnp.asarray(1, dtype)
        )
        rtol = 100 * float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(slopes[0], own**2 / 2 - (p * log_p).sum(-1), rtol=rtol)
        expected = ((p * log_p**2).sum(-1) - own**2) / 2
        np.testing.assert_allclose(slopes[1], expected, rtol=rtol, atol=10 * rtol)


@pytest.mark.slow
def test_float32_is_accurate_as_the_temperatures_approach_one(scores):
    offsets = np.float32([0, 2**-23, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3])
    labels = scores[1]
    with jax.enable_x64(True):

        def values_and_slopes(dtype):
            logits = jnp.asarray(scores[0], jnp.float32).astype(dtype)

            def loss(c, s):
                return bi_tempered_logistic(logits, labels, t1=1 - c, t2=1 + s)

            def both(c, s):
                return loss(c, s), jax.jacfwd(loss, argnums=(0, 1))(c, s)

            c, s = (jnp.asarray(offset.ravel(), dtype) for offset in np.meshgrid(offsets, offsets))
            return jax.tree.leaves(jax.jit(jax.vmap(both))(c, s))

        for found, expected in zip(
            values_and_slopes(jnp.float32), values_and_slopes(jnp.float64), strict=True
        ):
            np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize(
    "t2", [1.0001, 4.0, *(pytest.param(t, marks=pytest.mark.slow) for t in (1.0, 1.05, 1.5, 2.0))]
)
def test_agrees_with_a_bisection_in_float64(float64, rng, t2):
    for num_classes in (2, 10, 1000):
        scale = np.array([0, 1, 30, 1e4])[:, None]
        logits = scale * rng.normal(size=(4, num_classes))
        labels = rng.dirichlet(np.full(num_classes, 0.1), size=4)
        labels[0] = np.eye(num_classes)[0]
        for t1 in (0.0, 0.3, 0.99, 1.0):
            found = compiled(logits, labels, t1=t1, t2=t2)
            expected = [reference(f, y, t1, t2) for f, y in zip(logits, labels, strict=True)]
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("s", [0.0, 1e-6, 0.3, 3.0, 40.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4, 1e30])
def test_probabilities_sum_to_one_in_float32(rng, s, scale):
    for num_classes in (1, 2, 1000):
        logits = jnp.float32(scale * rng.normal(size=(4, num_classes)))
        log_p = compiled_log_softmax(logits, jnp.float32(s))
        assert (log_p <= 0).all()
        np.testing.assert_allclose(jnp.exp(log_p).sum(-1), 1, rtol=1e-5)


def test_the_passes_suffice_for_two_groups_of_scores_far_apart(float64):
    """These take the most: their slope changes at once."""
    groups = [(classes, gap) for classes in (1, 2, 500, 999) for gap in np.geomspace(0.1, 1e4, 12)]
    logits = np.stack([np.where(np.arange(1000) < classes, 0, -gap) for classes, gap in groups])
    for s in (0.001, 0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 40.0):
        log_p = compiled_log_softmax(jnp.asarray(logits), jnp.float64(s))
        np.testing.assert_allclose(jnp.exp(log_p).sum(-1), 1, rtol=1e-12)


@pytest.mark.parametrize("jacobian", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("s", [0.0, 0.2, pytest.param(3.0, marks=pytest.mark.slow)])
def test_the_derivative_of_the_normaliser_is_the_escort_distribution(float64, scores, jacobian, s):
    f = jnp.asarray(scores[0][0])

    def level(f):
        """Lambda, from nu and the largest score."""
        nu = normaliser(f.max() - f, jnp.float64(s))
        return f.max() + (jnp.expm1(s * nu) / s if s else nu)

    escort = np.exp((1 + s) * log_probabilities(scores[0][0], 1 + s))
    slopes = jax.jit(jacobian(level))(f)
    np.testing.assert_allclose(slopes, escort / escort.sum(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("t1", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("t2", [1.0, 1.5])
def test_the_loss_is_bounded_by_one_over_one_minus_t1_and_reaches_it(t1, t2):
    logits = np.zeros((61, CLASSES), np.float32)
    logits[:, 0] = np.sinh(np.linspace(-60, 60, 61))
    logits[:, 1] = -logits[:, 0]
    found = compiled(logits, np.zeros(61, np.int32), t1=t1, t2=t2)
    bound = 1 / (1 - t1)
    assert (found >= -1e-6).all()
    assert (found <= bound * (1 + 1e-6)).all()
    np.testing.assert_allclose(found[0], bound, rtol=2e-5)
    np.testing.assert_allclose(found[-1], 0, atol=1e-6)


def test_the_gradient_vanishes_for_far_outliers_only_when_tempered(scores):
    distance = np.float32([1, 3, 10, 100, 1e4])
    logits = jnp.zeros((5, CLASSES)).at[:, 0].set(-distance).at[:, 1].set(distance)

    @jax.jit
    def pull(t1, t2):
        def loss(logits):
            return bi_tempered_logistic(logits, np.zeros(5, np.int32), t1=t1, t2=t2).sum()

        return -jax.grad(loss)(logits)[:, 0]

    tempered = pull(0.0, 2.0)
    assert (np.diff(tempered) < 0).all()
    # p_y falls as 1 / d, and the gradient as p_y^(1 - t1 + t2 - 1) = d^-2.
    np.testing.assert_allclose(tempered[3] / tempered[4], 1e4, rtol=0.1)
    assert tempered[-1] < 1e-7
    np.testing.assert_allclose(pull(1.0, 1.0)[2:], 1, rtol=1e-6)


@pytest.mark.parametrize("t1", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("t2", [1.0, 1.7])
def test_the_loss_is_positive_except_where_the_prediction_is_the_label(float64, scores, t1, t2):
    logits, _, others = scores

    own = jnp.asarray([np.exp(log_probabilities(f, t2)) for f in logits])
    np.testing.assert_allclose(compiled(logits, own, t1=t1, t2=t2), 0, atol=1e-14)
    for share, least in ((0.01, 1e-7), (1, 1e-3)):
        y = (1 - share) * own + share * others
        assert (compiled(logits, y, t1=t1, t2=t2) > least).all()


@pytest.mark.slow
def test_second_derivatives_match_finite_differences(float64, scores):
    logits, labels = (jnp.asarray(array[:3]) for array in scores[:2])

    @jax.jit
    def gradient(logits, t2):
        def loss(logits, t2):
            return bi_tempered_logistic(logits, labels, t1=0.9, t2=t2).sum()

        return jax.grad(loss, argnums=(0, 1))(logits, t2)

    check_grads(gradient, (logits, jnp.float64(1.05)), order=1, modes=["fwd", "rev"], rtol=1e-6)


@pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])
def test_gradients_of_all_arguments_are_finite_in_float32(scores, soft):
    integers = jnp.maximum(scores[1], 1)
    y = np.zeros((EXAMPLES, CLASSES), np.float32)
    y[:, 1:3] = [0.4, 0.6]

    @jax.jit
    def gradients(logits, y, t1, t2):
        def loss(logits, y, t1, t2):
            labels = y if soft else integers
            return bi_tempered_logistic(logits, labels, t1=t1, t2=t2).sum()

        return jax.grad(loss, argnums=(0, 1, 2, 3))(logits, y, t1, t2)

    for scale in (0.0, 1e4, 1e30):
        logits = jnp.float32(scale * scores[0]).at[:, 0].set(-jnp.inf)
        for t1, t2 in ((1, 1), (0.8, 1), (1, 1.3), (0, 4)):
            for gradient in gradients(logits, y, jnp.float32(t1), jnp.float32(t2)):
                assert jnp.isfinite(gradient).all()


def test_a_label_that_scores_minus_infinity_has_probability_zero(scores):
    logits, labels = jnp.float32(scores[0]), jnp.asarray(scores[1])
    rows = jnp.arange(EXAMPLES)
    # At t2 = 1 a score of -1e4 has probability 0 as well.
    far = compiled(logits.at[rows, labels].set(-1e4), labels, t1=0.4, t2=1.0)
    impossible = logits.at[rows, labels].set(-jnp.inf)
    for target in (labels, jax.nn.one_hot(labels, CLASSES)):
        found = compiled(impossible, target, t1=0.4, t2=1.0)
        np.testing.assert_allclose(found, far, rtol=1e-6)
        assert (compiled(impossible, target, t1=1.0, t2=1.3) == jnp.inf).all()
