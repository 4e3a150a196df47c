"""Every function of the label models once, with its definition in float64 NumPy.

A definition is written from the formula, an example or a class at a time, and takes what the
function takes. `test_contract.py` compares them all; what it cannot hold is in `WITHOUT_CASE`, with
the reason.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping

import numpy as np
from scipy import optimize, stats

from lnl_jax import label_models
from tests.label_models import annotators


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A function, its definition, and what both are called with.

    `tolerance`: relative and absolute; larger where the function computes in float32.
    """

    function: Callable
    definition: Callable
    arguments: tuple
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
    tolerance: float = 1e-9


def waves(rows, columns, phase, scale=1.0):
    """Numbers without a pattern that repeats."""
    return scale * np.sin(1.7 * np.arange(rows)[:, None] + 0.9 * np.arange(columns) + phase)


def softmax(scores):
    shares = np.exp(scores)
    return shares / shares.sum(-1, keepdims=True)


# --- records of a training ---


def area_under_margin(logits, labels):
    return [
        np.mean([row[i][y] - max(np.delete(row[i], y)) for row in logits])
        for i, y in enumerate(labels)
    ]


def forgetting(correct):
    counts = []
    for column in correct.T:
        lost = sum(before and not after for before, after in zip(column, column[1:], strict=False))
        counts.append(lost if any(column) else len(column))
    return counts


# --- nearest neighbours ---


def length(q, x):
    return np.sqrt(sum((q - x) ** 2))


def angle(q, x):
    return 1 - q @ x / np.sqrt((q @ q) * (x @ x))


def of_pairs(distance):
    return lambda queries, keys: [[distance(q, x) for x in keys] for q in queries]


def nearest(features, count, *, metric):
    """All pairs, sorted."""
    distance = {label_models.euclidean_distance: length, label_models.cosine_distance: angle}
    found = []
    for i, row in enumerate(features):
        others = [(distance[metric](row, x), j) for j, x in enumerate(features) if j != i]
        found.append(sorted(others)[:count])
    distances, positions = (np.array([[pair[n] for pair in row] for row in found]) for n in (0, 1))
    return distances, positions.astype(int)


# --- votes and consensus of neighbours ---


def nearest_by_angle(features, i, count):
    others = sorted((angle(features[i], x), j) for j, x in enumerate(features) if j != i)
    return others[:count]


def knn_label_scores(features, labels, *, num_neighbours, min_similarity):
    votes, scores = [], []
    for i, label in enumerate(labels):
        others = nearest_by_angle(features, i, num_neighbours)
        own = 2 * others[0][0] - others[1][0]
        q = np.zeros(max(labels) + 1)
        for distance, j in [(own, i), *others]:
            q[labels[j]] += 1 - min_similarity - distance
        q /= np.sqrt(q @ q)
        votes.append(q)
        scores.append(-np.log(max(q[label], 0) + 1e-8))
    return votes, scores, np.argmax(votes, 1) != labels


def flag_by_rank(scores, labels, transition, prior):
    flags = []
    for score, label in zip(scores, labels, strict=True):
        of_class = scores[labels == label]
        right = transition[label, label] * prior[label] / np.mean(labels == label)
        if not 0 <= right <= 1:
            right = min(max(right, 0.05), 0.95)
        flags.append(score >= np.percentile(of_class, 100 - 100 * (1 - right)))
    return flags


def consensus_moments(features, labels):
    size = max(labels) + 1
    first, second, third = np.zeros(size), np.zeros((size, size)), np.zeros((size, size, size))
    for i, label in enumerate(labels):
        near, next_near = (labels[j] for _, j in nearest_by_angle(features, i, 2))
        first[label] += 1 / len(labels)
        second[label, near] += 1 / len(labels)
        third[label, near, next_near] += 1 / len(labels)
    return first, second, third


def moments_of(matrix, prior):
    """What consensus there is in expectation."""
    return label_models.ConsensusMoments(
        prior @ matrix,
        sum(p * np.multiply.outer(t, t) for p, t in zip(prior, matrix, strict=True)),
        sum(
            p * np.multiply.outer(np.multiply.outer(t, t), t)
            for p, t in zip(prior, matrix, strict=True)
        ),
    )


# --- values of examples ---


def worth(members, distances, matches, k):
    return sum(matches[j] for j in sorted(members, key=lambda j: distances[j])[:k]) / k


def shapley(players, worth):
    """Over all subsets of the others."""
    values = {}
    for i in players:
        others, value = [j for j in players if j != i], 0.0
        for size in range(len(others) + 1):
            for members in itertools.combinations(others, size):
                gain = worth((*members, i)) - worth(members)
                value += gain / math.comb(len(others), size) / len(players)
        values[i] = value
    return values


def knn_shapley(features, labels, test_features, test_labels, *, num_neighbours):
    values = np.zeros(len(labels))
    for z, y in zip(test_features, test_labels, strict=True):
        known = [length(z, x) for x in features], labels == y, num_neighbours
        for i, value in shapley(
            range(len(labels)), lambda s, known=known: worth(s, *known)
        ).items():
            values[i] += value / len(test_labels)
    return values


def knn_shapley_of_others(features, labels, *, num_neighbours):
    values = np.zeros(len(labels))
    for t, y in enumerate(labels):
        others = [j for j in range(len(labels)) if j != t]
        known = [length(features[t], x) for x in features], labels == y, num_neighbours
        for i, value in shapley(others, lambda s, known=known: worth(s, *known)).items():
            values[i] += value / len(labels)
    return values


def mean(values):
    return np.mean(values) if len(values) else np.nan


def out_of_bag_values(scores, in_subset):
    return [mean(s[~m]) for s, m in zip(scores.T, in_subset.T, strict=True)]


def memorization_estimates(correct, in_subset):
    return [mean(c[m]) - mean(c[~m]) for c, m in zip(correct.T, in_subset.T, strict=True)]


def influence_estimates(test_correct, in_subset):
    return [[mean(c[m]) - mean(c[~m]) for c in test_correct.T] for m in in_subset.T]


def long_tail_tau(frequencies, num_examples, occurrences, *, weights):
    seen = weights * frequencies**occurrences * (1 - frequencies) ** (num_examples - occurrences)
    return sum(seen * frequencies) / sum(seen)


def ridge(features, targets, penalty):
    matrix = features.T @ features + penalty * np.eye(features.shape[1])
    return np.linalg.solve(matrix, features.T @ targets)


def ridge_leave_one_out(features, targets, *, penalty):
    """Refitted without each."""
    found = []
    for i, (x, t) in enumerate(zip(features, targets, strict=True)):
        rest = np.arange(len(features)) != i
        found.append(t - x @ ridge(features[rest], targets[rest], penalty))
    return found


def ridge_removal_effects(features, targets, queries, *, penalty):
    whole, found = queries @ ridge(features, targets, penalty), []
    for i in range(len(features)):
        rest = np.arange(len(features)) != i
        found.append(queries @ ridge(features[rest], targets[rest], penalty) - whole)
    return found


def fit_head(features, labels, weights, penalty):
    """The head that minimises the weighted losses, found by its slope."""
    shape = (features.shape[1], max(labels) + 1)

    def slope(flat):
        errors = softmax(features @ flat.reshape(shape)) - np.eye(shape[1])[labels]
        return (features.T @ (weights[:, None] * errors)).ravel() + penalty * flat

    return optimize.root(slope, np.zeros(math.prod(shape)), tol=1e-13).x.reshape(shape)


def softmax_removal_effects(features, labels, test_features, test_labels, *, penalty):
    """The slope of the test losses in the weight of each example, by refitting."""
    size, step, found = len(labels), 1e-4, []
    for i in range(size):
        losses = []
        for sign in (1, -1):
            weights = np.full(size, 1 / size)
            weights[i] += sign * step
            scores = test_features @ fit_head(features, labels, weights, penalty)
            losses.append(-np.log(softmax(scores)[np.arange(len(test_labels)), test_labels]))
        found.append(-(losses[0] - losses[1]) / (2 * step) / size)
    return found


# --- proportions ---


def similarity_edges(features, *, num_neighbours):
    pairs = {
        (min(i, j), max(i, j))
        for i in range(len(features))
        for _, j in nearest_by_angle(features, i, num_neighbours)
    }
    pairs = sorted(pairs)
    return pairs, [np.exp(-length(features[i], features[j])) for i, j in pairs]


def bag_marginals(bags, counts, edges, *, bag_weight, similarity_weight):
    """Over all labellings."""
    size, total = len(bags), 0.0
    marginals = np.zeros(size)
    for labels in itertools.product((0, 1), repeat=size):
        y = np.array(labels)
        energy = bag_weight * sum((y[bags == b].sum() - n) ** 2 for b, n in enumerate(counts))
        energy += similarity_weight * sum(
            k * (y[i] - y[j]) ** 2 for (i, j), k in zip(*edges, strict=True)
        )
        total += np.exp(-energy)
        marginals += np.exp(-energy) * y
    return marginals / total


# --- confident learning ---


def thresholds(p, y):
    return [np.mean(p[y == k, k]) if (y == k).any() else 2.0 for k in range(p.shape[1])]


def guess(row, t):
    confident = np.flatnonzero(row >= np.asarray(t) - 1e-6)
    if len(confident) == 1:
        return confident[0]
    return np.argmax(row) if len(confident) else -1


def joint(p, y):
    t = thresholds(p, y)
    guesses = np.array([guess(row, t) for row in p])
    counts = np.zeros((len(t), len(t)))
    for given, g in zip(y, guesses, strict=True):
        if g >= 0:
            counts[given, g] += 1
    counts[np.diag_indices(len(t))] = np.maximum(np.diag(counts), 1)
    return (
        counts,
        t,
        guesses,
        [np.argmax(row + 1e-6 * (np.arange(len(t)) == k)) for row, k in zip(p, y, strict=True)],
    )


def calibrate(counts, y):
    """Row sums are label counts, whole numbers: those furthest off are moved by one."""
    rows = []
    for k, row in enumerate(counts):
        exact = row / sum(row) * np.sum(y == k)
        whole = np.round(exact)
        while (gap := round(sum(exact) - sum(whole))) != 0:
            whole[np.argmax((exact - whole) * np.sign(gap))] += np.sign(gap)
        rows.append(whole)
    return np.array(rows)


def by_column(counts):
    return (counts / counts.sum(0)).T


def by_row(counts):
    return counts / counts.sum(1, keepdims=True)


def prior(counts, y):
    shares = [
        by_row(counts)[k, k] / by_column(counts)[k, k] * np.mean(y == k) for k in range(len(counts))
    ]
    return np.clip(shares, 1e-6, 1) / np.sum(np.clip(shares, 1e-6, 1))


def unless_most_probable(flags, p, y):
    return flags & (np.array(joint(p, y)[3]) != y)


def off_diagonal(p, y):
    guesses = joint(p, y)[2]
    return unless_most_probable((guesses >= 0) & (guesses != y), p, y)


def differing(p, y):
    return unless_most_probable(np.ones(len(y), bool), p, y)


def pruned_by_class(p, y):
    counts = calibrate(joint(p, y)[0], y)
    flags = np.zeros(len(y), bool)
    for k in range(len(counts)):
        rows = np.flatnonzero(y == k)
        worst = sorted(rows, key=lambda i: p[i, k])
        flags[worst[: int(len(rows) - counts[k, k])]] = True
    return unless_most_probable(flags, p, y)


def pruned_by_noise_rate(p, y):
    counts = calibrate(joint(p, y)[0], y)
    flags = np.zeros(len(y), bool)
    for k, j in np.ndindex(counts.shape):
        if j != k:
            worst = sorted(np.flatnonzero(y == k), key=lambda i: p[i, k] - p[i, j])
            flags[worst[: int(counts[k, j])]] = True
    return unless_most_probable(flags, p, y)


def pruned_by_both(p, y):
    return pruned_by_class(p, y) & pruned_by_noise_rate(p, y)


def lowest(p, y):
    flags = np.zeros(len(y), bool)
    flags[np.argsort(own(p, y))[: sum(off_diagonal(p, y))]] = True
    return flags


def in_order(scores, flags):
    rows = range(len(scores))
    return sorted(rows, key=lambda i: (not np.any(flags[i]), scores[i]))


def label_issues(p, y):
    flags, scores = pruned_by_noise_rate(p, y), np.array(own(p, y))
    matrix = by_column(calibrate(joint(p, y)[0], y))
    return in_order(scores, flags), scores, flags, joint(p, y)[3], matrix


# --- scores of labels ---


def own(p, y):
    return [row[k] for row, k in zip(p, y, strict=True)]


def margin(p, y):
    return [(row[k] - max(np.delete(row, k)) + 1) / 2 for row, k in zip(p, y, strict=True)]


def weighted_entropy(p, y):
    ratios = [-(row @ np.log(row)) / np.log(len(row)) / row[k] for row, k in zip(p, y, strict=True)]
    return [np.log(1 + r) / r for r in ratios]


def adjusted(p, t):
    return [(row - t + max(t)) / sum(row - t + max(t)) for row in p]


def soft_minimum(scores, *, temperature):
    return [row @ softmax((1 - row) / temperature) for row in scores]


def moving_minimum(scores, *, decay=0.8):
    found = []
    for row in scores:
        first, *rest = sorted(row, reverse=True)
        for score in rest:
            first = decay * score + (1 - decay) * first
        found.append(first)
    return found


def bits(p, given):
    return [
        [p_l if bit else 1 - p_l for p_l, bit in zip(*pair, strict=True)]
        for pair in zip(p, given, strict=True)
    ]


def multilabel_issues(p, given):
    scores = moving_minimum(np.array(bits(p, given)))
    flags = [
        pruned_by_noise_rate(np.stack([1 - column, column], -1), y)
        for column, y in zip(p.T, given.T, strict=True)
    ]
    flags = np.transpose(flags)
    return in_order(scores, flags), scores, flags, bits(p, given)


def token_issues(p, y):
    places = [(s, t) for s, tokens in enumerate(y) for t in range(len(tokens))]
    order, scores, flags, suggested, matrix = label_issues(np.concatenate(p), np.concatenate(y))
    smallest = [min(own(*pair)) for pair in zip(p, y, strict=True)]
    return [places[i] for i in order], scores, flags, suggested, matrix, smallest


def closeness(predictions, targets):
    return [np.exp(-abs(f - y)) for f, y in zip(predictions, targets, strict=True)]


def outlying(predictions, targets):
    def unit(x):
        return (x - np.mean(x)) / np.std(x)

    points = np.stack([unit(targets), 5 * unit(predictions - targets)], -1)
    half = -(-len(points) // 2)
    # The point itself is the nearest.
    means = np.array([np.mean(sorted(length(a, b) for b in points)[:half]) for a in points])
    return np.exp(-means / np.median(means))


# --- outliers, near duplicates, losses ---


def outlier_scores(distances):
    means = np.array([np.mean(row) for row in distances])
    return np.exp(-means / np.median(means))


def outlier_flags(distances):
    means = [np.mean(row) for row in distances]
    first, third = np.quantile(means, [0.25, 0.75])
    return means > third + 1.7 * (third - first)


def near_duplicates(neighbours, *, fraction):
    distances, positions = neighbours
    usual = np.median([row[0] for row in distances])
    near = {
        tuple(sorted((i, positions[i, n])))
        for i, n in np.ndindex(distances.shape)
        if distances[i, n] < fraction * usual
    }
    scores = [1 - np.exp(-row[0] / usual) for row in distances]
    return scores, [any(i in pair for pair in near) for i in range(len(distances))], sorted(near)


def scaled(losses):
    return (losses - min(losses)) / (max(losses) - min(losses))


def two_normals(losses):
    x = scaled(losses)
    means, variances, weights = [0, 1], [np.var(x)] * 2, [0.5, 0.5]

    def responsibilities():
        density = [
            w * np.exp(-((x - m) ** 2) / (2 * v)) / np.sqrt(v)
            for m, v, w in zip(means, variances, weights, strict=True)
        ]
        return density / np.sum(density, axis=0)

    for _ in range(10):
        shares = responsibilities()
        weights = [np.mean(r) for r in shares]
        means = [np.average(x, weights=r) for r in shares]
        variances = [
            np.average((x - m) ** 2, weights=r) + 5e-4 for m, r in zip(means, shares, strict=True)
        ]
    return responsibilities()[0], means, variances, weights


def two_betas(losses):
    x = np.clip(scaled(losses), 1e-4, 1 - 1e-4)
    shapes, weights = [(1, 2), (2, 1)], [0.5, 0.5]

    def responsibilities():
        density = [w * stats.beta(*s).pdf(x) for s, w in zip(shapes, weights, strict=True)]
        return np.maximum(density / np.sum(density, axis=0), 1e-12)

    for _ in range(10):
        shares, shapes, weights = responsibilities(), [], []
        for r in shares:
            m = np.average(x, weights=r)
            alpha = m * (m * (1 - m) / np.average((x - m) ** 2, weights=r) - 1)
            shapes.append((alpha, alpha * (1 - m) / m))
            weights.append(np.mean(r))
    noisy = responsibilities()[1]
    beyond = x >= x[np.argmax(noisy)]
    clean = 1 - np.where(beyond, max(noisy), noisy)
    return clean, [s[0] for s in shapes], [s[1] for s in shapes], weights


RECORDS = np.stack([waves(5, 3, t, 2.0) for t in range(4)])
FEATURES = waves(12, 5, 0.3) + 0.3 * waves(12, 5, 2.1) ** 2
CLASSES = np.array([0, 1, 0, 1, 0, 1, 2, 0, 0, 1, 0, 2])
TRANSITION = np.array([[0.8, 0.15, 0.05], [0.1, 0.7, 0.2], [0.05, 0.05, 0.9]])
PRIOR = np.array([0.5, 0.3, 0.2])
# Examples that all and that none of the models were trained on are among them.
IN_SUBSET = (waves(6, 5, 0.2) > 0) & (np.arange(5) != 0) | (np.arange(5) == 1)
# A tree, in which messages are exact: bags of two, each joined to the next by one edge.
TREE = label_models.SimilarityEdges(np.array([[1, 2], [3, 5]]), np.array([0.7, 0.4]))
# Where a bag is one factor, edges between bags that form no circle.
BRIDGES = label_models.SimilarityEdges(np.array([[0, 1], [5, 6]]), np.array([0.7, 0.4]))

# Of each class one label in four is wrong.
PROBABILITIES = softmax(waves(40, 3, 0.4, 1.5) + 2 * np.eye(3)[np.arange(40) % 3])
LABELS = np.where(np.arange(40) % 4 == 1, (np.arange(40) * 7 // 3) % 3, np.arange(40) % 3)
COUNTS = np.array([[7, 1, 2], [0, 9, 1], [3, 2, 5]])
TRUE_BITS = waves(40, 3, 1.3) > 0.1
GIVEN_BITS = (TRUE_BITS ^ (np.arange(40) % 5 == 2)[:, None]).astype(int)
BITS = 1 / (1 + np.exp(-waves(40, 3, 0.6) - np.where(TRUE_BITS, 2, -2)))
SENTENCES = np.split(PROBABILITIES, [7, 12, 30])
TOKENS = np.split(LABELS, [7, 12, 30])
NUMBERS = waves(1, 12, 0.3, 2.0)[0]
PREDICTED = NUMBERS + 0.3 * waves(1, 12, 1.7)[0] + 2 * (np.arange(12) == 4)
NEIGHBOURS = label_models.Neighbours(*nearest(FEATURES, 3, metric=label_models.cosine_distance))
LOSSES = np.concatenate(
    [0.25 + 0.2 * np.sin(np.arange(12)), 0.6 + 0.25 * np.sin(1.3 * np.arange(8))]
)


def labelled(function, definition, **settings):
    return Case(function, definition, (PROBABILITIES, LABELS), settings)


TRIPLES = annotators.TRIPLES
STARTS = label_models.MaceStarts(
    0.5 + waves(3, 4, 0.2, 0.3), softmax(waves(12, 3, 1.3)).reshape(3, 4, 3)
)
# A classifier that is right more often than not.
BELIEFS = softmax(waves(10, 3, 0.4, 1.5) + 1.2 * np.eye(3)[[0, 1, 2, 1, 2, 1, 0, 2, 1, 0]])
POOL = softmax(waves(4, 3, 2.2, 1.5))
VOTES = np.array([[0, 1, 0], [0, 2, 1], [2, 0, 2], [0, 1, 0], [2, 0, 1], [0, 0, 2], [2, 2, 0]])
WINS = np.array([[0, 3, 4], [1, 0, 2], [0, 2, 0]])
REVIEWS = (np.arange(36).reshape(9, 4) ** 2 % 7) // 2
NO_STOP = {"max_iterations": 7, "tolerance": 0.0}

CASES = {
    "read_annotations": Case(
        label_models.read_annotations, annotators.read_annotations, (TRIPLES,)
    ),
    "majority_vote": Case(label_models.majority_vote, annotators.majority_vote, (TRIPLES,)),
    "normalized_votes": Case(
        label_models.normalized_votes, annotators.normalized_votes, (TRIPLES,)
    ),
    "softmax_votes": Case(label_models.softmax_votes, annotators.softmax_votes, (TRIPLES,)),
    "wawa": Case(label_models.wawa, annotators.wawa, (TRIPLES,)),
    "zero_based_skill": Case(
        label_models.zero_based_skill,
        annotators.zero_based_skill,
        (TRIPLES,),
        {"iterations": 9, "learning_rate": 0.8, "halved_every": 4},
    ),
    "average_distribution": Case(
        label_models.average_distribution,
        annotators.average_distribution,
        ([BELIEFS, POOL[[0] * 10]],),
    ),
    "dawid_skene": Case(
        label_models.dawid_skene, annotators.dawid_skene, (TRIPLES,), NO_STOP, 1e-8
    ),
    "glad": Case(
        label_models.glad,
        annotators.glad,
        (TRIPLES,),
        {"max_iterations": 2, "tolerance": 0.0},
        1e-7,
    ),
    "mace": Case(
        label_models.mace,
        annotators.mace,
        (TRIPLES, STARTS),
        {"iterations": 6, "competence_prior": 0.7, "strategy_prior": 3.0},
    ),
    "crowdlab": Case(label_models.crowdlab, annotators.crowdlab, (TRIPLES, BELIEFS)),
    "active_lab": Case(
        label_models.active_lab,
        annotators.active_lab,
        (TRIPLES, BELIEFS, POOL),
        {"temperature": 1.7},
    ),
    "annotator_temperature": Case(
        label_models.annotator_temperature,
        annotators.annotator_temperature,
        (TRIPLES, softmax(waves(10, 3, 0.4, 3.0))),
    ),
    "pairwise_wins": Case(
        label_models.pairwise_wins,
        annotators.pairwise_wins,
        (VOTES, 3),
        {"weights": np.arange(7) / 3},
    ),
    "bradley_terry": Case(
        label_models.bradley_terry,
        annotators.bradley_terry,
        (WINS,),
        {"pseudo_votes": 0.3, "max_iterations": 20, "tolerance": 0.0},
    ),
    "accept_or_review": Case(
        label_models.accept_or_review, annotators.accept_or_review, (BELIEFS, 0.65)
    ),
    "reviewed_labels": Case(
        label_models.reviewed_labels,
        annotators.reviewed_labels,
        (TRIPLES[:9, 2], (TRIPLES[:9, 2] + 1) % 3, REVIEWS),
        {"least": 2},
    ),
    "area_under_margin": Case(
        label_models.area_under_margin, area_under_margin, (RECORDS, np.array([1, 2, 0, 2, 1]))
    ),
    "forgetting": Case(label_models.forgetting, forgetting, (RECORDS[..., 0] > 0,)),
    "cosine_distance": Case(
        label_models.cosine_distance, of_pairs(angle), (FEATURES[:4], FEATURES[4:])
    ),
    "euclidean_distance": Case(
        label_models.euclidean_distance, of_pairs(length), (FEATURES[:4], FEATURES[4:])
    ),
    "nearest_neighbours": Case(
        label_models.nearest_neighbours,
        nearest,
        (FEATURES, 3),
        {"metric": label_models.cosine_distance},
    ),
    "knn_label_scores": Case(
        label_models.knn_label_scores,
        knn_label_scores,
        (FEATURES, CLASSES),
        {"num_neighbours": 4, "min_similarity": 0.1},
    ),
    "flag_by_rank": Case(
        label_models.flag_by_rank,
        flag_by_rank,
        (waves(12, 1, 0.4)[:, 0], CLASSES, TRANSITION, PRIOR),
    ),
    "consensus_moments": Case(
        label_models.consensus_moments, consensus_moments, (FEATURES, CLASSES)
    ),
    "fit_transition": Case(
        label_models.fit_transition,
        lambda *moments: (TRANSITION, PRIOR, 0.0),
        (moments_of(TRANSITION, PRIOR),),
        tolerance=2e-3,
    ),
    "knn_shapley": Case(
        label_models.knn_shapley,
        knn_shapley,
        (FEATURES[:7], CLASSES[:7], FEATURES[7:], CLASSES[7:]),
        {"num_neighbours": 3},
    ),
    "knn_shapley_of_others": Case(
        label_models.knn_shapley_of_others,
        knn_shapley_of_others,
        (FEATURES[:7], CLASSES[:7]),
        {"num_neighbours": 3},
    ),
    "out_of_bag_values": Case(
        label_models.out_of_bag_values, out_of_bag_values, (waves(6, 5, 0.9) > 0, IN_SUBSET)
    ),
    "memorization_estimates": Case(
        label_models.memorization_estimates,
        memorization_estimates,
        (waves(6, 5, 0.9) > 0, IN_SUBSET),
    ),
    "influence_estimates": Case(
        label_models.influence_estimates, influence_estimates, (waves(6, 4, 0.5) > 0, IN_SUBSET)
    ),
    "long_tail_tau": Case(
        label_models.long_tail_tau,
        long_tail_tau,
        (np.array([0.5, 0.2, 0.05, 0.0]), 12, 2),
        {"weights": np.array([1.0, 2.0, 5.0, 1.0])},
    ),
    "ridge_leave_one_out": Case(
        label_models.ridge_leave_one_out,
        ridge_leave_one_out,
        (FEATURES, waves(12, 2, 1.3)),
        {"penalty": 0.1},
    ),
    "ridge_removal_effects": Case(
        label_models.ridge_removal_effects,
        ridge_removal_effects,
        (FEATURES, waves(12, 2, 1.3), waves(3, 5, 2.7)),
        {"penalty": 0.1},
    ),
    "softmax_removal_effects": Case(
        label_models.softmax_removal_effects,
        softmax_removal_effects,
        (FEATURES[:, :2], CLASSES, waves(2, 2, 1.9), np.array([1, 2])),
        {"penalty": 0.05},
        tolerance=1e-6,
    ),
    "similarity_edges": Case(
        label_models.similarity_edges, similarity_edges, (FEATURES,), {"num_neighbours": 3}
    ),
    "bag_marginals": Case(
        label_models.bag_marginals,
        bag_marginals,
        (np.array([0, 0, 1, 1, 2, 2]), np.array([1, 2, 0]), TREE),
        {"bag_weight": 1.0, "similarity_weight": 2.0},
    ),
    "confident_thresholds": labelled(label_models.confident_thresholds, thresholds),
    "confident_joint": labelled(label_models.confident_joint, joint),
    "calibrate_joint": Case(label_models.calibrate_joint, calibrate, (COUNTS, LABELS)),
    "noise_matrix": Case(label_models.noise_matrix, by_column, (COUNTS,)),
    "inverse_noise_matrix": Case(label_models.inverse_noise_matrix, by_row, (COUNTS,)),
    "class_prior": Case(label_models.class_prior, prior, (COUNTS, LABELS)),
    "confident_issues": labelled(label_models.confident_issues, off_diagonal),
    "differing_issues": labelled(label_models.differing_issues, differing),
    "prune_by_class": labelled(label_models.prune_by_class, pruned_by_class),
    "prune_by_noise_rate": labelled(label_models.prune_by_noise_rate, pruned_by_noise_rate),
    "prune_by_both": labelled(label_models.prune_by_both, pruned_by_both),
    "lowest_scores": labelled(label_models.lowest_scores, lowest),
    "find_label_issues": labelled(label_models.find_label_issues, label_issues),
    "self_confidence": labelled(label_models.self_confidence, own),
    "normalized_margin": labelled(label_models.normalized_margin, margin),
    "confidence_weighted_entropy": labelled(
        label_models.confidence_weighted_entropy, weighted_entropy
    ),
    "adjusted_probabilities": Case(
        label_models.adjusted_probabilities, adjusted, (PROBABILITIES, np.array([0.4, 0.9, 0.6]))
    ),
    "soft_minimum": Case(
        label_models.soft_minimum, soft_minimum, (PROBABILITIES,), {"temperature": 0.1}
    ),
    "moving_minimum": Case(label_models.moving_minimum, moving_minimum, (PROBABILITIES,)),
    "multilabel_scores": Case(label_models.multilabel_scores, bits, (BITS, GIVEN_BITS)),
    "find_multilabel_issues": Case(
        label_models.find_multilabel_issues, multilabel_issues, (BITS, GIVEN_BITS)
    ),
    "find_token_issues": Case(label_models.find_token_issues, token_issues, (SENTENCES, TOKENS)),
    "residual_scores": Case(label_models.residual_scores, closeness, (PREDICTED, NUMBERS)),
    "outlying_residual_scores": Case(
        label_models.outlying_residual_scores, outlying, (PREDICTED, NUMBERS)
    ),
    "outlier_scores": Case(label_models.outlier_scores, outlier_scores, (NEIGHBOURS.distances,)),
    "outlier_flags": Case(label_models.outlier_flags, outlier_flags, (NEIGHBOURS.distances**3,)),
    "near_duplicates": Case(
        label_models.near_duplicates, near_duplicates, (NEIGHBOURS,), {"fraction": 0.5}
    ),
    "loss_mixture": Case(label_models.loss_mixture, two_normals, (LOSSES,)),
    "beta_loss_mixture": Case(label_models.beta_loss_mixture, two_betas, (LOSSES,)),
    "bag_count_marginals": Case(
        label_models.bag_count_marginals,
        bag_marginals,
        (np.array([0, 1, 0, 1, 0, 2, 1, 1]), np.array([1, 3, 0]), BRIDGES),
        {"bag_weight": 1.0, "similarity_weight": 2.0},
    ),
}

# A name -> why it has no case.
WITHOUT_CASE = {
    "BetaLossMixture": "what beta_loss_mixture returns",
    "ConfidentJoint": "what confident_joint returns",
    "ConsensusMoments": "what consensus_moments returns",
    "LabelIssues": "what find_label_issues returns",
    "LossMixture": "what loss_mixture returns",
    "MultilabelIssues": "what find_multilabel_issues returns",
    "NearDuplicates": "what near_duplicates returns",
    "NeighbourLabels": "what knn_label_scores returns",
    "ActiveLab": "what active_lab returns",
    "Annotations": "what read_annotations returns",
    "BradleyTerry": "what bradley_terry returns",
    "Choice": "what accept_or_review returns",
    "Consensus": "what votes return",
    "Crowdlab": "what crowdlab returns",
    "DawidSkene": "what dawid_skene returns",
    "Glad": "what glad returns",
    "Mace": "what mace returns",
    "MaceStarts": "what mace_starts returns",
    "mace_starts": "random numbers; test_annotators.py",
    "Neighbours": "what nearest_neighbours returns",
    "ReviewedLabels": "what reviewed_labels returns",
    "SimilarityEdges": "what similarity_edges returns",
    "TokenIssues": "what find_token_issues returns",
    "TransitionEstimate": "what fit_transition returns",
}
