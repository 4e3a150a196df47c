"""Tables of a comparison of losses, as text too, from the rows that `conditions` describes."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from lnl_jax.comparison.conditions import (
    ACCURACIES,
    DECIMALS,
    Cell,
    Cells,
    Condition,
    average_ranks,
    best_first,
    cells_of,
    complete,
    condition_of,
    conditions_of,
    losses_of,
    places,
    select,
)
from lnl_jax.runner.files import csv_bytes
from lnl_jax.runner.outputs import Artifact, Row

_NOTE = (
    "Accuracy on {labels} test labels in percent, mean ± standard deviation over the runs; "
    "hyperparameters and learning rate by accuracy on noisy validation labels. {best}"
)
_DIVERGED = (
    "(n/m): n of m runs did not diverge; mean over these, but the others count as 0 in the order."
)


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
    return _NOTE.format(best=best, labels=conditions[0].labels) + f" {_DIVERGED}" * partly


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
