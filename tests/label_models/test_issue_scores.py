"""Scores of several labels, tokens, numbers, features and losses against what others computed.

The values are those of cleanlab 2.9, of scikit-learn's mixture from the same start, and of the
authors' beta mixture, in float64.
"""

import functools

import numpy as np
import pytest

from lnl_jax import label_models
from tests.label_models.cases import LOSSES, NUMBERS, PREDICTED, softmax, waves

CLOSE = {"rtol": 0, "atol": 1e-11}


def test_multilabel_scores_and_their_order():
    given = [[0], [1, 2], [2], [0, 1], [], [1], [0, 2], [2], [0], [1]]
    targets = np.array([[k in row for k in range(3)] for row in given])
    found = label_models.find_multilabel_issues(1 / (1 + np.exp(-waves(10, 3, 0.6, 2.0))), targets)
    wanted = [0.158927268519, 0.178575041893, 0.392686618106, 0.172233269349, 0.151419633884]
    wanted += [0.292087798334, 0.214145345356, 0.26866875183, 0.331136504935, 0.245457355013]
    np.testing.assert_allclose(found.scores, wanted, **CLOSE)
    assert found.flags.any(-1).all()
    assert found.ranking.tolist() == [4, 0, 3, 1, 6, 9, 7, 5, 8, 2]


SENTENCES = [softmax(waves(3, 3, 0.1, 1.5)), softmax(waves(2, 3, 0.7, 1.5))]
SENTENCES += [softmax(waves(4, 3, 1.9, 1.5))]
TOKENS = [[0, 1, 2], [1, 1], [2, 0, 0, 1]]
POOLS = {
    "min": (np.min, [0.131551157199, 0.206934608671, 0.069075417579]),
    "softmin": (
        functools.partial(label_models.soft_minimum, temperature=0.05),
        [0.147135693041, 0.208326894024, 0.070801117247],
    ),
}


@pytest.mark.parametrize("name", POOLS)
def test_sentences_and_tokens(name):
    pool, wanted = POOLS[name]
    found = label_models.find_token_issues(SENTENCES, TOKENS, pool=pool)
    np.testing.assert_allclose(found.sentence_scores, wanted, **CLOSE)
    flagged = found.ranking[: found.flags.sum()].tolist()
    assert flagged == [[2, 2], [2, 0], [0, 0], [1, 1], [0, 1]]


def test_outlier_scores_of_neighbours():
    features = waves(12, 5, 0.3) + 0.3 * waves(12, 5, 2.1) ** 2
    features[11] *= -2.5
    distances = label_models.nearest_neighbours(features, 3).distances
    wanted = [0.384221386387, 0.316192820036, 0.352232561829, 0.409251350173, 0.400292427243]
    wanted += [0.282306684667, 0.455888964406, 0.297567490368, 0.425826706271, 0.348330260864]
    wanted += [0.460582049023, 0.259078753991]
    np.testing.assert_allclose(label_models.outlier_scores(distances), wanted, **CLOSE)


def test_new_examples_are_scored_by_the_scale_of_the_old_ones():
    distances = np.array([[0.1, 0.2], [0.3, 0.4]])
    found = label_models.outlier_scores(distances, scale=0.5)
    np.testing.assert_allclose(found, np.exp([-0.3, -0.7]))


def test_a_number_that_stands_out():
    found = label_models.outlying_residual_scores(PREDICTED, NUMBERS)
    wanted = [0.3803750692173, 0.3965008959931, 0.3557943045928, 0.3859203827282]
    wanted += [2.285817020829e-04, 0.2190204158934]
    np.testing.assert_allclose(found[:6], wanted, **CLOSE)


def test_exact_duplicates_are_pairs_of_score_0_and_are_no_outliers():
    features = waves(9, 4, 0.2)
    features[[3, 7]] = features[1]
    neighbours = label_models.nearest_neighbours(features, 3)
    found = label_models.near_duplicates(neighbours)
    assert found.pairs.tolist() == [[1, 3], [1, 7], [3, 7]]
    assert np.flatnonzero(found.flags).tolist() == [1, 3, 7]
    np.testing.assert_array_equal(found.scores[[1, 3, 7]], 0)
    # Roundings are no distances, whatever the others are.
    np.testing.assert_array_equal(label_models.outlier_scores(np.full((3, 2), 1e-15)), 1)
    alike = label_models.nearest_neighbours(np.ones((5, 3)), 2)
    np.testing.assert_array_equal(label_models.outlier_scores(alike.distances), 1)
    assert label_models.near_duplicates(alike).flags.all()


def test_the_mixture_of_normals_after_ten_steps_and_when_it_has_converged():
    ten = label_models.loss_mixture(LOSSES)
    np.testing.assert_allclose(ten.means, [0.276599791373, 0.772547500923], **CLOSE)
    np.testing.assert_allclose(ten.weights[0], 0.64461098255, **CLOSE)
    np.testing.assert_allclose(ten.variances, [0.035109130889, 0.036844079542], **CLOSE)
    wanted = [0.986790617959, 0.999444376366, 0.997823476362, 0.784286779239, 0.002169767688]
    np.testing.assert_allclose(ten.clean[[0, 5, 10, 15, 18]], wanted, **CLOSE)
    converged = label_models.loss_mixture(LOSSES, num_steps=90)
    np.testing.assert_allclose(converged.means, [0.307995985966, 0.860210326126], **CLOSE)
    np.testing.assert_allclose(converged.weights[0], 0.737677629724, **CLOSE)
    np.testing.assert_allclose(converged.variances, [0.039960448663, 0.013671197822], **CLOSE)


def test_the_mixture_of_betas():
    found = label_models.beta_loss_mixture(LOSSES)
    np.testing.assert_allclose(found.alphas, [0.974768880863, 1.467336191647], **CLOSE)
    np.testing.assert_allclose(found.betas, [2.243946733597, 0.692182216188], **CLOSE)
    np.testing.assert_allclose(found.weights[0], 0.601704043216, **CLOSE)
    wanted = [0.183946637491, 0.029511666115, 0.10570315914, 0.347627948779, 0.687990239756]
    np.testing.assert_allclose(1 - found.clean[[0, 5, 10, 15, 17]], wanted, **CLOSE)


def test_the_largest_losses_are_not_clean_again_where_the_beta_density_falls():
    losses = np.concatenate([np.linspace(0, 1, 30) ** 0.5, np.full(10, 0.8)])
    clean = label_models.beta_loss_mixture(losses).clean[:30]
    assert clean.argmin() < 25
    np.testing.assert_array_equal(clean[clean.argmin() :], clean.min())


@pytest.mark.parametrize("mixture", [label_models.loss_mixture, label_models.beta_loss_mixture])
def test_a_mixture_of_any_losses_is_finite_and_blind_to_their_unit(mixture):
    clean = mixture(LOSSES).clean
    np.testing.assert_allclose(mixture(1e300 * LOSSES - 5e299).clean, clean, atol=1e-6)
    np.testing.assert_array_equal(mixture(np.full(4, 2.0)).clean, 0.5)
    for losses in ([1.0], [0.0, 1.0], [0.0] * 9 + [1e-30], [-1e308, 1e308, 0.0]):
        assert np.isfinite(np.concatenate(mixture(np.array(losses), num_steps=200))).all()
