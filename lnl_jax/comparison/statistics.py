"""Paired statistics over data sets, grids of settings and budgets, and settings as text."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lnl_jax._host_arguments import check_integer, check_number
from lnl_jax.comparison.runs import Setting


def paired_gain(values: np.ndarray, baseline: np.ndarray) -> dict[str, float | None]:
    """Mean and deviation of the difference over seeds, and its ratio to the standard error.

    Args:
        values: of a method, ``[D]``.
        baseline: of what it is compared with, on the same data sets, ``[D]``.

    Returns:
        ``gain``, ``std of gain`` and ``gain / its s.e.``; the last two are None of one data set.
    """
    differences = values - baseline
    gain, width = differences.mean(), standard_deviation(differences)
    ratio = gain / (width / len(differences) ** 0.5) if width else None
    return {"gain": gain, "std of gain": width, "gain / its s.e.": ratio}


def standard_deviation(values: np.ndarray) -> float | None:
    """That of a sample, ``[D]``; None of a single value."""
    return values.std(ddof=1) if len(values) > 1 else None


def mean_and_std(values: np.ndarray, name: str) -> dict[str, Any]:
    """Mean and deviation over seeds as columns.

    Args:
        values: ``[D]``.
        name: of the column of the mean.

    Returns:
        ``name`` and ``std of name``, which is None of one seed.
    """
    values = values.astype(np.float64)
    width = standard_deviation(values)
    return {name: float(values.mean()), f"std of {name}": None if width is None else float(width)}


def setting_text(setting: Setting) -> str:
    """A setting as text: ``q 0.7, learning_rate 0.1``; the numbers of a tuple with slashes."""
    return ", ".join(
        f"{key} {'/'.join(f'{part:g}' for part in np.atleast_1d(value))}"
        for key, value in setting.items()
    )


def grid(**values: Sequence[Any]) -> list[dict[str, Any]]:
    """All combinations of hyperparameters, the last key varying fastest.

    Args:
        **values: the values of each.

    Returns:
        Dicts with a value for each key.
    """
    return [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    ]


class LabelPurchase(NamedTuple):
    """What a budget buys of labels of two qualities.

    Attributes:
        budget: what may be spent.
        high: how many good labels.
        low: how many cheap ones.
        cost: of both together.

    Example:
        >>> LabelPurchase(10.0, 1, 4, 9.0).cost
        9.0
    """

    budget: float
    high: int
    low: int
    cost: float


def budget_grid(
    budgets: Sequence[float],
    shares: Sequence[float],
    *,
    high_cost: float,
    low_cost: float,
    most: int,
) -> list[LabelPurchase]:
    r"""What each budget buys where a share of it is spent on good labels, the rest on cheap ones.

    .. math::
        n_{hi} = \lfloor s B / c_{hi} \rfloor, \qquad
        n_{lo} = \lfloor (1 - s) B / c_{lo} \rfloor, \qquad
        n_{hi} + n_{lo} \le n

    Args:
        budgets: :math:`B`, each enough for one cheap label.
        shares: :math:`s`, from 0 to 1.
        high_cost: :math:`c_{hi}` of a good label.
        low_cost: :math:`c_{lo}` of a cheap one, no more.
        most: n, how many examples there are; none is labelled twice.

    Returns:
        The purchases, the shares of a budget after each other; none comes twice, and none of
        nothing. More good labels than there are examples are not bought.

    Raises:
        ValueError: if a number is out of range, or a budget does not buy a label; names both.

    Example:
        >>> found = budget_grid([20.0], [0, 0.5, 1], high_cost=10, low_cost=1, most=100)
        >>> [(one.high, one.low, one.cost) for one in found]
        [(0, 20, 20.0), (1, 10, 20.0), (2, 0, 20.0)]

    References:
        Mallen & Belrose, "Balancing Label Quantity and Quality for Scalable Elicitation" (2024),
        the cost of labels of two qualities.
    """
    check_number("low_cost", low_cost, above=0)
    check_number("high_cost", high_cost, at_least=low_cost)
    check_integer("most", most)
    for share in shares:
        check_number("shares", share, at_least=0, at_most=1)
    found = []
    for budget in budgets:
        check_number("budgets", budget, above=0)
        if budget < low_cost:
            raise ValueError(
                f"budgets must each buy a label: {budget:g} is less than low_cost, {low_cost:g}."
            )
        for share in shares:
            # Dividing rounds: a tenth of a budget is to buy the label that costs a tenth.
            high = min(int(share * budget / high_cost + 1e-9), most)
            low = min(int((1 - share) * budget / low_cost + 1e-9), most - high)
            cost = float(high * high_cost + low * low_cost)
            found.append(LabelPurchase(float(budget), high, low, cost))
    return [one for one in dict.fromkeys(found) if one.high + one.low]


def pareto_front(costs: ArrayLike, values: ArrayLike) -> np.ndarray:
    r"""What is worth its cost: no other one is better for no more, or as good for less.

    .. math::
        i \text{ is on the front} \iff \nexists j: \;
        c_j \le c_i, \; v_j \ge v_i, \; (c_j, v_j) \ne (c_i, v_i)

    Args:
        costs: ``[N]``.
        values: such as accuracies, larger is better, ``[N]``; NaN is never on the front.

    Returns:
        Boolean, ``[N]``; of equals in both all are on it, or none.

    Raises:
        ValueError: if there is not one number of each, or a cost is not finite.

    Example:
        >>> pareto_front([1, 2, 2, 3], [0.5, 0.7, 0.6, 0.7]).tolist()
        [True, True, False, False]
    """
    costs, values = np.asarray(costs, np.float64), np.asarray(values, np.float64)
    if costs.ndim != 1 or costs.shape != values.shape:
        raise ValueError(
            f"costs and values must be of one length, [N]; got {costs.shape} and {values.shape}."
        )
    if not np.isfinite(costs).all():
        raise ValueError("costs must be finite; leave out what has no cost.")
    values = np.where(np.isnan(values), -np.inf, values)
    order = np.lexsort((-values, costs))
    sorted_values = values[order]
    before = np.maximum.accumulate(np.concatenate([[-np.inf], sorted_values]))[:-1]
    better = sorted_values > before
    # Equals of one that is on the front come right after it.
    for at in range(1, len(order)):
        same = costs[order[at]] == costs[order[at - 1]]
        if same and sorted_values[at] == sorted_values[at - 1]:
            better[at] = better[at - 1]
    found = np.zeros(len(costs), bool)
    found[order] = better
    return found
