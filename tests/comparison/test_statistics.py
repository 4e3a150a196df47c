"""What a budget buys, and what is worth its cost."""

import re

import numpy as np
import pytest

from lnl_jax.comparison import LabelPurchase, budget_grid, pareto_front


def is_on_front(costs, values, i):
    return not any(
        c <= costs[i] and v >= values[i] and (c, v) != (costs[i], values[i])
        for c, v in zip(costs, values, strict=True)
    )


def test_the_front_is_what_nothing_dominates_equals_and_ties_included(rng):
    for _ in range(20):
        costs, values = rng.integers(0, 6, size=(2, 15))
        wanted = [is_on_front(costs, values, i) for i in range(15)]
        assert pareto_front(costs, values).tolist() == wanted


def test_what_has_no_value_is_on_no_front():
    assert pareto_front([0, 1], [np.nan, 0.5]).tolist() == [False, True]
    assert pareto_front([], []).tolist() == []


def test_a_budget_is_spent_as_far_as_it_buys_whole_labels():
    found = budget_grid([10.0, 25.0], [0.0, 0.5, 1.0], high_cost=10, low_cost=2, most=6)
    assert found == [
        LabelPurchase(10.0, 0, 5, 10.0),
        LabelPurchase(10.0, 0, 2, 4.0),
        LabelPurchase(10.0, 1, 0, 10.0),
        # No more than there are examples.
        LabelPurchase(25.0, 0, 6, 12.0),
        LabelPurchase(25.0, 1, 5, 20.0),
        LabelPurchase(25.0, 2, 0, 20.0),
    ]
    # What buys nothing is left out.
    assert budget_grid([5.0], [1.0], high_cost=10, low_cost=1, most=9) == []
    (tenth,) = budget_grid([0.3], [1.0], high_cost=0.1, low_cost=0.1, most=9)
    assert tenth.high == 3


REFUSED = {
    "a budget below a label": (
        lambda: budget_grid([5, 0.5], [0], high_cost=2, low_cost=1, most=3),
        "budgets must each buy a label: 0.5 is less than low_cost, 1.",
    ),
    "cheap labels that cost more": (
        lambda: budget_grid([5], [0], high_cost=1, low_cost=2, most=3),
        "high_cost must be a finite number at least 2",
    ),
    "a share above 1": (
        lambda: budget_grid([5], [2], high_cost=2, low_cost=1, most=3),
        "shares must be a finite number at least 0 and at most 1, got 2",
    ),
    "costs of others": (lambda: pareto_front([1, 2], [1]), "got (2,) and (1,)"),
    "no cost": (lambda: pareto_front([np.inf], [1]), "costs must be finite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused_in_a_line(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
