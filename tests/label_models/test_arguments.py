"""What the label models refuse, each with a line that names the argument."""

import numpy as np
import pytest

from lnl_jax import label_models

RECORDS = np.ones((2, 3, 4)) / 4
ROWS = np.arange(8.0).reshape(4, 2) + 1
HOLES = np.where(ROWS == 3, np.nan, ROWS)
TWO = np.array([0, 1, 0, 1])
MASKS = np.eye(2, 3, dtype=bool)
SHARES = np.array([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]])
BROKEN = SHARES + np.array([[0.0, 0.0], [0.3, 0.0], [0.0, np.nan]])
LABELS = np.array([0, 1, 0])
POINTS = np.arange(12.0).reshape(4, 3)
# What reads probabilities and labels, by each of its functions.
LABELLED = [
    label_models.adjusted_probabilities,
    label_models.confidence_weighted_entropy,
    label_models.confident_issues,
    label_models.confident_joint,
    label_models.confident_thresholds,
    label_models.differing_issues,
    label_models.find_label_issues,
    label_models.lowest_scores,
    label_models.normalized_margin,
    label_models.prune_by_both,
    label_models.prune_by_class,
    label_models.prune_by_noise_rate,
    label_models.self_confidence,
]


@pytest.mark.parametrize("function", LABELLED)
def test_rows_that_are_no_distributions_are_named(function):
    with pytest.raises(ValueError, match=r"2 of 3 rows do not \(1, 2\), the first sums to 1.3"):
        function(BROKEN, LABELS)
    with pytest.raises(ValueError, match=r"1 of 2 rows do not \(1\), the first has NaN"):
        function(BROKEN[::2], LABELS[:2])
    with pytest.raises(ValueError, match=r"1 of 1 rows do not \(0\), the first holds -0.5"):
        function(np.array([[-0.5, 1.5]]), LABELS[:1])
    with pytest.raises(ValueError, match=r"at least two classes, got 1;.*np.stack"):
        function(np.ones((3, 1)), np.zeros(3, int))
    with pytest.raises(
        ValueError, match=r"floating of shape \[N, K\].*got float64 of shape \(0, 2"
    ):
        function(SHARES[:0], LABELS[:0])
    with pytest.raises(ValueError, match=r"floating of shape \[N, K\].*got float64 of shape \(2,"):
        function(SHARES[0], LABELS)
    with pytest.raises(ValueError, match="floating of shape.*got int64"):
        function(np.eye(3, 2, dtype=np.int64), LABELS)
    if function is not label_models.adjusted_probabilities:
        with pytest.raises(
            ValueError, match="labels must be from 0 to 1; 1 of 3 are not.*row 2: 2"
        ):
            function(SHARES, np.array([0, 1, 2]))
        with pytest.raises(ValueError, match="labels must have one entry per example, 3, got 2"):
            function(SHARES, LABELS[:2])
        with pytest.raises(ValueError, match="labels must be integers.*np.unique"):
            function(SHARES, np.array(["a", "b", "a"]))


# Of two items by two annotators.
TRIPLES = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 1]])
EVEN = np.full((2, 2), 0.5)
RNG = np.random.default_rng(0)


def with_row(*row):
    return np.concatenate([TRIPLES, [row]])


REFUSED = {
    "weights of other votes": (
        lambda: label_models.pairwise_wins([[0, 1, 0]], 2, weights=[1, 1]),
        r"weights must be finite and not negative, one for each of 1 votes; got the shape \(2,\)",
    ),
    "weights below 0": (
        lambda: label_models.pairwise_wins([[0, 1, 0]], 2, weights=[-1.0]),
        "weights must be finite and not negative",
    ),
    "votes of another form": (
        lambda: label_models.reviewed_labels([0, 1], [1, 0], [[5, 0, 0], [2, 2, 1]]),
        r"votes must have the shape \[2, 4\], how many said given, guessed, neither, both",
    ),
    "votes that are shares": (
        lambda: label_models.reviewed_labels([0], [1], [[0.5, 0.5, 0, 0]]),
        "votes must be counts, integers from 0 on; got float64",
    ),
    "guesses of others": (
        lambda: label_models.reviewed_labels([0, 1], [1], np.zeros((2, 4), int)),
        "guessed must have one entry per example, 2, got 1",
    ),
    "thresholds of other classes": (
        lambda: label_models.confident_joint(SHARES, LABELS, thresholds=np.ones(3)),
        r"thresholds must be a number for each class, shape \(2,\)",
    ),
    "shifts of other classes": (
        lambda: label_models.adjusted_probabilities(SHARES, np.ones(3)),
        "thresholds must be a finite number for each class",
    ),
    "the joint of other examples": (
        lambda: label_models.prune_by_class(
            SHARES, LABELS, joint=label_models.confident_joint(SHARES[:2], LABELS[:2])
        ),
        "joint must be of these examples: it is of 2 and 2 classes",
    ),
    "more than all wrong ones": (
        lambda: label_models.prune_by_noise_rate(SHARES, LABELS, fraction=1.5),
        "fraction must be a finite number at least 0 and at most 1, got 1.5",
    ),
    "half an example": (
        lambda: label_models.prune_by_class(SHARES, LABELS, min_examples=0.5),
        "min_examples must be an integer from 1 on, got 0.5",
    ),
    "counts that are no square": (
        lambda: label_models.noise_matrix(np.ones((2, 3))),
        r"counts must be numbers of shape \[K, K\].*got float64 of shape \(2, 3\)",
    ),
    "counts below 0": (
        lambda: label_models.inverse_noise_matrix(np.array([[1, -1], [0, 1]])),
        "counts must be finite and at least 0, got -1",
    ),
    "the prior of other labels": (
        lambda: label_models.class_prior(np.eye(2), np.array([0, 2])),
        "labels must be from 0 to 1",
    ),
    "calibration by no labels": (
        lambda: label_models.calibrate_joint(np.eye(2), np.zeros(0, int)),
        "labels must hold at least one label",
    ),
    "calibration of no counts": (
        lambda: label_models.calibrate_joint(np.diag([0, 0, 5]), np.array([0, 1])),
        "counts must not be 0 in every row of a class that labels hold",
    ),
    "bits beyond 1": (
        lambda: label_models.multilabel_scores(SHARES, np.array([[0, 1], [1, 2], [0, 0]])),
        r"targets must be 0 or 1; 1 of 3 rows are not, the first is row 1: \[1 2\]",
    ),
    "bits of other examples": (
        lambda: label_models.find_multilabel_issues(SHARES, LABELS),
        r"targets must be 0 or 1 for each class, integers of shape \(3, 2\)",
    ),
    "NaN of a class": (
        lambda: label_models.find_multilabel_issues(BROKEN, np.ones((3, 2), int)),
        "probabilities must be from 0 to 1; 1 of 3 rows are not, the first is row 2",
    ),
    "no example of several labels": (
        lambda: label_models.multilabel_scores(SHARES[:0], np.zeros((0, 2), int)),
        r"probabilities must have the shape \[N, L\]",
    ),
    "a sentence too few": (
        lambda: label_models.find_token_issues([SHARES], [LABELS, LABELS]),
        "of the same sentences, at least one; got 1 and 2",
    ),
    "a sentence without a token": (
        lambda: label_models.find_token_issues([SHARES, SHARES[:0]], [LABELS, LABELS[:0]]),
        r"with a token; sentence 1 has \(0, 2\) and \(0,\)",
    ),
    "a token of no class": (
        lambda: label_models.find_token_issues([SHARES, SHARES], [LABELS, LABELS + 1]),
        "labels must be from 0 to 1",
    ),
    "predictions of other examples": (
        lambda: label_models.residual_scores(np.ones(3), np.ones(2)),
        r"one shape \[N\], got \(3,\) and \(2,\)",
    ),
    "an unknown target": (
        lambda: label_models.outlying_residual_scores(np.ones(3), np.array([1.0, np.nan, 2.0])),
        "targets must be finite; 1 of 3 are not, the first in row 1: nan",
    ),
    "two targets": (
        lambda: label_models.outlying_residual_scores(np.ones(2), np.ones(2)),
        "targets must be at least 3",
    ),
    "scores that are NaN": (
        lambda: label_models.soft_minimum(np.array([np.nan]), temperature=1.0),
        "scores must be finite numbers.*1 NaN",
    ),
    "no temperature": (
        lambda: label_models.soft_minimum(np.ones(2), temperature=0.0),
        "temperature must be a finite number above 0",
    ),
    "a decay beyond 1": (
        lambda: label_models.moving_minimum(np.ones(2), decay=1.1),
        "decay must be a finite number at least 0 and at most 1",
    ),
    "features of pictures": (
        lambda: label_models.nearest_neighbours(np.ones((4, 2, 2)), 1),
        r"features must be numbers of shape \[N, D\].*flatten images",
    ),
    "features that are NaN": (
        lambda: label_models.nearest_neighbours(POINTS * np.array([1, np.nan, 1]), 1),
        "features must be finite; 4 of 4 rows are not, the first is row 0",
    ),
    "a single feature": (
        lambda: label_models.nearest_neighbours(np.ones(4), 1),
        r"features must be numbers of shape \[N, D\].*of each example is features\[:, None\]",
    ),
    "features of text": (
        lambda: label_models.nearest_neighbours(POINTS.astype(str), 1),
        r"features must be numbers.*turn text into numbers, features\.astype\(np\.float32\)",
    ),
    "features whose squares overflow": (
        lambda: label_models.nearest_neighbours(np.float32(POINTS * 1e30), 1),
        r"features must have squared distances within float32; row \d is too large: divide",
    ),
    "one example": (
        lambda: label_models.nearest_neighbours(POINTS[:1], 1),
        "features must be of at least 2 examples, got 1",
    ),
    "as many neighbours as examples": (
        lambda: label_models.nearest_neighbours(POINTS, 4),
        "num_neighbours must be an integer from 1 to 3, got 4",
    ),
    "distances below 0": (
        lambda: label_models.outlier_scores(np.array([[0.1], [-0.1]])),
        "distances must be finite and at least 0; 1 of 2 rows are not, the first is row 1",
    ),
    "distances to no neighbour": (
        lambda: label_models.outlier_flags(np.ones((3, 0))),
        r"distances must have the shape \[N, k\]",
    ),
    "positions of other neighbours": (
        lambda: label_models.near_duplicates(label_models.Neighbours(np.ones((2, 1)), np.ones(2))),
        "neighbours must have integer positions in the shape of their distances",
    ),
    "a loss that is infinite": (
        lambda: label_models.loss_mixture(np.array([1.0, np.inf])),
        "losses must be finite; 1 of 2 are not, the first in row 1: inf",
    ),
    "no losses": (
        lambda: label_models.beta_loss_mixture(np.zeros(0)),
        r"losses must have the shape \[N\], got \(0,\)",
    ),
    "no step": (
        lambda: label_models.loss_mixture(np.arange(3.0), num_steps=0),
        "num_steps must be an integer from 1 on, got 0",
    ),
    "one hot classes": (
        lambda: label_models.area_under_margin(RECORDS, np.eye(3, 4, dtype=int)),
        "labels must be integers.*argmax",
    ),
    "a class too many": (
        lambda: label_models.area_under_margin(RECORDS, np.array([4, 0, 1])),
        "labels must be from 0 to 3",
    ),
    "margins of one class": (
        lambda: label_models.area_under_margin(RECORDS[..., :1], np.zeros(3, int)),
        "at least two classes",
    ),
    "hits of integers": (
        lambda: label_models.forgetting(np.ones((2, 3), int)),
        r"correct must be boolean of shape \[T, N\], got int64",
    ),
    "features with holes": (
        lambda: label_models.knn_label_scores(HOLES, TWO),
        "features must be finite; 1 of 4 rows are not, the first is row 1",
    ),
    "as many other neighbours as examples": (
        lambda: label_models.knn_label_scores(ROWS, TWO, num_neighbours=4),
        "num_neighbours must be an integer from 1 to 3, got 4",
    ),
    "a label outside": (
        lambda: label_models.knn_label_scores(ROWS, TWO - 1, num_neighbours=2),
        "labels must be at least 0; 2 of 4 are not.*-1 commonly marks rows without a label",
    ),
    "a label beyond the classes": (
        lambda: label_models.consensus_moments(ROWS, TWO + 1, num_classes=2),
        "labels must be from 0 to 1.*numbered from 1",
    ),
    "votes of one class": (
        lambda: label_models.knn_label_scores(ROWS, 0 * TWO, num_neighbours=2),
        "labels must be of at least two classes, all are 0",
    ),
    "consensus of two": (
        lambda: label_models.consensus_moments(ROWS[:2], TWO[:2]),
        "features must hold at least three rows",
    ),
    "moments that are none": (
        lambda: label_models.fit_transition((np.ones(2), np.ones((2, 2)), np.ones((2, 2)))),
        "moments must be those of consensus_moments",
    ),
    "ranks of other classes": (
        lambda: label_models.flag_by_rank(np.ones(4), TWO, np.eye(3), np.ones(2)),
        "transition and prior must have the shapes",
    ),
    "ranks of no numbers": (
        lambda: label_models.flag_by_rank(HOLES[:, 0], TWO, np.eye(2), np.ones(2)),
        "scores must be finite; 1 are not",
    ),
    "as many Shapley neighbours as examples": (
        lambda: label_models.knn_shapley_of_others(ROWS, TWO, num_neighbours=4),
        "num_neighbours must be an integer from 1 to 3, got 4",
    ),
    "more Shapley neighbours than examples": (
        lambda: label_models.knn_shapley(ROWS, TWO, ROWS, TWO, num_neighbours=5),
        "num_neighbours must be an integer from 1 to 4, got 5",
    ),
    "tests with holes": (
        lambda: label_models.knn_shapley(ROWS, TWO, HOLES, TWO),
        "test_features must be finite",
    ),
    "tests of other columns": (
        lambda: label_models.knn_shapley(ROWS, TWO, ROWS[:, :1], TWO),
        "test_features must have the 2 columns of features, got 1",
    ),
    "a bag without a mask": (
        lambda: label_models.out_of_bag_values(MASKS, MASKS.astype(int)),
        "in_subset boolean; got .* int64",
    ),
    "scores with holes": (
        lambda: label_models.out_of_bag_values(np.full((2, 3), np.nan), MASKS),
        "scores must be numbers out of the bag; 3 examples have NaN there",
    ),
    "subsets of other trainings": (
        lambda: label_models.influence_estimates(np.ones((3, 4)), MASKS),
        "test_correct must have a row for each of the 2 trainings, got 3",
    ),
    "hits of other examples": (
        lambda: label_models.memorization_estimates(np.ones((2, 4)), MASKS),
        "correct and in_subset must have one shape",
    ),
    "counts of subsets": (
        lambda: label_models.memorization_estimates(MASKS, MASKS.astype(int)),
        "in_subset must be boolean",
    ),
    "frequencies that are counts": (
        lambda: label_models.long_tail_tau(np.array([3.0, 1.0]), 4, 1),
        "frequencies must be numbers from 0 to 1",
    ),
    "a prior that rules out what was seen": (
        lambda: label_models.long_tail_tau(np.array([0.0, 1.0]), 4, 1),
        "frequencies give 1 of 4 no chance",
    ),
    "weights of other frequencies": (
        lambda: label_models.long_tail_tau(np.array([0.5]), 4, 1, weights=np.ones(2)),
        "weights must be finite, not negative and of the shape",
    ),
    "ridge without a penalty on the same column twice": (
        lambda: label_models.ridge_leave_one_out(np.ones((4, 2)), TWO, penalty=0.0),
        "features depend on each other.*penalty above 0",
    ),
    "ridge with a column of one row": (
        lambda: label_models.ridge_leave_one_out(np.eye(2), TWO[:2], penalty=0.0),
        "features leave no fit without row 0.*penalty above 0",
    ),
    "targets with holes": (
        lambda: label_models.ridge_removal_effects(ROWS, HOLES[:, 0], ROWS, penalty=0.1),
        "targets must be finite; 1 are not",
    ),
    "targets of other rows": (
        lambda: label_models.ridge_leave_one_out(ROWS, TWO[:3], penalty=0.1),
        r"targets must have the shape \[N\] or \[N, M\] with N = 4",
    ),
    "queries of other columns": (
        lambda: label_models.ridge_removal_effects(ROWS, TWO, ROWS[:, :1], penalty=0.1),
        "queries must have the 2 columns",
    ),
    "a head of one class": (
        lambda: label_models.softmax_removal_effects(ROWS, 0 * TWO, ROWS, TWO, penalty=0.1),
        "labels must be of at least two classes",
    ),
    "a head without a penalty": (
        lambda: label_models.softmax_removal_effects(ROWS, TWO, ROWS, TWO, penalty=0.0),
        "penalty must be a finite number above 0",
    ),
    "more positives than examples": (
        lambda: label_models.bag_marginals([0, 0, 1, 1], [1, 3]),
        "counts must be from 0 to the size of the bag; 1 of 2 bags do not add up, the first is "
        "bag 1: 3 positives, 2 examples",
    ),
    "a bag without examples": (
        lambda: label_models.bag_marginals([0, 0, 2, 2], [1, 1, 1]),
        "bags must have an example for every count; 1 of 3",
    ),
    "a bag without a count": (
        lambda: label_models.bag_marginals([0, 0, 1, 2], [1, 1]),
        "bags must be from 0 to 1",
    ),
    "whole bags with more positives than examples": (
        lambda: label_models.bag_count_marginals([0, 0, 1, 1], [1, 3]),
        "counts must be from 0 to the size of the bag; 1 of 2 bags do not add up",
    ),
    "shares for counts": (
        lambda: label_models.bag_marginals([0, 0], [0.3]),
        "counts must be whole numbers.*multiply by the sizes",
    ),
    "an edge to nowhere": (
        lambda: label_models.bag_marginals([0, 0], [1], (np.array([[0, 2]]), np.ones(1))),
        "edges must join two different rows from 0 to 1",
    ),
    "an edge without a similarity": (
        lambda: label_models.bag_marginals([0, 0], [1], (np.array([[0, 1]]), np.ones(2))),
        "edges must be pairs of rows",
    ),
    "messages that never change": (
        lambda: label_models.bag_marginals([0, 0], [1], damping=1.0),
        "damping must be a finite number at least 0 and below 1",
    ),
    "annotations as a table": (
        lambda: label_models.majority_vote(np.zeros((5, 4), int)),
        r"annotations must be integers of shape \[M, 3\].*item, annotator, label; got int64 of",
    ),
    "annotators by name": (
        lambda: label_models.dawid_skene(np.array([["a", "b", "1"]])),
        "annotations must be integers.*np.unique",
    ),
    "no annotations": (
        lambda: label_models.glad(np.zeros((0, 3), int)),
        "annotations must hold at least one label",
    ),
    "a negative item": (
        lambda: label_models.wawa(with_row(-1, 0, 0)),
        r"annotations\[:, 0\] must be .* 0; 1 of 5 are not, .*row 4.*keep = annotations\[:, 0\] !=",
    ),
    "a column for each annotator": (
        lambda: label_models.majority_vote(np.zeros((5, 4), int)),
        r"annotations must be .*got int64 of shape \(5, 4\)\. Of a table of .*np\.nonzero\(table",
    ),
    "an item without a label": (
        lambda: label_models.wawa(with_row(4, 0, 0)),
        "annotations have no label of 2 of 5 items: 2, 3. Number those with labels.*np.unique",
    ),
    "an annotator without a label": (
        lambda: label_models.zero_based_skill(with_row(0, 40, 0)),
        "no label of 38 of 41 annotators: 2, 3, 4, 5, 6, 7, 8, 9 and 30 more",
    ),
    "one annotator": (
        lambda: label_models.dawid_skene([[0, 0, 1], [1, 0, 0]]),
        "annotations must be of at least two annotators, got one",
    ),
    "one class of annotators": (
        lambda: label_models.dawid_skene(TRIPLES * [1, 1, 0]),
        "annotations must be of at least two classes, got one.*give num_classes",
    ),
    "no class by number": (
        lambda: label_models.dawid_skene(TRIPLES * [1, 1, 0], num_classes=0),
        "num_classes must be an integer from 1 on, got 0",
    ),
    "a label outside the classes": (
        lambda: label_models.normalized_votes(with_row(0, 2, 2), num_classes=2),
        r"annotations\[:, 2\] must be from 0 to 1; 1 of 5 are not, the first in row 4: 2",
    ),
    "a label given twice": (
        lambda: label_models.majority_vote(with_row(1, 0, 1)),
        "one label of an annotator for an item; 1 are there again, the first of item 1 by "
        "annotator 0 in rows 2 and 4",
    ),
    "other classes than were read": (
        lambda: label_models.wawa(label_models.read_annotations(TRIPLES), num_classes=3),
        "num_classes must be that of the annotations, 2",
    ),
    "no iterations": (
        lambda: label_models.dawid_skene(TRIPLES, max_iterations=0),
        "max_iterations must be an integer from 1 on",
    ),
    "a negative tolerance": (
        lambda: label_models.glad(TRIPLES, tolerance=-1.0),
        "tolerance must be a finite number at least 0",
    ),
    "starts of other annotators": (
        lambda: label_models.mace(TRIPLES, label_models.mace_starts(3, 2, RNG)),
        r"starts.competence must have the shape \[R, 2\], got \(10, 3\)",
    ),
    "starts of other classes": (
        lambda: label_models.mace(TRIPLES, label_models.mace_starts(2, 3, RNG)),
        r"starts.strategy must have the shape \(10, 2, 2\), got \(10, 2, 3\)",
    ),
    "starts that are no probabilities": (
        lambda: label_models.mace(
            TRIPLES, label_models.MaceStarts(np.ones((1, 2)), np.full((1, 2, 2), 0.5))
        ),
        "starts must be probabilities",
    ),
    "a seed for a generator": (
        lambda: label_models.mace_starts(3, 2, 0),
        "rng must be a numpy.random.Generator",
    ),
    "logits for probabilities": (
        lambda: label_models.crowdlab(TRIPLES, np.array([[0.5, 0.5], [2.0, -1.0]])),
        r"probabilities must be at least 0 and sum to 1.*1 of 2 rows do not \(1\)",
    ),
    "votes for distributions": (
        lambda: label_models.average_distribution([EVEN, 3 * EVEN]),
        r"distributions\[1\] must be at least 0 and sum to 1",
    ),
    "probabilities of other items": (
        lambda: label_models.crowdlab(TRIPLES, np.full((3, 2), 0.5)),
        "probabilities must have a row for each of the 2 items, got 3",
    ),
    "one label of each item": (
        lambda: label_models.crowdlab([[0, 0, 1], [1, 1, 0]], EVEN),
        "annotations must hold several labels of some items, got one of each",
    ),
    "a pool of other classes": (
        lambda: label_models.active_lab(TRIPLES, EVEN, np.full((1, 4), 0.25)),
        "pool_probabilities must be of 2 classes",
    ),
    "no temperature of a classifier": (
        lambda: label_models.active_lab(TRIPLES, EVEN, temperature=0.0),
        "temperature must be a finite number above 0",
    ),
    "distributions of other shapes": (
        lambda: label_models.average_distribution([EVEN, np.full((3, 2), 0.5)]),
        r"distributions must be at least one, all of one shape \[N, K\]; got \(2, 2\), \(3, 2\)",
    ),
    "no distributions": (
        lambda: label_models.average_distribution([]),
        "distributions must be at least one.*got none",
    ),
    "a candidate against itself": (
        lambda: label_models.pairwise_wins([[0, 1, 1]], 2),
        "votes must be between two candidates; 1 are of one with itself, the first in row 0",
    ),
    "wins that are not square": (
        lambda: label_models.bradley_terry(np.zeros((2, 3))),
        r"wins must have the shape \[..., C, C\]",
    ),
    "wins over oneself": (
        lambda: label_models.bradley_terry(np.ones((2, 2))),
        "wins must be counts from 0 on, and 0 on the diagonal",
    ),
    "a candidate that never lost": (
        lambda: label_models.bradley_terry(np.array([[[0, 2], [0, 0]]]), pseudo_votes=0.0),
        r"wins\[0\] must lead from each candidate to each other.*give pseudo_votes",
    ),
    "one candidate": (
        lambda: label_models.accept_or_review(np.ones((2, 1)), 0.6),
        "at least two candidates",
    ),
    "a threshold that accepts what loses": (
        lambda: label_models.accept_or_review(EVEN, 0.4),
        "threshold must be a finite number at least 0.5",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_argument_that_does_not_fit_is_named(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()


# What the docstrings cite, by title: who wrote it.
AUTHORS = {
    "Clusterability as an Alternative to Anchor Points When Learning with Noisy Labels": (
        "Zhu et al."
    ),
    "Data-OOB: Out-of-bag Estimate as a Simple and Efficient Data Value": "Kwon and Zou",
    "Detecting Corrupted Labels Without Training a Model to Predict": "Zhu et al.",
    "Does Learning Require Memorization? A Short Tale about a Long Tail": "Feldman",
    "Efficient Task-Specific Data Valuation for Nearest Neighbor Algorithms": "Jia et al.",
    "Learning from Label Proportions: Bootstrapping Supervised Learners via Belief Propagation": (
        "Havaldar et al."
    ),
    "Understanding Black-box Predictions via Influence Functions": "Koh and Liang",
    "What Neural Networks Memorize and Why: Discovering the Long Tail via Influence Estimation": (
        "Feldman and Zhang"
    ),
    "Back to the Basics: Revisiting Out-of-Distribution Detection Baselines": "Kuan and Mueller",
    "Confident Learning: Estimating Uncertainty in Dataset Labels": "Northcutt, Jiang and Chuang",
    "Detecting Errors in Numerical Data via any Regression Model": (
        "Zhou, Mueller, Kumar, Wang and Lei"
    ),
    "Detecting Label Errors in Token Classification Data": "Wang and Mueller",
    "DivideMix: Learning with Noisy Labels as Semi-supervised Learning": "Li, Socher and Hoi",
    "Identifying Incorrect Annotations in Multi-Label Classification Data": (
        "Thyagarajan, Snorrason, Northcutt and Mueller"
    ),
    "Learning with Confident Examples: Rank Pruning for Robust Classification with Noisy Labels": (
        "Northcutt, Wu and Chuang"
    ),
    "Model-agnostic label quality scoring to detect real-world label errors": "Kuan and Mueller",
    "Pervasive Label Errors in Test Sets Destabilize Machine Learning Benchmarks": (
        "Northcutt, Athalye and Mueller"
    ),
    "Unsupervised Label Noise Modeling and Loss Correction": "Arazo et al.",
    "ActiveLab: Active Learning with Re-Labeling by Multiple Annotators": "Goh & Mueller",
    "Aggregating Soft Labels from Crowd Annotations Improves Uncertainty Estimation Under "
    "Distribution Shift": "Wright & Augenstein",
    "An Empirical Study of Example Forgetting during Deep Neural Network Learning": "Toneva et al.",
    "CROWDLAB: Supervised learning to infer consensus labels and quality scores for data with "
    "multiple annotators": "Goh et al.",
    "Identifying Mislabeled Data using the Area Under the Margin Ranking": "Pleiss et al.",
    "Label Critic: Design Data Before Models": "Bassi et al.",
    "Learning Whom to Trust with MACE": "Hovy et al.",
    "Learning from Crowds with Crowd-Kit": "Ustalov et al.",
    "MM Algorithms for Generalized Bradley-Terry Models": "Hunter",
    "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm": "Dawid & Skene",
    "Rank Analysis of Incomplete Block Designs": "Bradley & Terry",
    "Whose Vote Should Count More: Optimal Integration of Labels from Labelers of Unknown "
    "Expertise": "Whitehill et al.",
}


def test_papers_are_cited_with_their_authors():
    found = {}
    for name in label_models.__all__:
        text = " ".join((getattr(label_models, name).__doc__ or "").split())
        for title in AUTHORS:
            before, cited, _ = text.partition(f', "{title}"')
            found |= {title: before} if cited else {}
    assert found.keys() == AUTHORS.keys()
    assert not {title for title, before in found.items() if not before.endswith(AUTHORS[title])}
