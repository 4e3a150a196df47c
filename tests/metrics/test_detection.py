import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as reference

from lnl_jax.metrics import auroc, average_precision

EXAMPLES = 300


# Compiled together: they share the sorting, which takes most of the compiler's time.
@jax.jit
def compiled(scores, positives, where):
    return jnp.stack(
        [metric(scores, positives, where=where) for metric in (auroc, average_precision)]
    )


def measured(scores, positives, where=None):
    where = np.ones(np.shape(scores), bool) if where is None else where
    return np.asarray(compiled(np.float32(scores), positives, where))


def expected(scores, positives):
    """Of scikit-learn, which takes no infinite scores."""
    scores = np.clip(scores, -1e6, 1e6)
    return [
        reference.roc_auc_score(positives, scores),
        reference.average_precision_score(positives, scores),
    ]


@pytest.fixture
def drawn(rng):
    """Scores that are higher for the positives, a fifth of all, and a mask."""
    positives = rng.uniform(size=EXAMPLES) < 0.2
    scores = np.float32(rng.normal(size=EXAMPLES) + positives)
    return scores, positives, rng.uniform(size=EXAMPLES) < 0.6


@pytest.mark.parametrize("decimals", [5, 1, 0])
def test_values_are_those_of_scikit_learn_with_and_without_ties(drawn, decimals):
    scores, positives, _ = drawn
    scores = scores.round(decimals)
    np.testing.assert_allclose(measured(scores, positives), expected(scores, positives), rtol=1e-6)


@pytest.mark.parametrize("spoiled", [np.nan, np.inf, -np.inf, 0])
def test_masked_examples_equal_removed_ones_whatever_they_hold(drawn, spoiled):
    scores, positives, where = drawn
    scores = scores.round(1)
    found = measured(np.where(where, scores, spoiled), positives, where)
    np.testing.assert_allclose(found, expected(scores[where], positives[where]), rtol=1e-6)


def test_infinite_scores_are_the_largest_and_the_smallest(drawn):
    scores, positives, _ = drawn
    scores = np.where(scores > 1, np.inf, np.where(scores < -1, -np.inf, scores))
    np.testing.assert_allclose(measured(scores, positives), expected(scores, positives), rtol=1e-6)


@pytest.mark.parametrize(("decimals", "shift"), [(2, 0), (7, 5)])
def test_many_examples_are_counted_exactly(rng, decimals, shift):
    """The products of the two counts, 10^10, are far beyond the integers of float32."""
    positives = rng.uniform(size=200_000) < 0.3
    scores = np.float32(rng.normal(size=200_000) - shift * positives).round(decimals)
    np.testing.assert_allclose(
        compiled(scores, positives, None), expected(scores, positives), rtol=1e-6
    )


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_best_the_worst_and_the_indifferent_ranking(share):
    positives = np.arange(EXAMPLES) < EXAMPLES * share
    np.testing.assert_allclose(measured(positives, positives), 1, rtol=1e-6)
    assert measured(~positives, positives)[0] == 0
    for zeros in (np.zeros(EXAMPLES), np.where(np.arange(EXAMPLES) % 3, 0.0, -0.0)):
        np.testing.assert_allclose(measured(zeros, positives), [0.5, share], rtol=1e-6)


def test_the_area_of_reversed_scores_or_classes_is_the_rest(drawn):
    scores, positives, _ = drawn
    scores = scores.round(1)
    area = measured(scores, positives)[0]
    np.testing.assert_allclose(measured(-scores, positives)[0], 1 - area, rtol=1e-5)
    np.testing.assert_allclose(measured(scores, ~positives)[0], 1 - area, rtol=1e-5)


def test_only_the_order_of_the_scores_matters(drawn, rng):
    scores, positives, where = drawn
    found = measured(scores, positives, where)
    ranks = np.unique(scores, return_inverse=True)[1]
    np.testing.assert_allclose(measured(ranks, positives, where), found, rtol=1e-6)
    order = rng.permutation(EXAMPLES)
    shuffled = measured(scores[order], positives[order], where[order])
    np.testing.assert_allclose(shuffled, found, rtol=1e-6)


def test_a_value_that_is_not_defined_is_nan(drawn):
    scores, positives, where = drawn
    nowhere = np.zeros(EXAMPLES, bool)
    assert np.isnan(measured(scores, nowhere)).all()
    assert np.isnan(measured(scores, ~nowhere)).all()
    assert np.isnan(measured(scores, positives, positives)).all()
    assert np.isnan(measured(scores, positives, nowhere)).all()
    assert np.isnan(measured(scores[:0], positives[:0])).all()
    scores[np.flatnonzero(where)[0]] = np.nan
    assert np.isnan(measured(scores, positives, where)).all()


def test_vmap_ranks_every_row_on_its_own_and_one_call_ranks_all_together(drawn):
    rows = [part.reshape(3, 100) for part in drawn]
    found = np.asarray(jax.vmap(compiled)(*rows))
    for values, scores, positives, where in zip(found, *rows, strict=True):
        wanted = expected(scores[where], positives[where])
        np.testing.assert_allclose(values, wanted, rtol=1e-6)
    together = measured(*rows)
    np.testing.assert_allclose(together, measured(*drawn), rtol=1e-6)
    # Why they are no pair of a sum and a count.
    assert (np.abs(found.mean(0) - together) > 1e-4).all()
    assert found.dtype == np.float32


@pytest.mark.parametrize("metric", [auroc, average_precision])
@pytest.mark.parametrize(
    ("positives", "where", "text"),
    [
        (np.ones(3, bool), None, r"positives must be boolean of shape \(4,\).*of shape \(3,\)"),
        (np.ones((4, 1), bool), None, r"bool of shape \(4, 1\)"),
        (np.ones(4, np.int32), None, r"got int32 of shape \(4,\)"),
        (np.ones(4, bool), np.ones(3, bool), r"one entry per example, shape \(4,\); got \(3,\)"),
    ],
)
def test_arguments_that_do_not_fit_raise(metric, positives, where, text):
    with pytest.raises(ValueError, match=text):
        metric(np.zeros(4, np.float32), positives, where=where)
