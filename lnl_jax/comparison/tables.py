"""Tables of a comparison of losses, made from one row per run.

A row has the columns `dataset`, `noise` (clean, uniform or class_dependent), `rate`, `loss`,
`setting` (the hyperparameters as text), `learning_rate`, `fold`, `seed`, `validation_accuracy` (on
noisy labels), `top_1` to `top_5` (on clean test labels, as fractions) and, of ALDR-KL,
`temperature_clean` and `temperature_mislabelled`. A run that diverged has NaN for its accuracies. A
data set with one noise at one rate is called a condition here.

A mean is over the runs that did not diverge, and says of how many they are; where losses are put in
order, a diverged run counts as an accuracy of 0, so that a loss gains nothing from it. Equal means
share the mean of their ranks. Ranks are averaged over the conditions that every loss has been
trained in.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lnl_jax.runner.files import csv_bytes
from lnl_jax.runner.outputs import Artifact, Row

ACCURACIES = tuple(f"top_{k}" for k in range(1, 6))
NOISES = ("clean", "uniform", "class_dependent")
DECIMALS = 2  # of a percentage; what is equal when written so is bold or underlined together
_NOTE = (
    "Accuracy on clean test labels in percent, mean ± standard deviation over the runs; "
    "hyperparameters and learning rate by accuracy on noisy validation labels. {best}"
)
_DIVERGED = (
    "(n/m): n of m runs did not diverge; mean over these, but the others count as 0 in the order."
)


class Condition(NamedTuple):
    """A data set with one noise at one rate."""

    dataset: str
    noise: str
    rate: float

    @property
    def title(self) -> str:
        """The noise and its rate."""
        return self.noise if self.noise == "clean" else f"{self.noise} {self.rate:g}"


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


def tables(rows: Iterable[Row]) -> Iterator[Artifact]:
    """The tables of a comparison.

    Args:
        rows: one per run.

    Yields:
        Per data set: `DATASET_top_1`, a line per loss with its accuracy at each noise, best mean
        rank first, also as Markdown and as LaTeX (with booktabs), the best bold and the second
        underlined, and `DATASET_top_1_to_5.md`. Over all data sets: `average_ranks`, also as
        Markdown, and `chosen.csv`, the setting of each loss in each condition.
    """
    chosen = select(rows)
    cells = {column: cells_of(chosen, column) for column in ACCURACIES}
    conditions, losses = conditions_of(chosen), losses_of(chosen)
    ranks = {column: average_ranks(cells[column], conditions, losses) for column in ACCURACIES}
    losses = best_first(losses, ranks["top_1"])
    for dataset in dict.fromkeys(condition.dataset for condition in conditions):
        columns = [condition for condition in conditions if condition.dataset == dataset]
        board = [
            {"loss": loss} | {c.title: _plain(cells["top_1"].get((c, loss))) for c in columns}
            for loss in losses
        ]
        yield Artifact(f"{dataset}_top_1", board)
        yield Artifact(f"{dataset}_top_1.md", _markdown(cells["top_1"], columns, losses).encode())
        yield Artifact(f"{dataset}_top_1.tex", _latex(cells["top_1"], columns, losses).encode())
        text = "\n".join(_all_accuracies(cells, condition, losses) for condition in columns)
        yield Artifact(f"{dataset}_top_1_to_5.md", text.encode())
    yield Artifact("chosen.csv", csv_bytes(_chosen(chosen)))
    if ranks["top_1"]:
        board = [
            {"loss": loss} | {column: ranks[column][loss] for column in ACCURACIES}
            for loss in losses
        ]
        yield Artifact("average_ranks", board)
        count = len(complete(cells["top_1"], conditions, losses))
        yield Artifact("average_ranks.md", _ranks_markdown(board, count).encode())


def condition_of(row: Row) -> Condition:
    """The condition of a run."""
    return Condition(row["dataset"], row["noise"], float(row["rate"]))


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


def _plain(cell: Cell | None, plus_minus: str = "±") -> str:
    """A cell as text: `74.10 ± 0.32`, with `(4/5)` where runs diverged."""
    if cell is None:
        return ""
    if not cell.finite:
        return "diverged"
    text = f"{cell.mean:.{DECIMALS}f}"
    if math.isfinite(cell.std):
        text += f" {plus_minus} {cell.std:.{DECIMALS}f}"
    return text + f" ({cell.finite}/{cell.runs})" * (cell.finite < cell.runs)


def _grid(
    cells: Cells,
    conditions: Sequence[Condition],
    losses: Sequence[str],
    write: Callable[[Cell | None, int | None], str],
) -> list[list[str]]:
    """A line per loss, a cell per condition; `write` is told the place in the column, if any."""
    of = [
        {loss: cells[condition, loss] for loss in losses if (condition, loss) in cells}
        for condition in conditions
    ]
    ranked = [places(column) for column in of]
    return [
        [write(column.get(loss), place.get(loss)) for column, place in zip(of, ranked, strict=True)]
        for loss in losses
    ]


def _markdown_cell(cell: Cell | None, place: int | None) -> str:
    mark, end = {1: ("**", "**"), 2: ("<u>", "</u>"), None: ("", "")}[place]
    return mark + _plain(cell) + end


def _latex_cell(cell: Cell | None, place: int | None) -> str:
    text = _plain(cell, r"\pm")
    if cell is None or not cell.finite:
        return text
    return {1: rf"$\mathbf{{{text}}}$", 2: rf"$\underline{{{text}}}$", None: f"${text}$"}[place]


def _note(cells: Cells, conditions: Sequence[Condition], best: str) -> str:
    shown = [cell for (condition, _), cell in cells.items() if condition in conditions]
    partly = any(0 < cell.finite < cell.runs for cell in shown)
    return _NOTE.format(best=best) + f" {_DIVERGED}" * partly


def _markdown(cells: Cells, conditions: Sequence[Condition], losses: Sequence[str]) -> str:
    lines = [["loss", *(condition.title for condition in conditions)]]
    lines.append(["---"] * len(lines[0]))
    grid = _grid(cells, conditions, losses, _markdown_cell)
    lines += [[f"`{loss}`", *row] for loss, row in zip(losses, grid, strict=True)]
    best = "Bold: the best of a column; underlined: the second."
    return _pipes(lines) + f"\n{_note(cells, conditions, best)}\n"


def _pipes(lines: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _latex(cells: Cells, conditions: Sequence[Condition], losses: Sequence[str]) -> str:
    heads = ["loss", *(_escaped(condition.title) for condition in conditions)]
    grid = _grid(cells, conditions, losses, _latex_cell)
    note = _note(cells, conditions, "Bold: the best of a column; underlined: the second.")
    lines = [f"% {note.replace('±', '+-')}", "% \\usepackage{booktabs}"]
    lines += [rf"\begin{{tabular}}{{l{'c' * len(conditions)}}}", r"\toprule"]
    lines += [" & ".join(heads) + r" \\", r"\midrule"]
    lines += [
        " & ".join([_escaped(loss), *row]) + r" \\" for loss, row in zip(losses, grid, strict=True)
    ]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _escaped(text: str) -> str:
    """A name without what LaTeX would take for a command."""
    return "".join(rf"\{letter}" if letter in "_%&#$" else letter for letter in text)


def _all_accuracies(cells: Mapping[str, Cells], condition: Condition, losses: Sequence[str]) -> str:
    """A section with a line per loss and a column per k of the top-k accuracy."""
    present = [loss for loss in losses if (condition, loss) in cells["top_1"]]
    columns = [
        [row[0] for row in _grid(cells[k], [condition], present, _markdown_cell)]
        for k in ACCURACIES
    ]
    lines = [["loss", *ACCURACIES], ["---"] * (1 + len(ACCURACIES))]
    lines += [[f"`{loss}`", *row] for loss, *row in zip(present, *columns, strict=True)]
    return f"## {condition.dataset}, {condition.title}\n\n{_pipes(lines)}"


def _ranks_markdown(board: Sequence[Row], count: int) -> str:
    lines = [["loss", *ACCURACIES], ["---"] * (1 + len(ACCURACIES))]
    lines += [
        [f"`{row['loss']}`", *(f"{row[column]:.2f}" for column in ACCURACIES)] for row in board
    ]
    note = f"Average rank of {len(board)} losses over {count} condition{'s' * (count > 1)}, 1 is"
    return (
        _pipes(lines)
        + f"\n{note} best; equal means share the mean of their ranks, a diverged run counts as 0.\n"
    )


def _chosen(chosen: Sequence[Row]) -> list[dict[str, Any]]:
    """A line per condition and loss: what was chosen, and how it did."""
    validation, test = cells_of(chosen, "validation_accuracy"), cells_of(chosen, "top_1")
    settings = {(condition_of(row), row["loss"]): row for row in chosen}
    return [
        condition._asdict()
        | {"loss": loss, "setting": row["setting"], "learning_rate": row["learning_rate"]}
        | {"runs": test[condition, loss].runs, "finite": test[condition, loss].finite}
        | {"validation %": validation[condition, loss].mean}
        | {"top_1 %": test[condition, loss].mean, "std": test[condition, loss].std}
        for (condition, loss), row in settings.items()
    ]
