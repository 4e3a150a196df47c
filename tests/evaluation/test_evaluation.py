import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from lnl_jax import data, evaluation
from lnl_jax.evaluation import _neighbours


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def digits():
    found = data.digits()
    return found["x"], found["label"]


@pytest.fixture
def vectors(rng):
    return unit(rng.normal(size=(30, 6))), unit(rng.normal(size=(20, 6)))


@jax.jit
def compiled(x, y, l2, weights, max_iterations):
    return evaluation.fit_linear_probe(
        x, y, num_classes=10, l2=l2, weights=weights, max_iterations=max_iterations
    )


def fit(x, y, weights, l2=1e-2, max_iterations=500):
    """One program for all tests: it takes seconds to compile."""
    return compiled(x, y, l2, np.float32(weights), max_iterations)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_probe_is_the_logistic_regression_of_scikit_learn(digits, rng, weighted):
    x, y = digits[0][:600], digits[1][:600]
    weights = rng.uniform(0.2, 2, 600) if weighted else np.ones(600)
    l2 = 1e-2
    probe = fit(x, y, weights, l2)
    assert probe.gradient <= 1e-5
    peer = LogisticRegression(C=1 / (l2 * weights.sum()), tol=1e-8, max_iter=2000)
    peer.fit(x, y, weights)
    np.testing.assert_allclose(probe.kernel, peer.coef_.T, atol=2e-3)
    expected = peer.decision_function(digits[0][600:])
    found = np.asarray(evaluation.probe_scores(probe, digits[0][600:]))
    # Scores are told apart up to a constant alone.
    centred = [scores - scores.mean(1, keepdims=True) for scores in (found, expected)]
    np.testing.assert_allclose(*centred, atol=1e-2)


def test_an_example_without_weight_does_not_change_the_probe(digits):
    x, y = digits[0][:600], digits[1][:600]
    weights = np.arange(600) >= 50
    wrong = np.where(np.arange(600) < 50, (y + 1) % 10, y)
    first = fit(x, y, weights)
    second = fit(x, wrong, weights)
    np.testing.assert_array_equal(first.kernel, second.kernel)


def test_the_limit_of_iterations_is_told_by_the_gradient(digits):
    probe = fit(digits[0][:600], digits[1][:600], np.ones(600), max_iterations=2)
    assert probe.gradient > 1e-3


@functools.partial(jax.jit, static_argnames=("num_classes", "num_neighbours"))
def knn_scores(queries, keys, labels, temperature, **sizes):
    return evaluation.knn_scores(queries, keys, labels, temperature=temperature, **sizes)


@pytest.mark.parametrize("temperature", [0.1, np.inf])
def test_neighbours_vote_as_in_scikit_learn(digits, temperature):
    x, y = unit(digits[0]), digits[1]
    keys, labels, queries = x[:500], y[:500], x[500:800]
    found = knn_scores(queries, keys, labels, temperature, num_classes=10, num_neighbours=7)

    def votes(distances):
        return np.exp((1 - distances) / temperature)

    peer = KNeighborsClassifier(7, metric="cosine", algorithm="brute", weights=votes)
    expected = peer.fit(keys, labels).predict_proba(queries)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_votes_of_the_largest_similarities_do_not_depend_on_who_compiles_them(rng):
    # A quotient of 1e31 has a rounding of 1e24, which must not come between equal numbers.
    keys, labels = np.float32(rng.normal(size=(6, 3))), np.arange(6) % 4
    queries = np.float32([[-1e30, 0, -1], [-18, -1e30, -1e4], [-1e30, -3, -1e4], [1e30, 1e30, 1]])
    given = {"num_classes": 4, "num_neighbours": 3}
    found = knn_scores(queries, keys, labels, 0.1, **given)
    nearest = np.argmax(np.float64(queries) @ np.float64(keys).T, -1)
    np.testing.assert_array_equal(found, np.eye(4)[labels[nearest]])
    fixed = jax.jit(lambda x: evaluation.knn_scores(x, keys, labels, temperature=0.1, **given))
    np.testing.assert_array_equal(fixed(queries), found)


def test_more_neighbours_than_keys_are_all_the_keys(vectors):
    queries, keys = vectors
    labels = np.arange(20) % 2
    found = knn_scores(queries, keys, labels, np.inf, num_classes=2)
    np.testing.assert_allclose(found, 0.5, rtol=1e-6)


def test_nearest_is_a_sorted_search_whatever_the_size_of_a_block(vectors, monkeypatch):
    queries, keys = vectors
    order = np.argsort(-queries @ keys.T, axis=-1)[:, :4]
    for block in (7, 256):
        monkeypatch.setattr(_neighbours, "QUERIES_AT_ONCE", block)
        search = jax.jit(functools.partial(evaluation.nearest, num_neighbours=4))
        values, positions = search(queries, keys)
        np.testing.assert_array_equal(positions, order)
        np.testing.assert_allclose(
            values, np.take_along_axis(queries @ keys.T, order, -1), rtol=1e-5
        )


retrieval_ranks = jax.jit(evaluation.retrieval_ranks)


def test_ranks_count_the_wrong_keys_that_come_before(vectors, rng):
    queries, keys = vectors
    positives = rng.integers(20, size=(30, 3))
    similarities = queries @ keys.T
    expected = []
    for row, right in zip(similarities, positives, strict=True):
        wrong = np.delete(row, np.unique(right))
        expected.append((wrong >= row[right].max()).sum())
    found = retrieval_ranks(queries, keys, positives)
    np.testing.assert_array_equal(found, expected)


def test_a_copy_is_found_first_and_collapsed_embeddings_find_nothing(vectors):
    _, keys = vectors
    positions = np.arange(20)
    assert not np.any(retrieval_ranks(keys, keys, positions))
    collapsed = np.broadcast_to(keys[:1], keys.shape)
    np.testing.assert_array_equal(retrieval_ranks(collapsed, collapsed, positions), 19)


def test_zero_shot_takes_the_class_of_the_mean_description(rng):
    class_embeddings = jax.jit(evaluation.class_embeddings)
    zero_shot_scores = jax.jit(evaluation.zero_shot_scores)
    texts = np.float32(rng.normal(size=(3, 4, 5)))
    classes = class_embeddings(texts)
    mean = unit(texts).mean(1)
    np.testing.assert_allclose(classes, unit(mean), atol=1e-6)
    # The length of a description is not its weight, and that of an image does not matter.
    longer = texts * np.float32([1, 10, 0.1, 2])[None, :, None]
    np.testing.assert_allclose(class_embeddings(longer), classes, atol=1e-6)
    # Beside images an empty one.
    scores = zero_shot_scores(np.append(5 * mean, np.zeros((1, 5), np.float32), 0), classes)
    np.testing.assert_allclose(np.diag(scores), 1, rtol=1e-5)
    assert scores[3].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: evaluation.fit_linear_probe(x, jnp.zeros(2, int), num_classes=2, l2=1.0),
            r"labels must be integers of shape \(3,\); got int32 of shape \(2,\)",
        ),
        (
            lambda x: evaluation.fit_linear_probe(
                x, jnp.zeros(3, int), num_classes=2, l2=1.0, weights=jnp.ones(2)
            ),
            "weights must have the shape",
        ),
        (lambda x: evaluation.nearest(x, x, num_neighbours=4), "from 1 to 3, got 4"),
        (lambda x: evaluation.nearest(x, x[:, :2], num_neighbours=1), "queries and keys"),
        (
            lambda x: evaluation.knn_scores(x, x, jnp.zeros(2, int), num_classes=2),
            r"labels must be integers of shape \(3,\)",
        ),
        (lambda x: evaluation.retrieval_ranks(x, x, jnp.zeros(2, int)), "positives must have"),
        (lambda x: evaluation.class_embeddings(x), r"\[K, P, D\]"),
        (lambda x: evaluation.zero_shot_scores(x, x[:, :2]), "images and classes"),
    ],
)
def test_shapes_that_do_not_fit_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.eye(3))


def test_standardised_columns_have_mean_0_and_deviation_1_in_the_reference(rng):
    standardize = jax.jit(evaluation.standardize)
    reference = np.float32(rng.normal(3, 2, (50, 4)))
    reference[:, 3] = 7
    found = np.asarray(standardize(reference, reference))
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(0), [1, 1, 1, 0], atol=1e-5)
    other = standardize(np.full((1, 4), 7, np.float32), reference)
    mean, deviation = reference[:, :3].mean(0), reference[:, :3].std(0)
    np.testing.assert_allclose(other[0, :3], (7 - mean) / deviation, rtol=1e-5)
    assert other[0, 3] == 0


def test_balanced_weights_of_every_class_add_up_to_1(rng):
    labels = rng.permutation(np.repeat([0, 1, 2], [5, 1, 9]))
    weigh = jax.jit(functools.partial(evaluation.balanced_weights, num_classes=4))
    sums = np.bincount(labels, weigh(labels), minlength=4)
    np.testing.assert_allclose(sums, [1, 1, 1, 0], rtol=1e-6)


def test_rows_have_length_1_at_any_size_and_a_direction_wherever_there_is_one():
    row = np.float32([[3, -4]])
    sizes = np.float32([1e-30, 1e-3, 1.0, 1e4, 1e30])[:, None]

    @jax.jit
    def derivatives(rows):
        first = jax.jacrev(evaluation.unit_rows)
        second = jax.hessian(lambda x: evaluation.unit_rows(x)[0])
        zero = jnp.zeros(2)
        at_zero = evaluation.unit_rows(zero), first(zero), second(zero)
        return evaluation.unit_rows(rows), jax.vmap(first)(rows), at_zero

    units, slopes, (at_zero, slope_at_zero, bend_at_zero) = derivatives(sizes * row)
    np.testing.assert_allclose(units, np.tile(row / 5, (5, 1)), rtol=1e-6)
    slopes = np.asarray(slopes) * sizes[..., None]
    across = np.array([[16, 12], [12, 9]]) / 125
    np.testing.assert_allclose(slopes, np.tile(across, (5, 1, 1)), rtol=1e-5)
    # A row of zeros has none.
    assert not np.any(at_zero)
    assert not np.any(slope_at_zero)
    assert np.isfinite(bend_at_zero).all()
