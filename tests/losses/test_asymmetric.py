"""Asymmetric losses: special cases, bounds, and the property that they are named for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from lnl_jax.losses import (
    asymmetric_exponential,
    asymmetric_generalized_cross_entropy,
    asymmetric_unhinged,
    generalized_cross_entropy,
)

CLASSES = 7
EXAMPLES = CLASSES * CLASSES

# Each with its derivative by p_y.
LOSSES = {
    "agce_2": (
        functools.partial(asymmetric_generalized_cross_entropy, a=0.4, q=2.0),
        lambda p: -(0.4 + p),
    ),
    "agce_0.5": (
        functools.partial(asymmetric_generalized_cross_entropy, a=3.0, q=0.5),
        lambda p: -((3 + p) ** -0.5),
    ),
    "aul_0.5": (
        functools.partial(asymmetric_unhinged, a=1.3, q=0.5),
        lambda p: -((1.3 - p) ** -0.5),
    ),
    "aul_3": (functools.partial(asymmetric_unhinged, a=6.0, q=3.0), lambda p: -((6 - p) ** 2)),
    "ael": (functools.partial(asymmetric_exponential, a=0.7), lambda p: -np.exp(-p / 0.7) / 0.7),
}
# Each with its least and largest value.
BOUNDED = {
    "agce_2": (*LOSSES["agce_2"][:1], 0, (1.4**2 - 0.4**2) / 2),
    "agce_0.5": (*LOSSES["agce_0.5"][:1], 0, (2 - 3**0.5) / 0.5),
    "aul_0.5": (*LOSSES["aul_0.5"][:1], 0, (1.3**0.5 - 0.3**0.5) / 0.5),
    "aul_3": (*LOSSES["aul_3"][:1], 0, (6**3 - 5**3) / 3),
    "ael": (*LOSSES["ael"][:1], np.exp(-1 / 0.7), 1),
}


@pytest.fixture
def scores(rng):
    """NumPy logits, integer labels and distributions."""
    logits = 3 * rng.normal(size=(EXAMPLES, CLASSES))
    labels = rng.integers(CLASSES, size=EXAMPLES, dtype=np.int32)
    return logits, labels, rng.dirichlet(np.ones(CLASSES), size=EXAMPLES)


@pytest.mark.parametrize("a", [1.01, 3.0, 1e3])
@pytest.mark.parametrize("loss", [asymmetric_generalized_cross_entropy, asymmetric_unhinged])
def test_q_one_is_the_probability_of_the_other_classes(float64, scores, loss, a):
    logits, integers, distributions = scores
    p = special.softmax(logits, axis=-1)
    one_hot = np.eye(CLASSES)[integers]
    for labels, y in ((integers, one_hot), (distributions, distributions)):
        found = loss(logits, labels, a=a, q=1.0)
        np.testing.assert_allclose(found, 1 - (y * p).sum(-1), atol=1e-14)


@pytest.mark.parametrize("q", [0.7, 1.5])
def test_a_small_a_gives_generalized_cross_entropy(float64, scores, q):
    logits, labels, _ = scores
    own = np.take_along_axis(special.softmax(logits, axis=-1), labels[:, None], -1)[:, 0]
    found = asymmetric_generalized_cross_entropy(logits, labels, a=1e-8, q=q)
    # GCE itself is for q up to 1.
    expected = generalized_cross_entropy(logits, labels, q=q) if q <= 1 else (1 - own**q) / q
    slope = 1 - own ** (q - 1)
    np.testing.assert_allclose(found, expected + 1e-8 * slope, atol=1e-12)


@pytest.mark.parametrize(("loss", "least", "largest"), BOUNDED.values(), ids=BOUNDED)
def test_the_loss_falls_from_its_upper_to_its_lower_bound(float64, loss, least, largest):
    logits = np.zeros((EXAMPLES, CLASSES))
    logits[:, 0] = np.linspace(-3000, 3000, EXAMPLES)
    logits[14:35, 0] = np.linspace(-10, 10, 21)
    found = np.asarray(loss(logits, np.zeros(EXAMPLES, np.int32)))
    assert (np.diff(found) <= 0).all()
    assert (np.diff(found[14:35]) < 0).all()
    np.testing.assert_allclose(found[[0, -1]], [largest, least], rtol=1e-13)


@pytest.mark.parametrize(("loss", "slope"), LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])
def test_the_gradient_is_the_slope_times_that_of_the_probability(
    float64, scores, loss, slope, soft
):
    logits, integers, distributions = scores
    labels = distributions if soft else integers
    y = distributions if soft else np.eye(CLASSES)[integers]
    p = special.softmax(logits, axis=-1)
    own = (y * p).sum(-1, keepdims=True)
    found = jax.grad(lambda logits: loss(logits, labels).sum())(jnp.asarray(logits))
    np.testing.assert_allclose(found, slope(own) * p * (y - own), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ("loss", "ratio"),
    [
        (functools.partial(asymmetric_generalized_cross_entropy, a=1.0, q=3.0), 1 / 4),
        (functools.partial(asymmetric_generalized_cross_entropy, a=1.0, q=0.5), 2**0.5),
        (functools.partial(asymmetric_unhinged, a=2.0, q=0.5), 0.5**0.5),
        (functools.partial(asymmetric_unhinged, a=2.0, q=3.0), 4),
        (functools.partial(asymmetric_exponential, a=2.0), np.exp(1 / 2)),
    ],
    ids=["agce_convex", "agce_concave", "aul_concave", "aul_convex", "ael"],
)
def test_the_slope_at_an_unlikely_label_relative_to_a_likely_one(float64, loss, ratio):
    p = np.linspace(1e-6, 1 - 1e-6, EXAMPLES)
    others = np.tile((1 - p)[:, None] / (CLASSES - 1), CLASSES - 1)
    logits = np.log(np.concatenate([p[:, None], others], axis=-1))
    gradient = jax.grad(lambda logits: loss(logits, np.zeros(EXAMPLES, np.int32)).sum())(logits)
    slopes = gradient[:, 0] / (p * (1 - p))
    np.testing.assert_allclose(slopes[0] / slopes[-1], ratio, rtol=1e-5)


# How much more frequent than any other label the true one has to be.
ROBUST = {
    "agce": (functools.partial(asymmetric_generalized_cross_entropy, a=0.5, q=1.5), 1.0),
    "aul_concave": (functools.partial(asymmetric_unhinged, a=1.5, q=0.5), 1.0),
    "aul_convex": (functools.partial(asymmetric_unhinged, a=3.0, q=1.5), 1.5**0.5),
    "ael": (functools.partial(asymmetric_exponential, a=2.0), np.exp(0.5)),
}


@pytest.mark.parametrize(("loss", "dominance"), ROBUST.values(), ids=ROBUST)
def test_the_most_frequent_label_alone_minimises_the_expected_loss(float64, rng, loss, dominance):
    labels = np.tile(np.arange(CLASSES, dtype=np.int32), CLASSES)
    certain = np.eye(CLASSES)
    for concentration in (0.3, 3.0, 1e3):
        frequencies = rng.dirichlet(np.full(CLASSES, concentration))
        frequencies[::-1].sort()
        frequencies[0] = 1.01 * dominance * frequencies[1]
        frequencies /= frequencies.sum()
        predictions = np.stack(
            [
                certain[0],
                0.99 * certain[0] + 0.01 * certain[1],
                0.5 * certain[0] + 0.5 * certain[1],
                certain[1],
                frequencies,
                np.full(CLASSES, 1 / CLASSES),
                rng.dirichlet(np.ones(CLASSES)),
            ]
        )
        logits = np.log(np.maximum(predictions, 1e-30))
        found = loss(np.repeat(logits, CLASSES, axis=0), labels)
        expected = np.asarray(found).reshape(CLASSES, CLASSES) @ frequencies
        assert (expected[1:] > expected[0]).all()


@pytest.mark.parametrize("a", [2.0, 100.0])
@pytest.mark.parametrize("loss", [asymmetric_generalized_cross_entropy, asymmetric_unhinged])
def test_float32_loses_nothing_to_the_difference_of_two_powers(loss, a):
    logits = np.zeros((EXAMPLES, CLASSES), np.float32)
    logits[:, 0] = np.linspace(0, 9, EXAMPLES)
    labels = np.zeros(EXAMPLES, np.int32)
    loss = functools.partial(jax.jit(loss), labels=labels, a=a, q=1.5)
    found = loss(logits)
    with jax.enable_x64(True):
        expected = loss(logits.astype(np.float64))
    other = 1 - special.softmax(logits.astype(np.float64), axis=-1)[:, 0]
    # Only the rounding of log p_y, whatever a is.
    error = np.abs(found / np.asarray(expected) - 1)
    assert (error < 1e-6 + 1e-6 / other).all()
    assert error[other > 0.01].max() < 1e-4
