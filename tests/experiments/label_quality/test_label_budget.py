"""Good labels against cheap ones: what is bought, what is refused, and when each is best."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.label_quality import label_budget as module
from lnl_jax import losses
from lnl_jax.runner import Artifact, StudyError


def rows_of(accuracies):
    """Of one budget: right labels, cheap ones -> accuracy."""
    return [
        {"method": "m", "budget": 10.0, "high": high, "low": low, "accuracy %": value, "std": 0.0}
        for (high, low), value in accuracies.items()
    ]


@pytest.mark.parametrize(
    ("best", "regime"), [((0, 10), "quantity"), ((1, 0), "quality"), ((1, 5), "mixed")]
)
def test_the_regime_of_a_budget_is_what_is_bought_best(best, regime):
    accuracies = dict.fromkeys([(0, 10), (1, 0), (1, 5)], 50.0) | {best: 60.0}
    (row,) = module._regimes(rows_of(accuracies))
    assert row["regime"] == regime
    assert (row["only right %"], row["only cheap %"]) == (accuracies[1, 0], accuracies[0, 10])


def test_the_confidence_loss_takes_the_thresholds_of_its_batch():
    logits, labels = jnp.array([[2.0, 0.0], [0.5, 0.0], [0.0, 1.0]]), jnp.array([0, 1, 1])
    thresholds = losses.confidence_thresholds(logits, labels)
    wanted = losses.log_confidence(logits, labels, weight=0.5, thresholds=thresholds)
    found = module.METHODS["log_confidence"].function(logits.T, labels, weight=0.5, axis=0)
    np.testing.assert_allclose(found, wanted, 1e-6)


REFUSED = {
    "a budget below a label": ({"budgets": (0.5,)}, "must each buy a label: 0.5 is less than low"),
    "none buys a right one": ({"budgets": (5.0,), "shares": (1.0,)}, "buys a label of 10"),
    "cheap labels that cost more": ({"low_cost": 20.0}, "high_cost must be .* at least 20"),
    "an unknown method": ({"methods": ("log_confidense",)}, "did you mean log_confidence"),
    "a budget twice": ({"budgets": (9.0, 9.0)}, "budgets must not name anything twice"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_a_line(case):
    arguments, message = REFUSED[case]
    with pytest.raises(StudyError, match=message) as error:
        next(module.label_budget(**arguments))
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_more_is_better_and_right_labels_are_better_than_as_many_cheap_ones():
    found = module.label_budget(
        budgets=(100.0, 5000.0),
        shares=(0.0, 1.0),
        methods=("cross_entropy",),
        seeds=2,
        high_cost=5.0,
    )
    artifacts = {one.name: one.value for one in found if isinstance(one, Artifact)}
    accuracy = {(row["high"], row["low"]): row["accuracy %"] for row in artifacts["results"]}
    assert accuracy[997, 0] > accuracy[0, 997] > accuracy[0, 100]
    assert accuracy[997, 0] > accuracy[20, 0]
    front = [row for row in artifacts["results"] if row["on the front"]]
    assert front[-1]["high"] == 997
