"""Query weights against a linear program, sampling against its probabilities, scores by hand."""

import numpy as np
import pytest
from scipy.optimize import linprog

from lnl_jax import distill


def worst_case(weights, gains, wrong, cost):
    """What the weights are worth after the adversary's best answer."""
    lost = np.sort(weights * (gains + cost))[::-1]
    return (weights * gains).sum() - lost[:wrong].sum()


def program(gains, wrong, cost):
    """The value of the game: the sum of the m largest losses is min over t of m t + sum excess."""
    size = len(gains)
    # p, t, excess: maximise p g - m t - sum excess, excess >= p (g + cost) - t
    objective = np.concatenate([-gains, [wrong], np.ones(size)])
    bounds = np.hstack([np.diag(gains + cost), -np.ones((size, 1)), -np.eye(size)])
    total = np.concatenate([np.ones(size), np.zeros(size + 1)])[None]
    ranges = [(0, None)] * size + [(None, None)] + [(0, None)] * size
    found = linprog(objective, bounds, np.zeros(size), total, [1.0], ranges)
    return -found.fun


@pytest.mark.parametrize("costly", [False, True])
def test_query_weights_solve_the_game(rng, costly):
    solve = distill.selection.query_weights_with_cost if costly else distill.selection.query_weights
    for _ in range(30):
        size = int(rng.integers(2, 12))
        gains, wrong = rng.uniform(0.01, 1, size), int(rng.integers(0, size))
        weights = solve(gains, wrong)
        cost = 1 - gains if costly else 0 * gains
        assert weights.sum() == pytest.approx(1)
        assert (weights >= 0).all()
        value = worst_case(weights, gains, wrong, cost)
        assert value == pytest.approx(program(gains, wrong, cost), abs=1e-7)
    with pytest.raises(ValueError, match="wrong must be an integer from 0 to 1, got 2"):
        solve(np.ones(2), 2)


def test_samples_have_the_size_and_the_probabilities_asked_for(rng):
    inclusion = distill.selection.inclusion_probabilities(np.array([10.0, 1, 1, 2, 0, 4]), 3)
    # The first is certain; 2 of the others, in proportion: 4/8 of 2 is certain too.
    np.testing.assert_allclose(inclusion, [1, 0.25, 0.25, 0.5, 0, 1])
    draws = [distill.selection.systematic_sample(inclusion, rng) for _ in range(4000)]
    assert all(len(set(draw)) == 3 for draw in draws)
    found = np.bincount(np.concatenate(draws), minlength=6) / len(draws)
    np.testing.assert_allclose(found, inclusion, atol=5 * (0.25 / 4000) ** 0.5)
    with pytest.raises(ValueError, match="from 1 to the 5 positive weights, got 6"):
        distill.selection.inclusion_probabilities(np.array([10.0, 1, 1, 2, 0, 4]), 6)
    with pytest.raises(ValueError, match="integer sum"):
        distill.selection.systematic_sample(np.array([0.5, 0.7]), rng)


def test_scores_of_difficulty_by_hand():
    probabilities = np.array([[[1.0, 0], [0.5, 0.5]], [[1, 0], [0, 1]]])
    labels = np.array([0, 0])
    expected = [0, (0.5**0.5 + 2**0.5) / 2]
    np.testing.assert_allclose(distill.selection.el2n(probabilities, labels), expected)


def test_coverage_leaves_out_the_hardest_and_takes_from_every_stratum(rng):
    difficulty = np.concatenate([np.linspace(0, 0.1, 80), np.linspace(0.5, 0.6, 10), np.ones(10)])
    chosen = distill.selection.coverage_sample(difficulty, 20, rng, hardest=0.1, strata=2)
    assert len(set(chosen)) == 20
    assert chosen.max() < 90
    assert (chosen >= 80).sum() == 10
    with pytest.raises(ValueError, match="from 1 to the 90 that are left"):
        distill.selection.coverage_sample(difficulty, 91, rng)
