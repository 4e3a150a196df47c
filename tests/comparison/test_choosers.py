"""Runs of a grid: what is chosen by a score, and what the choice loses."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from lnl_jax.comparison import choosers

SETTINGS = [
    {"method": "plain", "temperature": 0.1, "rho": 0.0},
    {"method": "plain", "temperature": 0.5, "rho": 0.0},
    {"method": "learnt", "temperature": 0.1, "rho": 0.2},
    {"method": "learnt", "temperature": 0.1, "rho": 0.4},
    {"method": "learnt", "temperature": 0.5, "rho": 0.2},
    {"method": "learnt", "temperature": 0.5, "rho": 0.4},
]


@pytest.fixture
def cells(rng):
    def measured():
        names = ("validation", "test", "rank", "distance")
        return {name: np.float32(rng.uniform(size=(3, len(SETTINGS)))) for name in names}

    return choosers.Cells(SETTINGS, {(8, 1.0): measured(), (64, 1.0): measured()}, ("size", "tail"))


def test_the_setting_of_the_highest_score_is_chosen_for_each_seed(rng):
    score, value = rng.normal(size=(2, 4, 7))
    score[1, 2] = np.nan
    expected = [v[np.nanargmax(s)] for s, v in zip(score, value, strict=True)]
    np.testing.assert_array_equal(choosers.at_highest(score, value), expected)


def test_a_regret_is_what_labels_would_have_found_besides(rng):
    score, value, best = rng.normal(size=(3, 4, 7))
    found = choosers.regrets({"rank": score}, value, best)
    for seed in range(4):
        wanted = value[seed, best[seed].argmax()]
        assert found["rank"][seed] == wanted - value[seed, score[seed].argmax()]
        np.testing.assert_allclose(found["at random"][seed], wanted - value[seed].mean())
    # By the value itself nothing is chosen that is worse than by labels.
    assert (choosers.regrets({"test": value}, value, best)["test"] <= 0).all()


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (np.ones((2, 3)), "must have one shape"),
        (np.full((2, 4), np.nan), "must not be NaN for all"),
    ],
)
def test_scores_that_choose_nothing_are_named(score, text):
    with pytest.raises(ValueError, match=text):
        choosers.at_highest(score, np.ones((2, 4)))


def test_the_correlation_of_ranks_is_that_of_scipy_with_ties(rng):
    score, value = rng.integers(0, 4, size=(2, 5, 12))
    expected = [spearmanr(s, v).statistic for s, v in zip(score, value, strict=True)]
    np.testing.assert_allclose(choosers.rank_correlation(score, value), expected, atol=1e-12)
    assert np.isnan(choosers.rank_correlation(np.ones((1, 4)), value[:1, :4])).all()


def test_a_line_of_a_method_is_of_its_settings_alone(cells):
    lines = choosers.method_table(cells, "temperature")
    assert [(line["size"], line["method"]) for line in lines] == [
        (8, "plain"),
        (8, "learnt"),
        (64, "plain"),
        (64, "learnt"),
    ]
    test, validation = (
        100 * np.float64(cells.found[8, 1.0][key]) for key in ("test", "validation")
    )
    chosen = {}
    for name, own in (("plain", slice(0, 2)), ("learnt", slice(2, 6))):
        best = validation[:, own].argmax(1)
        chosen[name] = test[:, own][np.arange(3), best]
    line = lines[1]
    np.testing.assert_allclose(line["chosen by validation %"], chosen["learnt"].mean())
    np.testing.assert_allclose(line["gain"], (chosen["learnt"] - chosen["plain"]).mean())
    np.testing.assert_allclose(line["all settings %"], test[:, 2:].mean())
    # From one temperature to the other at a rho of 0.2, and at one of 0.4.
    width = (abs(test[:, 2] - test[:, 4]) + abs(test[:, 3] - test[:, 5])) / 2
    np.testing.assert_allclose(line["range over temperature"], width.mean())


def test_a_chooser_of_which_less_is_better_chooses_the_least(cells):
    lines = choosers.chooser_table(cells, {"rank": 1, "distance": -1})
    assert [line["method"] for line in lines[::3]] == ["plain", "learnt", "all"]
    assert [line["chooser"] for line in lines[:3]] == ["rank", "distance", "at random"]
    regrets = []
    for found in cells.found.values():
        test = 100 * np.float64(found["test"])
        seeds = np.arange(3)
        least, best = found["distance"].argmin(1), found["validation"].argmax(1)
        regrets.append(test[seeds, best] - test[seeds, least])
    found = next(x for x in lines if (x["method"], x["chooser"]) == ("all", "distance"))
    np.testing.assert_allclose(found["regret"], np.mean(regrets))
    np.testing.assert_allclose(found["std of regret"], np.mean(regrets, axis=0).std(ddof=1))
    chance = next(x for x in lines if (x["method"], x["chooser"]) == ("all", "at random"))
    np.testing.assert_allclose(found["gain over chance"], chance["regret"] - found["regret"])


def test_the_spread_of_a_method_is_over_all_cells(cells):
    plain, learnt = choosers.spread_table(cells, "temperature")
    widths = {"plain": [], "learnt": []}
    for found in cells.found.values():
        test = 100 * np.float64(found["test"])
        widths["plain"].append(abs(test[:, 0] - test[:, 1]))
        widths["learnt"].append((abs(test[:, 2] - test[:, 4]) + abs(test[:, 3] - test[:, 5])) / 2)
    means = {name: np.mean(each, axis=0) for name, each in widths.items()}
    np.testing.assert_allclose(plain["range over temperature"], means["plain"].mean())
    difference = means["learnt"] - means["plain"]
    np.testing.assert_allclose(learnt["above plain"], difference.mean())
    np.testing.assert_allclose(learnt["std of above plain"], difference.std(ddof=1))


def test_every_cell_and_setting_has_a_line_and_every_curve_its_seeds(cells):
    lines = choosers.run_table(cells)
    assert len(lines) == 12
    np.testing.assert_allclose(lines[7]["test %"], 100 * cells.found[64, 1.0]["test"][:, 1].mean())
    np.testing.assert_allclose(lines[7]["rank"], cells.found[64, 1.0]["rank"][:, 1].mean())
    values, curves = choosers.along_curves(cells, (8, 1.0), "temperature")
    assert values == ["0.1", "0.5"]
    np.testing.assert_allclose(
        curves["learnt"][:, 1], 100 * cells.found[8, 1.0]["test"][:, 4:].mean(1), rtol=1e-6
    )
    gains = choosers.chosen_curves(cells, list(cells.found), gain=True)
    assert {name: values.shape for name, values in gains.items()} == {"learnt": (3, 2)}
    panels = choosers.regret_panels(cells, {"rank": 1})
    assert [list(panel.ticks) for panel in panels] == [["rank", "at random"]] * 3
    figure = choosers.bands_figure(panels, "title")
    assert len(figure.axes) == 3
