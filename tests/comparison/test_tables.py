import csv
import math
import re

import numpy as np
import pytest
from scipy import stats

from lnl_jax.comparison.conditions import (
    ACCURACIES,
    Condition,
    average_ranks,
    cells_of,
    conditions_of,
    losses_of,
    places,
    select,
)
from lnl_jax.comparison.figures import cliques, compare_ranks, critical_difference, figures
from lnl_jax.comparison.tables import tables
from tests.comparison.benchmark_rows import CONDITIONS, PAPER, make_rows

CLEAN, UNIFORM = CONDITIONS[0], ("uniform", 0.6)
NAN = dict.fromkeys(("validation_accuracy", *ACCURACIES), math.nan)


def run(loss, accuracy, *, validation=0.5, condition=CLEAN, setting="", fold=0, rate=0.1):
    """A row with the given accuracies; all top-k are the same."""
    row = {"dataset": "letter", "noise": condition[0], "rate": condition[1], "loss": loss}
    row |= {"setting": setting, "learning_rate": rate, "fold": fold, "seed": 0, "epochs": 1}
    row |= dict.fromkeys(ACCURACIES, accuracy) | {"validation_accuracy": validation}
    return row


def runs(loss, accuracies, **arguments):
    """A row per fold."""
    return [run(loss, value, fold=i, **arguments) for i, value in enumerate(accuracies)]


def artifacts(rows):
    return {name: value for name, value in tables(rows)}


def lines(markdown):
    """The cells of a Markdown table, by the first of each line."""
    rows = [line[2:-2].split(" | ") for line in markdown.decode().splitlines() if "|" in line]
    return {row[0].strip("`"): row[1:] for row in rows}


def test_validation_chooses_and_the_test_labels_never_do():
    rng = np.random.default_rng(0)
    rows = make_rows(("ldr_kl", "aldr_kl"), CONDITIONS[:2])
    chosen = select(rows)
    shuffled = [dict(row, **dict.fromkeys(ACCURACIES, rng.random())) for row in rows]
    for a, b in zip(chosen, select(shuffled), strict=True):
        assert {k: a[k] for k in a if k not in ACCURACIES} == {
            k: b[k] for k in b if k not in ACCURACIES
        }
    for condition, rate in CONDITIONS[:2]:
        for loss in ("ldr_kl", "aldr_kl"):
            mine = [
                r for r in rows if (r["noise"], r["rate"], r["loss"]) == (condition, rate, loss)
            ]
            settings = {(r["setting"], r["learning_rate"]) for r in mine}
            means = {
                setting: np.mean(
                    [
                        r["validation_accuracy"]
                        for r in mine
                        if (r["setting"], r["learning_rate"]) == setting
                    ]
                )
                for setting in settings
            }
            expected = max(means, key=means.get)
            kept = [r for r in mine if (r["setting"], r["learning_rate"]) == expected]
            assert [r for r in chosen if r in mine] == kept
            assert len(kept) == 5


def test_diverged_runs_are_not_chosen_while_a_setting_without_any_is_there():
    lucky = runs("ce", [0.9, 0.9], validation=0.9, setting="a")
    lucky[1] |= NAN
    steady = runs("ce", [0.5, 0.5], validation=0.5, setting="b")
    assert select(lucky + steady) == steady
    assert select(lucky) == lucky
    diverged = [row | NAN for row in steady]
    assert select(diverged + lucky) == lucky
    assert select(diverged) == diverged


def test_an_empty_set_of_rows_gives_no_ranks_and_no_figures():
    assert select([]) == []
    assert list(artifacts([])) == ["chosen.csv"]
    assert list(figures([])) == []


def test_means_and_deviations_are_those_of_the_folds_in_percent():
    values = [0.7, 0.72, 0.77]
    cells = cells_of(select(runs("ce", values)), "top_1")
    (cell,) = cells.values()
    assert cell.mean == pytest.approx(100 * np.mean(values))
    assert cell.std == pytest.approx(100 * np.std(values, ddof=1))
    table = artifacts(runs("ce", values))["letter_top_1"]
    assert table == [{"loss": "ce", "clean": "73.00 ± 3.61"}]


def test_the_best_are_bold_and_the_second_underlined_ties_together():
    rows = runs("c", [0.5]) + runs("b", [0.8]) + runs("a", [0.6]) + runs("d", [0.60000001])
    rows += runs("e", [0.8])
    found = lines(artifacts(rows)["letter_top_1.md"])
    assert found["b"] == found["e"] == ["**80.00**"]
    assert found["a"] == found["d"] == ["<u>60.00</u>"]
    assert found["c"] == ["50.00"]
    tex = artifacts(rows)["letter_top_1.tex"].decode()
    assert re.findall(r"(\w) & \$\\mathbf\{80.00\}\$", tex) == ["b", "e"]
    assert set(re.findall(r"(\w) & \$\\underline\{60.00\}\$", tex)) == {"a", "d"}


def test_a_loss_that_diverged_says_so_and_gains_nothing_from_it():
    rows = runs("half", [0.9, 0.9]) + runs("steady", [0.5, 0.5])
    rows[1] |= NAN
    rows += [row | NAN for row in runs("never", [0.0, 0.0])]
    found = artifacts(rows)
    table = lines(found["letter_top_1.md"])
    assert table["half"] == ["<u>90.00 (1/2)</u>"]
    assert table["steady"] == ["**50.00 ± 0.00**"]
    assert table["never"] == ["diverged"]
    assert b"n of m runs" in found["letter_top_1.md"]
    assert b"n of m runs" not in artifacts(runs("steady", [0.5]))["letter_top_1.md"]
    ranks = {row["loss"]: row["top_1"] for row in found["average_ranks"]}
    assert ranks == {"steady": 1, "half": 2, "never": 3}
    (line,) = [
        row
        for row in csv.DictReader(found["chosen.csv"].decode().splitlines())
        if row["loss"] == "never"
    ]
    assert (line["finite"], line["runs"], line["top_1 %"]) == ("0", "2", "NaN")


def test_average_ranks_are_those_of_scipy_with_ties_shared():
    rows = make_rows()
    conditions, losses = conditions_of(rows), losses_of(rows)
    chosen = select(rows)
    cells = cells_of(chosen, "top_3")
    means = [[cells[c, loss].mean for loss in losses] for c in conditions]
    expected = stats.rankdata(-np.array(means), axis=1).mean(0)
    assert average_ranks(cells, conditions, losses) == dict(zip(losses, expected, strict=True))
    board = artifacts(rows)["average_ranks"]
    assert [row["top_1"] for row in board] == sorted(row["top_1"] for row in board)
    tied = runs("a", [0.5]) + runs("b", [0.5]) + runs("c", [0.4])
    ranks = average_ranks(cells_of(tied, "top_1"), conditions_of(tied), losses_of(tied))
    assert ranks == {"a": 1.5, "b": 1.5, "c": 3.0}


def test_ranks_leave_out_a_condition_that_a_loss_has_no_runs_in():
    rows = runs("a", [0.5]) + runs("b", [0.6]) + runs("a", [0.9], condition=UNIFORM)
    found = artifacts(rows)
    ranks = {row["loss"]: row["top_1"] for row in found["average_ranks"]}
    assert ranks == {"b": 1, "a": 2}
    assert b"over 1 condition," in found["average_ranks.md"]
    assert lines(found["letter_top_1.md"])["b"] == ["**60.00**", ""]
    apart = runs("a", [0.5]) + runs("b", [0.6], condition=UNIFORM)
    assert "average_ranks" not in artifacts(apart)


def test_columns_are_clean_first_then_by_noise_and_rate_one_table_per_data_set():
    rows = make_rows(("a", "b"), CONDITIONS[::-1], ("vowel", "letter"), folds=2)
    found = artifacts(rows)
    titles = [Condition("", *condition).title for condition in CONDITIONS]
    assert titles[:2] == ["clean", "uniform 0.3"]
    for dataset in ("letter", "vowel"):
        assert list(found[f"{dataset}_top_1"][0]) == ["loss", *titles]
        assert found[f"{dataset}_top_1_to_5.md"].decode().count("## ") == len(titles)
    assert b"over 14 conditions" in found["average_ranks.md"]


def test_the_latex_is_balanced_and_escaped():
    tex = artifacts(make_rows(folds=2))["letter_top_1.tex"].decode()
    body = "\n".join(line for line in tex.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[_%#]", body)
    assert "truncated\\_generalized\\_cross\\_entropy & " in body
    assert body.count("{") == body.count("}")
    assert body.count("$") % 2 == 0
    rows = re.findall(r"^(.*) \\\\$", body, re.M)
    assert len(rows) == 1 + len(PAPER)
    assert {row.count("&") for row in rows} == {len(CONDITIONS)}
    assert r"\begin{tabular}{lccccccc}" in body
    order = [r"\begin{tabular}", r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"]
    assert sorted(order, key=body.index) == order


# Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets" (JMLR 2006), table 5(a).
@pytest.mark.parametrize(("losses", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_the_critical_difference_is_that_of_the_published_table(losses, q):
    expected = q * math.sqrt(losses * (losses + 1) / (6 * 14))
    assert critical_difference(losses, 14) == pytest.approx(expected, abs=1e-3)


def test_friedmans_test_is_over_the_conditions():
    rows = make_rows(PAPER[:4])
    conditions, losses = conditions_of(rows), losses_of(rows)
    cells = cells_of(select(rows), "top_1")
    means = np.array([[cells[c, loss].mean for c in conditions] for loss in losses])
    found = compare_ranks(cells, conditions, losses)
    assert found.p_value == pytest.approx(stats.friedmanchisquare(*means).pvalue)
    assert list(found.ranks.values()) == sorted(found.ranks.values())
    assert found.conditions == len(CONDITIONS)
    equal = [row | NAN for row in rows]
    assert math.isnan(compare_ranks(cells_of(equal, "top_1"), conditions, losses).p_value)
    assert compare_ranks(cells, conditions, losses[:2]) is None
    assert compare_ranks(cells, conditions[:1], losses) is None


def test_bars_join_the_largest_groups_within_the_difference():
    assert cliques([1.0, 2.0, 3.0, 6.0], 1.5) == [(0, 1), (1, 2)]
    assert cliques([1.0, 2.0, 3.0, 6.0], 2.0) == [(0, 2)]
    assert cliques([1.0, 3.0], 1.0) == []
    assert cliques([2.0, 2.0], 0.5) == [(0, 1)]


def test_places_need_a_run_that_did_not_diverge():
    rows = [row | NAN for row in runs("a", [0.0])] + runs("b", [0.0])
    cells = {loss: cell for (_, loss), cell in cells_of(rows, "top_1").items()}
    assert places(cells) == {"b": 1}


def test_figures_draw_every_loss_and_leave_out_what_diverged():
    rows = make_rows(PAPER, CONDITIONS[:3], folds=2)
    for row in rows:
        if (row["loss"], row["rate"]) == ("aldr_kl", 0.6):
            row |= NAN
    drawn = {name: figure for name, figure in figures(rows)}
    assert list(drawn) == ["critical_difference", "accuracy_against_noise", "aldr_kl_temperatures"]
    texts = [text.get_text() for text in drawn["critical_difference"].axes[0].texts]
    for loss in PAPER:
        assert sum(loss in text.split() for text in texts) == 1
    (panel,) = drawn["accuracy_against_noise"].axes
    curves = {line.get_label(): line.get_ydata() for line in panel.lines}
    assert len(panel.lines) == len(PAPER)
    assert len([label for label in curves if not label.startswith("_")]) == 5 + 1 + 1
    finite = [np.isfinite(line.get_ydata()).tolist() for line in panel.lines]
    assert sorted(finite) == [[True, True, False]] + [[True] * 3] * (len(PAPER) - 1)
    cells = cells_of(select(rows), "top_1")
    expected = [cells[Condition("letter", *c), "cross_entropy"].mean for c in CONDITIONS[:3]]
    np.testing.assert_allclose(curves["cross_entropy"], expected)


def test_temperatures_are_drawn_only_where_a_loss_has_them():
    assert [name for name, _ in figures(make_rows(PAPER[2:5], CONDITIONS[:2], folds=1))] == [
        "critical_difference",
        "accuracy_against_noise",
    ]
