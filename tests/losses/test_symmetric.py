"""Symmetric losses: their constant sum over all labels, and what each is for special arguments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

from lnl_jax import losses

CLASSES = 7
# One shape throughout: seven predictions with every label are a batch, too.
EXAMPLES = CLASSES * CLASSES

# Each with its sum over K labels.
SYMMETRIC = {
    "mean_absolute_error": (losses.mean_absolute_error, lambda k: 2 * (k - 1)),
    "reverse_cross_entropy": (
        functools.partial(losses.reverse_cross_entropy, log_zero=-3.0),
        lambda k: 3 * (k - 1),
    ),
    "robust_log_loss": (
        functools.partial(losses.robust_log_loss, alpha=0.2),
        lambda k: k * np.log(1.2 / 0.2),
    ),
    "normalized_cross_entropy": (losses.normalized_cross_entropy, np.ones_like),
    "normalized_focal": (functools.partial(losses.normalized_focal, gamma=0.7), np.ones_like),
    "asymmetric_unhinged": (
        functools.partial(losses.asymmetric_unhinged, a=6.0, q=1.0),
        lambda k: k - 1,
    ),
    "asymmetric_generalized_cross_entropy": (
        functools.partial(losses.asymmetric_generalized_cross_entropy, a=3.0, q=1.0),
        lambda k: k - 1,
    ),
}


@pytest.fixture
def scores(rng):
    """NumPy logits, integer labels and distributions."""
    logits = 3 * rng.normal(size=(EXAMPLES, CLASSES))
    labels = rng.integers(CLASSES, size=EXAMPLES, dtype=np.int32)
    return logits, labels, rng.dirichlet(np.ones(CLASSES), size=EXAMPLES)


def of_every_label(loss, logits, **arguments):
    """One loss per label, last, for each of the first examples."""
    labels = np.tile(np.arange(CLASSES, dtype=np.int32), CLASSES)
    found = loss(np.repeat(logits[:CLASSES], CLASSES, axis=0), labels, **arguments)
    return np.asarray(found).reshape(CLASSES, CLASSES)


def own_probability(logits, labels):
    return np.take_along_axis(special.softmax(logits, axis=-1), labels[:, None], -1)[:, 0]


@pytest.mark.parametrize(("loss", "constant"), SYMMETRIC.values(), ids=SYMMETRIC)
def test_the_sum_over_all_labels_is_constant(float64, scores, loss, constant):
    summed = of_every_label(loss, scores[0]).sum(-1)
    np.testing.assert_allclose(summed, constant(np.full(CLASSES, 1.0 * CLASSES)), rtol=1e-13)


@pytest.mark.parametrize(("loss", "constant"), SYMMETRIC.values(), ids=SYMMETRIC)
def test_masked_classes_do_not_count_in_the_constant(float64, scores, loss, constant):
    where = np.arange(CLASSES) < 2 + np.arange(CLASSES)[:, None] % (CLASSES - 1)
    found = of_every_label(loss, scores[0], where=np.repeat(where, CLASSES, axis=0))
    np.testing.assert_array_equal(np.isnan(found), ~where)
    summed = found.sum(-1, where=where)
    np.testing.assert_allclose(summed, constant(1.0 * where.sum(-1)), rtol=1e-13)


def test_the_sum_of_the_squared_error_depends_on_the_concentration(float64, scores):
    logits = scores[0].copy()
    logits[0], logits[1] = 0, 1e3 * np.eye(CLASSES)[2]
    summed = of_every_label(losses.mean_squared_error, logits).sum(-1)
    p = special.softmax(logits[:CLASSES], axis=-1)
    np.testing.assert_allclose(summed, CLASSES - 2 + CLASSES * (p**2).sum(-1), rtol=1e-14)
    np.testing.assert_allclose(summed[:2], [CLASSES - 1, 2 * (CLASSES - 1)], rtol=1e-14)
    assert (summed[2:] > CLASSES - 1).all()
    assert (summed[2:] < 2 * (CLASSES - 1)).all()


def test_absolute_and_reverse_errors_are_multiples_of_the_other_probability(float64, scores):
    logits, labels, _ = scores
    other = 1 - own_probability(logits, labels)
    one_hot = np.eye(CLASSES)[labels]
    log_zero = -np.linspace(0, 11, EXAMPLES)
    for target in (labels, one_hot):
        absolute = losses.mean_absolute_error(logits, target)
        np.testing.assert_allclose(absolute, 2 * other, atol=1e-14)
        reverse = losses.reverse_cross_entropy(logits, target, log_zero=log_zero)
        np.testing.assert_allclose(reverse, -log_zero * other, atol=1e-13)


def test_symmetric_cross_entropy_is_either_part_alone(float64, scores):
    logits, integers, distributions = scores
    one_hot = np.eye(CLASSES)[integers]
    for labels, y in ((integers, one_hot), (distributions, distributions)):
        found = losses.symmetric_cross_entropy(logits, labels, alpha=1.7, beta=0.0)
        expected = 1.7 * optax.softmax_cross_entropy(jnp.asarray(logits), y)
        np.testing.assert_allclose(found, expected, rtol=1e-13)
        found = losses.symmetric_cross_entropy(logits, labels, alpha=0.0, beta=1.7, log_zero=-3.0)
        expected = 1.7 * losses.reverse_cross_entropy(logits, labels, log_zero=-3.0)
        np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_label_mass_below_the_stand_in_for_zero_counts_as_zero(float64, scores):
    logits = scores[0]
    tiny = np.exp(-4.0) * np.array([0.1, 0.5, 0.99])
    y = np.zeros((EXAMPLES, CLASSES))
    y[:, :3], y[:, 3:5] = tiny, [0.2, 0.8 - tiny.sum()]
    without = np.where(y < np.exp(-4.0), 0, y)

    def total(y):
        return losses.reverse_cross_entropy(logits, y, log_zero=-4.0).sum()

    np.testing.assert_allclose(total(y), total(without), rtol=1e-14)
    gradient = jax.grad(total)(jnp.asarray(y))
    p = special.softmax(logits, axis=-1)
    expected = np.where(y > np.exp(-4.0), -p / np.where(y > 0, y, 1), 0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-13)


def test_the_robust_log_loss_is_zero_where_the_prediction_is_the_label(float64, scores):
    _, labels, _ = scores
    alpha = np.geomspace(1e-6, 1e6, EXAMPLES)
    logits = 1e3 * np.eye(CLASSES)[labels]
    for target in (labels, np.eye(CLASSES)[labels]):
        assert (np.abs(losses.robust_log_loss(logits, target, alpha=alpha)) < 1e-14).all()
    found = losses.robust_log_loss(logits, (labels + 1) % CLASSES, alpha=alpha)
    np.testing.assert_allclose(found, CLASSES / (CLASSES - 1) * np.log1p(1 / alpha), rtol=1e-9)


@pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])
def test_the_robust_log_loss_of_a_large_alpha_is_an_absolute_error_in_float32(scores, soft):
    logits, integers, distributions = np.float32(scores[0]), *scores[1:]
    labels = distributions.astype(np.float32) if soft else integers
    where = np.arange(CLASSES) < CLASSES - 2 * (np.arange(EXAMPLES)[:, None] % 2)
    if not soft:
        labels = labels % (CLASSES - 2)
    else:
        labels = labels * where / (labels * where).sum(-1, keepdims=True)
    y = labels if soft else np.eye(CLASSES)[labels]
    p = special.softmax(np.where(where, logits, -np.inf).astype(np.float64), axis=-1)
    count = where.sum(-1)
    found = jax.jit(losses.robust_log_loss)(logits, labels, alpha=jnp.float32(1e4), where=where)
    expected = (1 - (y * p).sum(-1)) * count / (count - 1) / 1e4
    # The next term of the series in 1 / alpha, and nothing that is lost to a difference of logs.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-11)
