"""Neighbours, values, influence and proportions: printed numbers of others, limits, real flips.

Votes of neighbours and their consensus are those of the authors' code for SimiFeat and HOC, the
values of others those of a sum over all subsets, influence that of refitting.
"""

import itertools

import numpy as np
import pytest

from lnl_jax import comparison, data, label_models, noise
from tests.label_models.cases import PRIOR, TRANSITION, moments_of, waves

DIGITS = {"rtol": 0, "atol": 5e-13}
AROUND = np.repeat([[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0.5]], 6, 0) + waves(18, 4, 0.3, 0.6)
GIVEN = np.repeat(np.arange(3), 6)
GIVEN[[1, 8, 16, 3]] = 1, 2, 0, 2
CURVED = waves(12, 5, 0.3) + 0.3 * waves(12, 5, 2.1) ** 2
CURVED[11] *= -2.5


def test_the_votes_of_neighbours_are_the_authors():
    found = label_models.knn_label_scores(AROUND, GIVEN, num_neighbours=4)
    np.testing.assert_allclose(found.votes[1], [0.962874069923, 0.269950968641, 0], **DIGITS)
    wanted = [0.09099713858778, 1.309514897057, 1.066009158414, 1.343110049002, 1.268982702187]
    np.testing.assert_allclose(found.scores[[0, 1, 3, 8, 16]], wanted, **DIGITS)
    np.testing.assert_array_equal(np.flatnonzero(found.flags), [1, 3, 8, 16])


def test_the_consensus_of_neighbours_is_the_authors():
    found = label_models.consensus_moments(AROUND, GIVEN)
    np.testing.assert_allclose(18 * found.first, [5, 6, 7], rtol=1e-14)
    np.testing.assert_allclose(18 * found.second, [[3, 1, 1], [1, 4, 1], [2, 1, 4]], rtol=1e-14)
    np.testing.assert_allclose(found.third.sum(-1), found.second, rtol=1e-14)


def test_expected_consensus_gives_back_its_noise(float64):
    moments = moments_of(TRANSITION, PRIOR)
    np.testing.assert_allclose(moments.first, [0.44, 0.295, 0.265], **DIGITS)
    np.testing.assert_allclose(moments.second[0], [0.3235, 0.0815, 0.035], **DIGITS)
    np.testing.assert_allclose(moments.third[0, 0], [0.256325, 0.050125, 0.01705], **DIGITS)
    found = label_models.fit_transition(moments)
    np.testing.assert_allclose(found.matrix, TRANSITION, atol=2e-3)
    np.testing.assert_allclose(found.prior, PRIOR, atol=2e-3)


def test_shapley_values_are_those_of_all_subsets():
    features = waves(8, 2, 0.3) + 0.2 * waves(8, 2, 1.9) ** 2
    given = (features, np.array([0, 1, 0, 1, 1, 0, 1, 0]), waves(3, 2, 2.2), np.array([0, 1, 1]))
    found = label_models.knn_shapley(*given, num_neighbours=3)
    wanted = [0.038888888889, 0.038888888889, 0.016666666667, 0.183333333333]
    wanted += [0.030952380952, 0.027777777778, 0.19126984127, 0.027777777778]
    np.testing.assert_allclose(found, wanted, **DIGITS)
    # They share out what all examples together are worth.
    nearest = label_models.euclidean_distance(given[2], features).argsort(1)[:, :3]
    whole = (given[1][nearest] == given[3][:, None]).mean()
    np.testing.assert_allclose(found.sum(), whole, rtol=1e-14)


def test_shapley_values_of_the_others_are_the_exact_ones():
    labels = np.array([0, 1, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1])
    found = label_models.knn_shapley_of_others(
        CURVED, labels, num_neighbours=3, metric=label_models.cosine_distance
    )
    np.testing.assert_allclose(found[:3], [0.05989959115, 0.045812289562, 0.006027537278], **DIGITS)


def test_of_equally_near_examples_the_first_counts_as_nearer():
    features = np.repeat([[0.0], [1.0], [2.0]], 40, 0)
    labels = np.arange(120) % 2
    found = label_models.knn_shapley(features, labels, [[0.0]], [0], num_neighbours=1)
    wanted, value = np.zeros(120), 0.0
    for j in range(120, 0, -1):
        behind = 1 - labels[j] if j < 120 else 0
        value += (1 - labels[j - 1] - behind) / j
        wanted[j - 1] = value
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-15)
    alone = label_models.knn_shapley(features[:1], labels[:1], [[0.0]], [0], num_neighbours=1)
    np.testing.assert_array_equal(alone, 1)


def test_tests_in_parts_are_tests_at_once(monkeypatch):
    labels, tests = np.arange(12) % 3, (waves(5, 5, 0.8), np.arange(5) % 3)
    whole = label_models.knn_shapley(CURVED, labels, *tests, num_neighbours=2)
    others = label_models.knn_shapley_of_others(CURVED, labels, num_neighbours=2)
    monkeypatch.setattr("lnl_jax.label_models._valuation.ENTRIES_AT_ONCE", 25)
    parts = label_models.knn_shapley(CURVED, labels, *tests, num_neighbours=2)
    np.testing.assert_allclose(parts, whole, rtol=1e-13, atol=1e-16)
    parts = label_models.knn_shapley_of_others(CURVED, labels, num_neighbours=2)
    np.testing.assert_allclose(parts, others, rtol=1e-13, atol=1e-16)


def test_ridge_without_an_example_is_that_of_refitting():
    features, targets = waves(6, 3, 0.5), waves(6, 1, 1.3)[:, 0]
    found = label_models.ridge_leave_one_out(features, targets, penalty=0.1)
    wanted = [0.024844154471, 0.00845636494, -0.027634373251]
    wanted += [-0.001123017345, 0.028733329541, -0.005893004692]
    np.testing.assert_allclose(found, wanted, **DIGITS)
    found = label_models.ridge_removal_effects(features, targets, waves(1, 3, 2.7), penalty=0.1)
    wanted = [0.003893238569, -0.002403456701, 0.002306541759]
    wanted += [-0.00034333676, 0.000134584451, 0.00180876365]
    np.testing.assert_allclose(found[:, 0], wanted, **DIGITS)


def test_influence_on_a_softmax_head():
    features, labels = waves(12, 3, 0.4, 1.5), np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 0])
    found = label_models.softmax_removal_effects(
        features, labels, waves(2, 3, 1.9, 1.5), np.array([1, 2]), penalty=0.05
    )
    wanted = [0.027745790823, 0.231733531389, 0.120405996843]
    wanted += [0.06178655679, 0.119874828297, -0.032380875603]
    # Their minimum was known to nine digits.
    np.testing.assert_allclose(found.mean(1)[:6], wanted, rtol=0, atol=1e-8)


def test_a_head_of_separable_examples_is_found():
    features = np.array([[30.0, 1.0], [20.0, 1.0], [-25.0, 1.0], [-0.5, 1.0]])
    labels = np.array([0, 0, 1, 1])
    found = label_models.softmax_removal_effects(features, labels, features, labels, penalty=1e-6)
    # The one at the boundary is what the head rests on.
    assert np.isfinite(found).all()
    assert found[:, 3].argmax() == 3


PAIRS = label_models.SimilarityEdges(np.array([[0, 3], [1, 4], [2, 5]]), np.array([0.8, 0.5, 0.3]))


@pytest.mark.parametrize(
    ("weights", "first"),
    [
        ((0.5, 0.5), [0.436365, 0.429957, 0.425555, 0.563635, 0.570043, 0.574445]),
        ((1.0, 1.0), [0.430907, 0.415477, 0.404538]),
        ((1.0, 0.0), [0.405864] * 3),
    ],
)
def test_beliefs_of_bags_of_three(weights, first):
    found = label_models.bag_marginals(
        [0, 0, 0, 1, 1, 1], [1, 2], PAIRS, bag_weight=weights[0], similarity_weight=weights[1]
    )
    np.testing.assert_allclose(found[: len(first)], first, rtol=0, atol=6e-7)


def test_beliefs_on_a_tree_are_exact():
    found = label_models.bag_marginals(
        [0, 0, 1, 1],
        [1, 2],
        label_models.SimilarityEdges(np.array([[1, 2]]), np.array([0.7])),
        bag_weight=1.0,
        similarity_weight=2.0,
    )
    wanted = [0.42184672, 0.66912007, 0.77982972, 0.77982972]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=6e-9)


def test_beliefs_without_weights_are_even_and_with_large_ones_finite():
    bags, counts = np.repeat(np.arange(5), 8), [0, 2, 4, 7, 8]
    even = label_models.bag_marginals(bags, counts, bag_weight=0.0, similarity_weight=0.0)
    np.testing.assert_array_equal(even, 0.5)
    edges = label_models.similarity_edges(waves(40, 3, 0.2))
    found = label_models.bag_marginals(bags, counts, edges, bag_weight=1e4, similarity_weight=1e4)
    assert np.isfinite(found).all()
    # In a bag of one kind one label more or less costs the weight.
    plain = label_models.bag_marginals(bags, counts)
    np.testing.assert_allclose(plain[bags == 0], np.exp(-10), rtol=1e-3)
    np.testing.assert_allclose(1 - plain[bags == 4], np.exp(-10), rtol=1e-3)


def test_whole_bags_are_exact_without_edges_and_kept_where_pairs_are_not():
    found = label_models.bag_count_marginals([0, 0, 0, 1, 1, 1], [1, 2], bag_weight=1.0)
    np.testing.assert_allclose(found[:3], 0.390677, rtol=0, atol=6e-7)
    bags = np.arange(60) // 10
    labels = (waves(60, 1, 0.4)[:, 0] > 0.2).astype(int)
    features = np.column_stack([2.0 * labels - 1, waves(60, 2, 0.9, 0.3)])
    edges = label_models.similarity_edges(features)
    # The last two of the first bag are a bag of another size.
    bags[8:10] = 6
    counts = np.bincount(bags, labels).astype(int)
    found = label_models.bag_count_marginals(bags, counts, edges, similarity_weight=1.0)
    np.testing.assert_allclose(np.bincount(bags, found), counts, atol=0.1)
    np.testing.assert_array_equal(found > 0.5, labels == 1)
    assert np.isfinite(label_models.bag_count_marginals(bags, counts, edges, bag_weight=1e4)).all()


def test_edges_that_are_given_twice_or_inside_a_bag_are_one_pair():
    bags, counts = [0, 0], [1]
    double = label_models.SimilarityEdges(np.array([[0, 1], [1, 0]]), np.array([0.2, 0.3]))
    once = label_models.SimilarityEdges(np.array([[0, 1]]), np.array([0.5]))
    found = label_models.bag_marginals(bags, counts, double, bag_weight=1.0)
    np.testing.assert_allclose(found, 0.5, atol=1e-12)
    np.testing.assert_array_equal(
        found, label_models.bag_marginals(bags, counts, once, bag_weight=1.0)
    )


def test_a_nearest_neighbour_memorises_what_is_alone_in_its_label_and_a_constant_nothing():
    labels = np.array([0, 0, 0, 1])
    features = np.array([[0.0], [0.1], [0.2], [0.3]])
    masks = np.array(list(itertools.product((False, True), repeat=4))[1:])
    correct = []
    for mask in masks:
        near = label_models.euclidean_distance(features, features[mask]).argmin(1)
        correct.append(labels[mask][near] == labels)
    # Only where something else is left does the rest differ from nothing.
    kept = masks[:, :3].any(1)
    found = label_models.memorization_estimates(np.array(correct)[kept], masks[kept])
    assert found[3] == 1
    constant = np.broadcast_to(labels == 0, masks.shape)
    np.testing.assert_array_equal(label_models.memorization_estimates(constant, masks), 0)


def test_the_cost_of_an_error_under_a_uniform_prior_and_in_a_long_tail():
    frequencies = (np.arange(200_000) + 0.5) / 200_000
    found = label_models.long_tail_tau(frequencies, 10, 1)
    np.testing.assert_allclose(found, (1 + 1) / (10 + 2), rtol=1e-9)
    frequencies = 1 / np.arange(1.0, 1001)
    found = label_models.long_tail_tau(frequencies / frequencies.sum(), 1000, 1)
    np.testing.assert_allclose(found, 5.588094e-4, rtol=1e-7)
    # Not even the logarithm of a power is lost.
    assert label_models.long_tail_tau(np.array([0.5]), 10**6, 10) == 0.5


def test_what_is_never_out_of_a_bag_or_always_in_a_subset_has_no_value():
    in_subset = np.array([[True, False, False], [True, True, False]])
    scores = np.array([[np.nan, 1.0, 0.0], [np.nan, np.nan, 1.0]])
    np.testing.assert_array_equal(
        label_models.out_of_bag_values(scores, in_subset), [np.nan, 1.0, 0.5]
    )
    found = label_models.influence_estimates(np.array([[1.0], [0.0]]), in_subset)
    np.testing.assert_array_equal(found, [[np.nan], [-1.0], [np.nan]])
    assert np.isnan(label_models.memorization_estimates(in_subset, in_subset)).tolist() == [
        True,
        False,
        True,
    ]


# --- real digits with flipped labels ---


def flipped_digits(seed):
    """Raw pixels, and labels of which 30% are another class."""
    digits, rng = data.digits(), np.random.default_rng(seed)
    labels = noise.corrupt(digits["label"], noise.symmetric(10, 0.3), rng).labels
    return digits["x"], labels, labels != digits["label"]


def area(suspicion, false):
    """Of suspicion over the mislabelled: a share of pairs, ties counted half."""
    pairs = suspicion[false][:, None] - suspicion[~false]
    return ((pairs > 0).sum() + (pairs == 0).sum() / 2) / pairs.size


def neighbours_of(x, labels):
    yield "votes", label_models.knn_label_scores(x, labels).scores
    yield "shapley", -label_models.knn_shapley_of_others(x, labels)


def test_neighbours_find_flipped_digits():
    """Of one seed, and a third of the digits, where neighbours are farther."""
    x, labels, false = flipped_digits(0)
    for name, suspicion in neighbours_of(x[::3], labels[::3]):
        assert area(suspicion, false[::3]) > 0.97, name


@pytest.mark.slow
def test_neighbours_and_self_confidence_find_flipped_digits_as_well_as_was_measured():
    areas = {"votes": [], "shapley": [], "self-confidence": []}
    for seed in range(3):
        x, labels, false = flipped_digits(seed)
        for name, suspicion in neighbours_of(x, labels):
            areas[name].append(area(suspicion, false))
        shares = comparison.cross_validated_probabilities(x, labels)
        areas["self-confidence"].append(area(-shares[np.arange(len(x)), labels], false))
    means = {name: np.mean(values) for name, values in areas.items()}
    assert means["shapley"] >= 0.99, means
    assert means["votes"] >= 0.99, means
    assert means["self-confidence"] >= 0.98, means


def test_the_noise_of_digits_is_estimated_from_their_neighbours():
    x, labels, _ = flipped_digits(0)
    found = label_models.fit_transition(label_models.consensus_moments(x, labels))
    wanted = noise.symmetric(10, 0.3)
    assert abs(np.diag(found.matrix).mean() - 0.7) < 0.03
    # There are 180 digits of a class, 54 of them mislabelled.
    assert np.abs(found.matrix - wanted).mean() < 0.02
