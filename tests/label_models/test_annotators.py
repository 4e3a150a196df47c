"""Models of annotators against numbers that others computed, and what must hold of any crowd.

`golden/crowd_kit.npz` has 189 labels of 40 items by 9 annotators, drawn at random, and what
Crowd-Kit 1.4.2 makes of them; `golden/cleanlab_crowd.npz` has labels of 60 items by 8 annotators,
and a classifier's probabilities, with what cleanlab 2.9.0 makes of them by CROWDLAB.
"""

import functools
import pathlib

import numpy as np
import pytest

from lnl_jax import label_models
from tests.label_models import annotators
from tests.label_models.cases import BELIEFS, POOL

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
# Four items, three annotators.
TOY = np.array(
    [
        [i, j, y]
        for i, row in enumerate(("001", "111", "011", "000"))
        for j, y in enumerate(map(int, row))
    ]
)
DRAWN = [
    label_models.majority_vote,
    label_models.normalized_votes,
    label_models.softmax_votes,
    label_models.wawa,
    label_models.zero_based_skill,
    label_models.dawid_skene,
    label_models.glad,
]


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "crowd_kit.npz") as file:
        return dict(file)


def start(num_annotators, num_classes, rng):
    return label_models.mace_starts(num_annotators, num_classes, rng, restarts=1)


@pytest.mark.parametrize("name", ["dawid_skene", "glad", "zero_based_skill"])
def test_a_crowd_is_aggregated_as_crowd_kit_does(golden, name):
    found = getattr(label_models, name)(golden["triples"])
    np.testing.assert_allclose(found.probabilities, golden[name], atol=1e-8)


def test_mace_from_the_same_start_is_crowd_kits(golden):
    starts = label_models.MaceStarts(golden["start_competence"], golden["start_strategy"])
    found = label_models.mace(golden["triples"], starts)
    np.testing.assert_allclose(found.probabilities, golden["mace"], atol=1e-12)


def test_the_toy_crowd():
    first = label_models.dawid_skene(TOY, max_iterations=1).probabilities
    np.testing.assert_allclose(first, [[5 / 6, 1 / 6], [0, 1], [1 / 6, 5 / 6], [1, 0]], atol=1e-9)
    converged = label_models.dawid_skene(TOY).probabilities[0]
    np.testing.assert_allclose(converged, [0.99991862, 8.138e-05], atol=5e-9)
    glad = label_models.glad(TOY).probabilities
    wanted = [[0.88773434, 0.11226566], [3.753e-05, 0.99996247]]
    np.testing.assert_allclose(glad[:2], wanted, atol=6e-9)
    for vote in (label_models.wawa, label_models.zero_based_skill):
        np.testing.assert_allclose(vote(TOY).probabilities[0], [0.7, 0.3], atol=1e-9)
    rng = np.random.default_rng(0)
    mace = label_models.mace(TOY, start(3, 2, rng)).probabilities
    wanted = [[0.95865817, 0.04134183], [0.004682, 0.995318]]
    np.testing.assert_allclose(mace[:2], wanted, atol=3e-8)


def test_what_an_annotator_never_gave_is_no_rate_of_its_own():
    # Annotator 2 labelled one item, which is certainly of class 0.
    triples = [[0, 0, 0], [0, 1, 0], [0, 2, 0], [1, 0, 1], [1, 1, 1]]
    confusion = label_models.dawid_skene(triples).confusion
    np.testing.assert_allclose(confusion[2], [[1, 0], [1, 0]])


CONSENSUS = [0, 1, 2, 1, 2, 1, 0, 2, 1, 0]
QUALITY = [0.52874089786, 0.669322221162, 0.748559417847, 0.439676135273, 0.459312308892]
QUALITY += [0.659843591716, 0.593402627322, 0.746104154524, 0.682032736651, 0.760366097733]
OF_ANNOTATORS = [0.7398107459494933, 0.7041558020829735, 0.7529981526673937, 0.6122245043822176]


def test_crowdlab_is_cleanlabs():
    found = label_models.crowdlab(annotators.TRIPLES, BELIEFS)
    np.testing.assert_array_equal(found.consensus, CONSENSUS)
    np.testing.assert_allclose(found.consensus_quality, QUALITY, atol=1e-11)
    np.testing.assert_allclose(found.annotator_quality, OF_ANNOTATORS, atol=1e-11)
    np.testing.assert_allclose(found.annotator_weights, [0.625, 0.34375] * 2, atol=1e-14)
    np.testing.assert_allclose(found.classifier_weight, 1.4191155304938667, atol=1e-14)
    of_first = [0.52874089786, 0.52874089786, 0.297940346743]
    np.testing.assert_allclose(found.label_quality[:3], of_first, atol=1e-11)


def test_a_classifier_overrules_votes_as_cleanlabs_does():
    with np.load(GOLDEN / "cleanlab_crowd.npz") as file:
        golden = dict(file)
    found = label_models.crowdlab(golden["triples"], golden["probabilities"])
    for name in ("consensus", "consensus_quality", "annotator_quality"):
        np.testing.assert_allclose(getattr(found, name), golden[name], atol=1e-12, err_msg=name)
    votes = annotators.counts_of(golden["triples"])
    overruled = votes[np.arange(60), found.consensus] < votes.max(1)
    assert overruled.sum() == 8


# cleanlab 2.9.0 counts three votes for class 1 as votes for class 0 where it fits the temperature.
AT_ITS_TEMPERATURE = [0.465594914779, 0.582129559753, 0.592271004477, 0.373826073647]
AT_ITS_TEMPERATURE += [0.403597387704, 0.59622741838, 0.513614728127, 0.572299753067]
AT_ITS_TEMPERATURE += [0.471456820847, 0.575741629519]
POOL_THERE = [0.418969424822, 0.354051164378, 0.413957980229, 0.358095154943]
COUNTED_RIGHT = [0.49930967343, 0.62278706977, 0.691049751888, 0.421742471939]
POOL_RIGHT = [0.612789082926, 0.405238806461, 0.5956628036, 0.413697270362]


def test_active_lab_is_cleanlabs_at_its_temperature_and_counts_votes_right_without():
    theirs = label_models.active_lab(annotators.TRIPLES, BELIEFS, POOL, temperature=3.5)
    np.testing.assert_allclose(theirs.labelled, AT_ITS_TEMPERATURE, atol=1e-11)
    np.testing.assert_allclose(theirs.pool, POOL_THERE, atol=1e-11)
    ours = label_models.active_lab(annotators.TRIPLES, BELIEFS, POOL)
    assert ours.temperature == 1.0
    np.testing.assert_allclose(ours.labelled[:4], COUNTED_RIGHT, atol=1e-11)
    np.testing.assert_allclose(ours.pool, POOL_RIGHT, atol=1e-11)


def test_items_of_one_label_each_are_scored_by_the_classifier():
    triples = np.array([[1, 0, 0], [0, 1, 1], [2, 1, 1]])
    beliefs = np.array([[0.3, 0.7], [0.9, 0.1], [0.6, 0.4]])
    found = label_models.active_lab(triples, beliefs)
    np.testing.assert_allclose(found.labelled, (2 * np.array([0.7, 0.9, 0.4]) + 0.5) / 3)


def test_ties_of_crowdlab_go_to_the_rarer_class_then_to_whom_the_others_agree_with():
    undecided = np.full((4, 2), 0.5)
    # Items 0 and 1: all three of class 0. Item 2 is tied; class 1 is the rarer.
    rarer = [[i, j, 0] for i in (0, 1, 3) for j in range(3)] + [[2, 0, 0], [2, 1, 1]]
    assert label_models.crowdlab(rarer, undecided).consensus[2] == 1
    # Classes are equally frequent; annotator 0 was in the majority of items 0 and 1, 2 was not.
    trusted = [
        [0, 0, 0],
        [0, 1, 0],
        [0, 2, 1],
        [1, 0, 1],
        [1, 1, 1],
        [1, 2, 0],
        [2, 0, 1],
        [2, 2, 0],
        [3, 0, 0],
        [3, 1, 1],
        [3, 2, 0],
        [3, 3, 1],
    ]
    assert label_models.crowdlab(trusted, undecided).consensus[2] == 1


@pytest.mark.parametrize("function", DRAWN, ids=lambda function: function.__name__)
def test_the_order_of_rows_and_the_numbers_of_annotators_do_not_matter(golden, function):
    triples = golden["triples"]
    rng = np.random.default_rng(1)
    renamed = rng.permutation(9)
    others = triples[rng.permutation(len(triples))]
    others = np.stack([others[:, 0], renamed[others[:, 1]], others[:, 2]], 1)
    before, after = function(triples), function(others)
    # Conjugate gradients stop where rounding has them stop.
    atol = 1e-3 if function is label_models.glad else 1e-9
    np.testing.assert_allclose(after.probabilities, before.probabilities, atol=atol)
    np.testing.assert_allclose(
        after.annotator_quality[renamed], before.annotator_quality, atol=atol
    )


@pytest.fixture(scope="module")
def large_crowd():
    """Two items that thousands labelled, whose products of probabilities vanish."""
    rng = np.random.default_rng(0)
    right = rng.random((2, 3000)) < 0.55
    labels = np.where(right, [[0], [1]], [[1], [0]])
    item, annotator = np.indices(labels.shape).reshape(2, -1)
    return np.stack([item, annotator, labels.ravel()], 1)


@pytest.mark.parametrize("name", ["dawid_skene", "glad", "mace"])
def test_labels_of_thousands_do_not_vanish(large_crowd, name):
    mace = functools.partial(
        label_models.mace, starts=start(3000, 2, np.random.default_rng(0)), iterations=5
    )
    function = mace if name == "mace" else getattr(label_models, name)
    found = function(large_crowd)
    assert all(np.isfinite(part).all() for part in found)
    np.testing.assert_allclose(found.probabilities.sum(1), 1)
    np.testing.assert_array_equal(found.probabilities.argmax(1), [0, 1])


def test_each_restart_of_mace_is_another_and_the_likeliest_is_kept(golden):
    starts = label_models.mace_starts(9, 3, np.random.default_rng(0), restarts=4)
    assert np.ptp(starts.competence, 0).min() > 0
    assert np.ptp(starts.strategy, 0).min() > 0
    # Before convergence, where starts still differ.
    run = functools.partial(label_models.mace, golden["triples"], iterations=3)
    found = run(starts)
    alone = [run(label_models.MaceStarts(*(part[[n]] for part in starts))) for n in range(4)]
    each = np.array([one.log_likelihood[0] for one in alone])
    assert len(set(each.round(6))) == 4
    np.testing.assert_allclose(found.log_likelihood, each)
    np.testing.assert_array_equal(found.probabilities, alone[each.argmax()].probabilities)


def test_an_annotator_who_guesses_is_seen_by_every_model():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 200)
    guesses = rng.integers(0, 3, (200, 5))
    right = rng.random((200, 5)) < [0.8, 0.8, 0.8, 0.8, 0.0]
    labels = np.where(right, truth[:, None], guesses)
    item, annotator = np.indices(labels.shape).reshape(2, -1)
    triples = np.stack([item, annotator, labels.ravel()], 1)
    mace = functools.partial(label_models.mace, starts=start(5, 3, rng))
    beliefs = np.full((200, 3), 0.1) + 0.7 * np.eye(3)[truth]
    crowdlab = functools.partial(label_models.crowdlab, probabilities=beliefs)
    for function in (*DRAWN, mace, crowdlab):
        found = function(triples)
        assert found.annotator_quality.argmin() == 4
        assert np.mean(found.probabilities.argmax(1) == truth) > 0.9


def test_strengths_without_pseudo_votes_are_the_most_likely():
    wins = np.array([[0, 3, 4], [1, 0, 2], [2, 2, 0]])
    p = label_models.bradley_terry(wins, pseudo_votes=0.0).probabilities
    beats = p[:, None] / (p[:, None] + p)
    # There, each candidate wins as often as it is expected to.
    np.testing.assert_allclose(wins.sum(1), ((wins + wins.T) * beats).sum(1), atol=1e-8)


def test_items_are_ranked_one_by_one():
    votes = np.array([[0, 1, 0], [0, 1, 2], [1, 2, 0], [1, 0, 1]])
    wins = label_models.pairwise_wins(votes, 3)
    both = label_models.bradley_terry(wins).probabilities
    for item in range(2):
        alone = label_models.bradley_terry(wins[item]).probabilities
        np.testing.assert_allclose(both[item], alone, atol=1e-9)
    choice = label_models.accept_or_review(both, 0.6)
    assert choice.best.tolist() == [1, 2]
    assert choice.accepted.all()
