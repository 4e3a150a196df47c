"""Runs of a comparison of losses by condition: what validation chooses, means, average ranks.

A row has the columns `dataset`, `noise` (clean, uniform or class_dependent), `rate`, `loss`,
`setting` (the hyperparameters as text), `learning_rate`, `fold`, `seed`, `validation_accuracy` (on
noisy labels), `top_1` to `top_5` (on clean test labels, as fractions) and, of ALDR-KL,
`temperature_clean` and `temperature_mislabelled`. Of labels of which it is not known whether
they are right the column `labels` says given; then the noise without changes is called none, and
columns are named as of `as_given`. A run that diverged has NaN for its accuracies. A data set with
one noise at one rate is called a condition here.

A mean is over the runs that did not diverge, and says of how many they are; where losses are put in
order, a diverged run counts as an accuracy of 0, so that a loss gains nothing from it. Equal means
share the mean of their ranks. Ranks are averaged over the conditions that every loss has been
trained in.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lnl_jax.runner.outputs import Row

ACCURACIES = tuple(f"top_{k}" for k in range(1, 6))
NOISES = ("clean", "none", "uniform", "class_dependent")
# Where no label is changed.
UNCHANGED = ("clean", "none")
# How columns are called where the labels before the noise need not be right.
GIVEN = {"memorized": "changed_labels_fitted", "temperature_clean": "temperature_unchanged"}
GIVEN |= {"temperature_mislabelled": "temperature_changed"}
DECIMALS = 2  # of a percentage; what is equal when written so is bold or underlined together


class Condition(NamedTuple):
    """A data set with one noise at one rate.

    Attributes:
        dataset: its name.
        noise: its name.
        rate: how many labels it changes.
        labels: what the test labels are, clean or given.
    """

    dataset: str
    noise: str
    rate: float
    labels: str = "clean"

    @property
    def title(self) -> str:
        """The noise and its rate."""
        return self.noise if self.noise in UNCHANGED else f"{self.noise} {self.rate:g}"


class Cell(NamedTuple):
    """An accuracy of one loss in one condition, in percent.

    Attributes:
        mean: over the runs that did not diverge; NaN where there is none.
        std: their standard deviation; NaN of fewer than two.
        finite: how many they are.
        runs: how many runs there are.
    """

    mean: float
    std: float
    finite: int
    runs: int

    @property
    def score(self) -> float:
        """The mean with 0 for the runs that diverged, by which losses are put in order."""
        return round(self.mean * self.finite / self.runs, 9) if self.finite else 0.0


Cells = Mapping[tuple[Condition, str], Cell]


def select(rows: Iterable[Row]) -> list[Row]:
    """The runs of the setting and learning rate that validation chooses, per condition and loss.

    Chosen is the best mean accuracy on noisy validation labels over folds and seeds, among those
    with the most runs that are there and did not diverge; the first of equals. The test labels play
    no part. Where every run diverged, those of the first setting are returned.

    Args:
        rows: one per run.

    Returns:
        The chosen rows, as they were given.
    """
    grouped: dict[tuple, dict[tuple, list[Row]]] = {}
    for row in rows:
        candidates = grouped.setdefault((condition_of(row), row["loss"]), {})
        candidates.setdefault((row["setting"], row["learning_rate"]), []).append(row)
    return [
        row for candidates in grouped.values() for row in max(candidates.values(), key=_validation)
    ]


def _validation(runs: Sequence[Row]) -> tuple[int, float]:
    """By what a setting is chosen: the number of runs that did not diverge, and their mean."""
    values = numbers(runs, "validation_accuracy")
    finite = values[np.isfinite(values)]
    return len(finite), float(finite.mean()) if len(finite) else -math.inf


def condition_of(row: Row) -> Condition:
    """The condition of a run."""
    labels = row.get("labels") or "clean"
    return Condition(row["dataset"], row["noise"], float(row["rate"]), labels)


def as_given(rows: Iterable[Row]) -> list[Row]:
    """The runs on labels that somebody gave: no column claims to know which are right.

    Args:
        rows: one per run.

    Returns:
        The rows with ``labels`` given, under the names of `GIVEN`; without what is NaN in all, as
        there is no label that was changed.
    """
    named = [
        {GIVEN.get(name, name): value for name, value in row.items()} | {"labels": "given"}
        for row in rows
    ]
    empty = {name for name in GIVEN.values() if not np.isfinite(numbers(named, name)).any()}
    return [{name: value for name, value in row.items() if name not in empty} for row in named]


def conditions_of(rows: Iterable[Row]) -> list[Condition]:
    """All conditions: data sets as they come, clean first, then each noise from low to high."""
    found = dict.fromkeys(map(condition_of, rows))
    datasets = list(dict.fromkeys(condition.dataset for condition in found))
    noises = [*NOISES, *sorted({condition.noise for condition in found} - {*NOISES})]
    return sorted(found, key=lambda c: (datasets.index(c.dataset), noises.index(c.noise), c.rate))


def losses_of(rows: Iterable[Row]) -> list[str]:
    """All losses, in the order in which they come."""
    return list(dict.fromkeys(row["loss"] for row in rows))


def numbers(rows: Iterable[Row], column: str) -> np.ndarray:
    """A column in float64; NaN where it is absent or empty."""
    values = (row.get(column) for row in rows)
    return np.array([math.nan if value in (None, "") else value for value in values], np.float64)


def cells_of(chosen: Iterable[Row], column: str) -> dict[tuple[Condition, str], Cell]:
    """An accuracy of the chosen runs by condition and loss."""
    grouped: dict[tuple[Condition, str], list[Row]] = {}
    for row in chosen:
        grouped.setdefault((condition_of(row), row["loss"]), []).append(row)
    return {key: _cell(100 * numbers(runs, column)) for key, runs in grouped.items()}


def _cell(values: np.ndarray) -> Cell:
    finite = values[np.isfinite(values)]
    mean = float(finite.mean()) if len(finite) else math.nan
    std = float(finite.std(ddof=1)) if len(finite) > 1 else math.nan
    return Cell(mean, std, len(finite), len(values))


def complete(
    cells: Cells, conditions: Sequence[Condition], losses: Sequence[str]
) -> list[Condition]:
    """The conditions in which every loss has runs."""
    return [c for c in conditions if all((c, loss) in cells for loss in losses)]


def scores(cells: Cells, conditions: Sequence[Condition], losses: Sequence[str]) -> np.ndarray:
    """What is ranked, ``[complete conditions, losses]``: more is better."""
    kept = complete(cells, conditions, losses)
    values = [[cells[condition, loss].score for loss in losses] for condition in kept]
    return np.array(values).reshape(len(kept), len(losses))


def average_ranks(
    cells: Cells, conditions: Sequence[Condition], losses: Sequence[str]
) -> dict[str, float]:
    """The mean over complete conditions of each loss's rank, 1 is best; empty without any."""
    from scipy.stats import rankdata

    values = scores(cells, conditions, losses)
    if not values.size:
        return {}
    ranks = rankdata(-values, axis=1).mean(0)
    return dict(zip(losses, ranks.tolist(), strict=True))


def best_first(losses: Sequence[str], ranks: Mapping[str, float]) -> list[str]:
    """The losses by their average rank; as they are where there is none."""
    return sorted(losses, key=lambda loss: ranks.get(loss, math.inf))


def places(cells: Mapping[str, Cell]) -> dict[str, int]:
    """The losses of a column that are best (1) and second (2), as many as look equal."""
    shown = {loss: round(cell.score, DECIMALS) for loss, cell in cells.items() if cell.finite}
    order = sorted(set(shown.values()), reverse=True)[:2]
    return {loss: order.index(value) + 1 for loss, value in shown.items() if value in order}
