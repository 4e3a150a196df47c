"""What the models of annotators are, by their formulas: a label, an item, an annotator at a time.

Each takes what the function takes and returns all its fields. Probabilities are multiplied here,
where the library adds logarithms.
"""

import numpy as np
from scipy import optimize, special

# Item, annotator, label: ten items, four annotators, three classes; most gave two to four labels.
TABLE = "00-1 1-11 222- 01-- -212 1111 --00 2022 -1-- 0002"
TRIPLES = np.array(
    [
        [item, annotator, int(label)]
        for item, row in enumerate(TABLE.split())
        for annotator, label in enumerate(row)
        if label != "-"
    ]
)


def sizes(triples):
    return triples.max(0) + 1


def read_annotations(triples):
    return (*triples.T, *sizes(triples))


def counts_of(triples, weights=None):
    num_items, num_annotators, num_classes = sizes(triples)
    counts = np.zeros((num_items, num_classes))
    for i, j, label in triples:
        counts[i, label] += 1 if weights is None else weights[j]
    return counts


def winners(triples, scores):
    """The highest; of several the most frequent class, then the lowest."""
    frequency = [(triples[:, 2] == k).sum() for k in range(scores.shape[1])]
    return [max(range(len(row)), key=lambda k: (row[k], frequency[k], -k)) for row in scores]


def agreement(triples, labels):
    """The share of each annotator's labels that are these."""
    return np.array(
        [
            np.mean([labels[i] == label for i, other, label in triples if other == j])
            for j in range(sizes(triples)[1])
        ]
    )


def shares(scores):
    return scores / scores.sum(1, keepdims=True)


def majority_vote(triples):
    labels = winners(triples, counts_of(triples))
    return np.eye(sizes(triples)[2])[labels], agreement(triples, labels), 1


def normalized_votes(triples):
    counts = counts_of(triples)
    return shares(counts), agreement(triples, winners(triples, counts)), 1


def softmax_votes(triples):
    counts = counts_of(triples)
    return shares(np.exp(counts)), agreement(triples, winners(triples, counts)), 1


def wawa(triples):
    weights = agreement(triples, winners(triples, counts_of(triples)))
    return shares(counts_of(triples, weights)), weights, 2


def zero_based_skill(triples, *, iterations, learning_rate, halved_every):
    skills = np.full(sizes(triples)[1], 1 / sizes(triples)[2] + 1e-5)
    for iteration in range(1, iterations + 1):
        if iteration % halved_every == 0:
            learning_rate /= 2
        labels = counts_of(triples, skills).argmax(1)
        skills = skills + learning_rate * (agreement(triples, labels) - skills)
    return shares(counts_of(triples, skills)), skills, iterations


def dawid_skene(triples, *, max_iterations, tolerance):
    """Without a stop before the last iteration, which `tolerance=0` asks for."""
    assert tolerance == 0
    num_items, num_annotators, num_classes = sizes(triples)
    p = shares(counts_of(triples))
    for iteration in range(max_iterations + 1):
        prior = p.mean(0)
        confusion = np.zeros((num_annotators, num_classes, num_classes))
        for i, j, label in triples:
            confusion[j, :, label] += p[i]
        for j in range(num_annotators):
            given = np.unique(triples[triples[:, 1] == j, 2])
            confusion[j][:, given] = np.maximum(confusion[j][:, given], 1e-10)
            confusion[j] = shares(confusion[j])
        if iteration == max_iterations:
            break
        p = np.tile(prior, (num_items, 1))
        for i, j, label in triples:
            p[i] *= confusion[j, :, label]
        p = shares(p)
    joint = np.tile(np.log(prior), (num_items, 1))
    for i, j, label in triples:
        joint[i] += np.log(confusion[j, :, label])
    evidence = (p * joint).sum() - (p * np.log(np.where(p > 0, p, 1))).sum()
    quality = [
        sum(prior[k] * confusion[j, k, k] for k in range(num_classes))
        for j in range(num_annotators)
    ]
    p = shares(np.maximum(p, 1e-10))
    return p, quality, max_iterations, prior, confusion, evidence / len(triples)


def glad(triples, *, max_iterations, tolerance):
    """Without a stop before the last iteration; SciPy's conjugate gradients are part of it."""
    assert tolerance == 0
    num_items, num_annotators, num_classes = sizes(triples)

    def right(x, i, j):
        return special.expit(x[j] * np.exp(x[num_annotators + i]))

    def negated(x):
        value = ((x - 1) ** 2 / 2 + np.log(2 * np.pi) / 2).sum()
        slope = x - 1
        for i, j, label in triples:
            sure = right(x, i, j)
            for k in range(num_classes):
                value -= p[i, k] * np.log(sure if k == label else (1 - sure) / (num_classes - 1))
            margin = (p[i, label] - sure) * np.exp(x[num_annotators + i])
            slope[j] -= margin
            slope[num_annotators + i] -= margin * x[j]
        return value, slope

    x = np.ones(num_annotators + num_items)
    for _ in range(max_iterations):
        p = np.ones((num_items, num_classes))
        for i, j, label in triples:
            wrong = (1 - right(x, i, j)) / (num_classes - 1)
            p[i] *= np.where(np.arange(num_classes) == label, right(x, i, j), wrong)
        p = shares(p)
        found = optimize.minimize(
            negated, x, jac=True, method="CG", tol=1e-2, options={"maxiter": 25}
        )
        x = found.x
    quality = [
        np.mean([right(x, i, j) for i, other, _ in triples if other == j])
        for j in range(num_annotators)
    ]
    objective = -found.fun / len(triples) / num_classes
    return p, quality, max_iterations, x[:num_annotators], x[num_annotators:], objective


def mace(triples, starts, *, iterations, competence_prior, strategy_prior):
    runs = [
        _mace_from(triples, *start, iterations, competence_prior, strategy_prior)
        for start in zip(*starts, strict=True)
    ]
    likelihoods = np.array([run[-1] for run in runs])
    best = runs[likelihoods.argmax()]
    return best[0], best[1], iterations, best[2], likelihoods


def _mace_from(triples, knows, strategy, iterations, prior, strategy_prior):
    num_items, num_annotators, num_classes = sizes(triples)
    guesses = 1 - knows
    for iteration in range(iterations + 1):
        joint = np.full((num_items, num_classes), 1 / num_classes)
        for i, j, label in triples:
            joint[i] *= guesses[j] * strategy[j, label] + knows[j] * (
                np.arange(num_classes) == label
            )
        p = shares(joint)
        if iteration == iterations:
            return p, knows, strategy, np.log(joint.sum(1)).sum()
        known, guessed = np.zeros(num_annotators), np.zeros((num_annotators, num_classes))
        for i, j, label in triples:
            either = guesses[j] * strategy[j, label] + knows[j]
            known[j] += p[i, label] * knows[j] / either
            guessed[j, label] += 1 - p[i, label] * knows[j] / either
        total = np.exp(special.digamma(known + guessed.sum(1) + 2 * prior))
        knows = np.exp(special.digamma(known + prior)) / total
        guesses = np.exp(special.digamma(guessed.sum(1) + prior)) / total
        sums = special.digamma((guessed + strategy_prior).sum(1, keepdims=True))
        strategy = np.exp(special.digamma(guessed + strategy_prior) - sums)
    raise AssertionError


def average_distribution(distributions):
    return sum(distributions) / len(distributions)


def table_of(triples):
    """The labels ``[N, J]``, NaN where there is none."""
    table = np.full(sizes(triples)[:2], np.nan)
    table[triples[:, 0], triples[:, 1]] = triples[:, 2]
    return table


def crowdlab(triples, probabilities):
    """On triples without ties but those that the classifier decides."""
    table = table_of(triples)
    counts = counts_of(triples)
    consensus = np.array(
        [
            max(range(len(row)), key=lambda k: (row[k], p[k]))
            for row, p in zip(counts, probabilities, strict=True)
        ]
    )
    p, *_ = _crowdlab_of(table, probabilities, consensus)
    consensus = p.argmax(1)
    p, weights, model_weight = _crowdlab_of(table, probabilities, consensus)
    own = np.array([p[i, label] for i, _, label in triples])
    several = (~np.isnan(table)).sum(1) > 1
    share = model_weight / (model_weight + weights.sum() * len(triples) / table.size)
    quality = [
        share * own[triples[:, 1] == j].mean()
        + (1 - share) * (table[:, j] == consensus)[several & ~np.isnan(table[:, j])].mean()
        for j in range(table.shape[1])
    ]
    return p, quality, 2, consensus, p[range(len(p)), consensus], own, weights, model_weight


def _crowdlab_of(table, probabilities, consensus):
    """The posterior and the weights of annotators and classifier."""
    given = ~np.isnan(table)
    labels = given.sum(1)
    several = labels > 1
    classes = probabilities.shape[1]
    agree = np.array(
        [np.mean(row[~np.isnan(row)] == c) for row, c in zip(table, consensus, strict=True)]
    )
    sure = agree[several].mean()
    most = np.bincount(consensus[several]).argmax()
    chance = max(np.mean(consensus[several] != most), 1e-6)
    weights = []
    for j in range(table.shape[1]):
        others = [
            (row[other] == row[j], 1)
            for row in table
            for other in range(table.shape[1])
            if other != j and not np.isnan(row[j]) and not np.isnan(row[other])
        ]
        same = np.mean([one for one, _ in others])
        weights.append(max(1e-6, 1 - (1 - same) / chance))
    error = np.mean(probabilities.argmax(1)[several] != consensus[several])
    model_weight = max(1e-6, 1 - error / chance) * np.sqrt(labels.mean())
    p = model_weight * probabilities
    for i, j in np.argwhere(given):
        for k in range(classes):
            vote = sure if table[i, j] == k else (1 - sure) / (classes - 1)
            p[i, k] += weights[j] * vote
    total = model_weight + given @ np.array(weights)
    return p / total[:, None], np.array(weights), model_weight


def softened(probabilities, temperature):
    return shares(probabilities ** (1 / temperature))


def annotator_temperature(triples, probabilities):
    targets = shares(counts_of(triples))

    def cross_entropy(temperature):
        return -(targets * np.log(softened(probabilities, temperature))).sum()

    coarse = [0.1, 0.2, 0.5, 0.8, 1, 2, 3, 5, 8]
    best = min(coarse, key=cross_entropy)
    at = coarse.index(best)
    finer = [
        low + (high - low) * n / 4
        for low, high in zip(coarse[max(at - 1, 0) : at + 1], coarse[at : at + 2], strict=False)
        for n in range(5)
    ]
    finer += [best + (coarse[min(at + 1, 8)] - best) * n / 4 for n in range(5)]
    return min(sorted(finer), key=cross_entropy)


def active_lab(triples, probabilities, pool, *, temperature):
    p = softened(probabilities, temperature)
    _, _, _, _, quality, _, weights, model_weight = crowdlab(triples, p)
    chance, mean = 1 / p.shape[1], weights.mean()
    labelled = []
    for i, q in enumerate(quality):
        total = model_weight + weights[triples[triples[:, 0] == i, 1]].sum()
        labelled.append((total * q + mean * chance) / (total + mean))
    top = softened(pool, temperature).max(1)
    unlabelled = (model_weight * top + mean * chance) / (model_weight + mean)
    return labelled, unlabelled, temperature


def pairwise_wins(votes, num_candidates, *, weights):
    wins = np.zeros((votes[:, 0].max() + 1, num_candidates, num_candidates))
    for (item, winner, loser), weight in zip(votes, weights, strict=True):
        wins[item, winner, loser] += weight
    return wins


def bradley_terry(wins, *, pseudo_votes, max_iterations, tolerance):
    """Without a stop before the last iteration; one table."""
    assert tolerance == 0
    count = len(wins)
    p = np.full(count, 1 / count)
    for _ in range(max_iterations):
        new = []
        for a in range(count):
            others = [b for b in range(count) if b != a]
            won = sum(wins[a, b] + pseudo_votes for b in others)
            met = sum((wins[a, b] + wins[b, a] + 2 * pseudo_votes) / (p[a] + p[b]) for b in others)
            new.append(won / met)
        p = np.array(new) / sum(new)
    return p, max_iterations


def accept_or_review(probabilities, threshold):
    best = [max(range(len(row)), key=lambda k: (row[k], -k)) for row in probabilities]
    certainty = []
    for row in probabilities:
        second, first = sorted(row)[-2:]
        certainty.append(first / (first + second))
    return best, certainty, [one >= threshold for one in certainty]


def reviewed_labels(given, guessed, votes, *, least):
    labels, wrong = [], []
    for label, guess, (for_given, for_guess, _, _) in zip(given, guessed, votes, strict=True):
        wrong.append(for_given < least)
        labels.append(label if for_given >= least else guess if for_guess >= least else -1)
    return labels, wrong
