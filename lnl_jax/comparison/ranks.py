"""Average ranks of losses over many tables and draws, from the rows that `conditions` describes."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lnl_jax.comparison.conditions import (
    ACCURACIES,
    Cells,
    Condition,
    average_ranks,
    best_first,
    cells_of,
    complete,
    condition_of,
    conditions_of,
    losses_of,
    scores,
    select,
)
from lnl_jax.runner.outputs import Row

RUNS = "runs.csv"
NEEDED = ("dataset", "noise", "rate", "loss", "setting", "fold", "seed", "validation_accuracy")
TEXT = ("dataset", "noise", "loss", "setting", "labels")


def read_runs(paths: Sequence[str]) -> list[Row]:
    """The rows of several files of runs.

    Args:
        paths: of files, or of folders in and below which they are called ``runs.csv``.

    Returns:
        All rows, numbers as numbers.

    Raises:
        ValueError: if there is no such file, it lacks a column, or two hold the same run; names it.
    """
    found: dict[tuple, tuple[str, Row]] = {}
    for path in paths:
        files = sorted(Path(path).rglob(RUNS)) if Path(path).is_dir() else [Path(path)]
        if not files or not files[0].is_file():
            raise ValueError(f"runs must be files or folders with {RUNS}, got {path}.")
        for file in files:
            for row in _read(file):
                key = tuple(row[name] for name in (*NEEDED[:-1], "learning_rate"))
                if key in found:
                    raise ValueError(
                        f"runs: {file} and {found[key][0]} hold the same run, {row['loss']} on "
                        f"{row['dataset']}; give one of them."
                    )
                found[key] = str(file), row
    return [row for _, row in found.values()]


def _read(file: Path) -> list[Row]:
    reader = csv.DictReader(io.StringIO(file.read_text()))
    missing = [name for name in (*NEEDED, *ACCURACIES) if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"runs: {file} lacks the column {missing[0]} of a comparison of losses.")
    return [
        {key: value if key in TEXT or not value else float(value) for key, value in row.items()}
        for row in reader
    ]


def ranks_of_draws(rows: Sequence[Row], losses: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """The average rank of each loss in each draw of the noise by itself.

    Settings are chosen again in each draw, by its own validation labels, so that the draws are
    independent but for the test labels.

    Args:
        rows: one per run.
        losses: which are ranked.

    Returns:
        By accuracy and loss the ranks, ``[draws]``, of the draws that have all conditions.
    """
    found: dict[str, dict[str, list[float]]] = {
        k: {loss: [] for loss in losses} for k in ACCURACIES
    }
    conditions, whole = conditions_of(rows), len(complete_in(rows, losses))
    for seed in sorted({row["seed"] for row in rows}):
        chosen = select(row for row in rows if row["seed"] == seed)
        for column in ACCURACIES:
            cells = cells_of(chosen, column)
            if len(complete(cells, conditions, losses)) < whole:
                continue
            for loss, rank in average_ranks(cells, conditions, losses).items():
                found[column][loss].append(rank)
    return {k: {loss: np.array(v) for loss, v in each.items()} for k, each in found.items()}


def complete_in(rows: Sequence[Row], losses: Sequence[str]) -> list[Condition]:
    """The conditions that have all losses in any draw."""
    cells = dict.fromkeys((condition_of(row), row["loss"]) for row in rows)
    return complete(cells, conditions_of(rows), losses)


def rank_board(rows: Sequence[Row], losses: Sequence[str]) -> list[dict[str, Any]]:
    """A line per loss, best first: ranks over all draws together, and their spread over draws.

    Args:
        rows: one per run.
        losses: which are ranked.

    Returns:
        Lines with the average rank by each accuracy, ``std over draws`` of that of top-1 (None of
        fewer than two draws), ``first`` and ``last three``, in how many conditions.
    """
    chosen, conditions = select(rows), conditions_of(rows)
    cells = {column: cells_of(chosen, column) for column in ACCURACIES}
    ranks = {column: average_ranks(cells[column], conditions, losses) for column in ACCURACIES}
    draws = ranks_of_draws(rows, losses)["top_1"]
    values = scores(cells["top_1"], conditions, losses)
    places = (values[:, None, :] > values[:, :, None]).sum(-1)  # losses ahead
    lines = []
    for loss in best_first(losses, ranks["top_1"]):
        own, many = places[:, list(losses).index(loss)], draws[loss]
        line = {"loss": loss} | {column: ranks[column].get(loss) for column in ACCURACIES}
        line["std over draws"] = float(many.std(ddof=1)) if len(many) > 1 else None
        line |= {"first": int((own == 0).sum()), "last three": int((own >= len(losses) - 3).sum())}
        lines.append(line)
    return lines


def ranks_by(rows: Sequence[Row], losses: Sequence[str], group: str) -> list[dict[str, Any]]:
    """The average rank of top-1 within each data set, or within each kind of noise.

    Args:
        rows: one per run.
        losses: which are ranked.
        group: ``dataset`` or ``title``, an attribute of `Condition`.

    Returns:
        A line per loss, best first over all, with a column per group.
    """
    cells: Cells = cells_of(select(rows), "top_1")
    conditions = complete(cells, conditions_of(rows), losses)
    names = list(dict.fromkeys(getattr(condition, group) for condition in conditions))
    ranks = {
        name: average_ranks(cells, [c for c in conditions if getattr(c, group) == name], losses)
        for name in names
    }
    ordered = best_first(losses, average_ranks(cells, conditions, losses))
    return [{"loss": loss} | {name: ranks[name][loss] for name in names} for loss in ordered]


def ranked_losses(rows: Sequence[Row], without: Sequence[str] = ()) -> list[str]:
    """The losses that there are, but for some."""
    return [loss for loss in losses_of(rows) if loss not in without]
