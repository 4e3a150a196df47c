import numpy as np
import pytest

from lnl_jax import comparison

LABEL = np.arange(60) % 2
X = LABEL[:, None] + np.random.default_rng(0).normal(size=(60, 3)) / 3
HARD = np.eye(2)[LABEL]


def trained(kinds, tests, **settings):
    """The rows and the logits."""
    rows, training = [], comparison.train_on_distributions(X, kinds, tests, **settings)
    while True:
        try:
            rows.append(next(training))
        except StopIteration as end:
            return rows, end.value


def test_networks_learn_the_distribution_they_are_given():
    kinds = {"hard": HARD, "smooth": 0.2 + 0.6 * HARD, "swapped": 1 - HARD, "again": HARD}
    settings = {"seeds": [0, 1], "epochs": 30, "hidden": (8,), "learning_rate": 0.1}
    rows, found = trained(kinds, {"same": X, "few": X[:4]}, **settings)
    assert [row["epoch"] for row in rows] == list(range(1, 31))
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert found["same"].shape == (4, 2, 60, 2)
    np.testing.assert_allclose(found["few"], found["same"][:, :, :4], atol=1e-5)
    hard, smooth, swapped, _ = (kind.argmax(-1) == LABEL for kind in found["same"])
    assert hard.mean() > 0.9
    assert smooth.mean() > 0.9
    assert swapped.mean() < 0.1
    # Whoever is given softer labels is less sure.
    margins = np.abs(found["same"][..., 1] - found["same"][..., 0]).mean((1, 2))
    assert margins[0] > 2 * margins[1]
    # Kinds of one seed are paired: nothing but the labels differs.
    np.testing.assert_allclose(found["same"][0], found["same"][3], atol=1e-5)
    assert np.abs(found["same"][0, 0] - found["same"][0, 1]).max() > 1e-3


REFUSED = {
    "other columns": (({"hard": HARD}, {"test": X[:, :2]}), {}, "tests must have the 3 columns"),
    "other examples": (({"hard": HARD[:9]}, {"test": X}), {}, r"distributions.*\[60, K\]"),
    "counts": (({"votes": 3 * HARD}, {"test": X}), {}, "sum to 1 in each row, those of votes do"),
    "NaN": (({"hard": np.nan * HARD}, {"test": X}), {}, "those of hard do not"),
    "no labels": (({}, {"test": X}), {}, "distributions must be at least one.*none"),
    "no epochs": (({"hard": HARD}, {"test": X}), {"epochs": 0}, "epochs must be"),
    "a negative rate": (({"hard": HARD}, {"test": X}), {"learning_rate": -1.0}, "learning_rate"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_named(case):
    arguments, settings, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        next(comparison.train_on_distributions(X, *arguments, **settings))
