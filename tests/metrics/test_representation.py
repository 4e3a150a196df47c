import functools

import jax
import numpy as np
import pytest

from lnl_jax import metrics

effective_rank, alignment, uniformity = map(
    jax.jit, (metrics.effective_rank, metrics.alignment, metrics.uniformity)
)


def orthogonal(rng, rows, columns):
    return np.linalg.qr(rng.normal(size=(rows, columns)))[0].astype(np.float32)


def test_the_effective_rank_of_equal_singular_values_is_their_number(rng):
    features = orthogonal(rng, 20, 5) @ orthogonal(rng, 8, 5).T
    np.testing.assert_allclose(effective_rank(7 * features), 5, rtol=1e-4)
    same = np.ones((20, 8), np.float32)
    np.testing.assert_allclose(effective_rank(same), 1, rtol=1e-4)
    assert np.isnan(effective_rank(0 * same))


def test_the_effective_rank_is_the_exponential_of_the_entropy(rng):
    values = np.float32([4, 2, 1, 1])
    features = orthogonal(rng, 20, 4) * values @ orthogonal(rng, 4, 4).T
    # Shares 1/2, 1/4, 1/8, 1/8 have an entropy of 1.75 bits.
    np.testing.assert_allclose(effective_rank(features), 2**1.75, rtol=1e-4)


def test_alignment_is_two_minus_twice_the_cosine(rng):
    angles = rng.uniform(0, np.pi, 6).astype(np.float32)
    second = np.stack([np.cos(angles), np.sin(angles)], -1)
    first = np.tile(np.float32([1, 0]), (6, 1))
    where = np.arange(6) < 4
    found = alignment(first, second, where=where)
    np.testing.assert_allclose(found.value, (2 - 2 * np.cos(angles[:4])).mean(), rtol=1e-5)
    assert found.count == 4


def test_uniformity_of_few_points(rng):
    square = np.float32([[1, 0], [0, 1], [-1, 0], [0, -1]])
    # Of six pairs four have a squared distance of 2, and two of 4.
    for scale in (0.5, 2.0):
        expected = np.log((4 * np.exp(-2 * scale) + 2 * np.exp(-4 * scale)) / 6)
        np.testing.assert_allclose(uniformity(square, scale=scale), expected, rtol=1e-5)
    collapsed = np.tile(orthogonal(rng, 3, 1).T, (5, 1))
    np.testing.assert_allclose(uniformity(collapsed), 0, atol=1e-5)


def test_the_average_of_each_class(rng):
    values = rng.normal(size=20).astype(np.float32)
    labels, where = rng.integers(-1, 5, 20), rng.uniform(size=20) < 0.7
    class_average = jax.jit(functools.partial(metrics.class_average, num_classes=4))
    found = class_average(values, labels, where=where)
    for label in range(4):
        members = values[(labels == label) & where]
        assert found.count[label] == len(members)
        np.testing.assert_allclose(found.total[label], members.sum(), rtol=1e-5, atol=1e-6)


def test_the_average_of_each_class_takes_lists():
    found = metrics.class_average([1.0, 3.0, 5.0], [0, 0, 1], num_classes=2)
    np.testing.assert_array_equal(found.value, [2, 5])
    with pytest.raises(ValueError, match=r"got \(3,\) and \(2,\)"):
        metrics.class_average([1.0, 3.0, 5.0], [0, 0], num_classes=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: metrics.effective_rank(np.zeros(3, np.float32)),
            r"features must have the shape \[N, D\]",
        ),
        (
            lambda: metrics.effective_rank(np.zeros((0, 3), np.float32)),
            r"at least one row .* shape \(0, 3\)",
        ),
        (
            lambda: metrics.effective_rank(np.zeros((3, 0), np.float32)),
            r"one column, got shape \(3, 0\)",
        ),
        (
            lambda: metrics.alignment(np.eye(2, dtype=np.float32), np.eye(3, dtype=np.float32)),
            "one shape",
        ),
        (lambda: metrics.uniformity(np.zeros((1, 2), np.float32)), "at least two rows"),
        (
            lambda: metrics.class_average(np.zeros(2, np.float32), np.zeros(3, int), num_classes=2),
            r"shape \[N\]",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
