"""Losses in order of their mean rank over several noises."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def leaderboard(
    results: Sequence[Mapping[str, Any]], noises: Sequence[str]
) -> list[dict[str, Any]]:
    """A line per loss, mean and deviation for each noise, best mean rank first.

    Args:
        results: a line per noise and loss, with ``noise``, ``loss``, ``accuracy %`` and ``std``.
        noises: which are shown, each with the same losses.

    Returns:
        Dicts with ``loss``, ``mean rank`` and a text per noise. Equal means share their ranks.
    """
    from scipy.stats import rankdata

    cells = {(row["noise"], row["loss"]): row for row in results}
    losses = list(dict.fromkeys(row["loss"] for row in results))
    means = np.array([[cells[noise, loss]["accuracy %"] for loss in losses] for noise in noises])
    ranks = rankdata(-means, axis=1).mean(0)
    rows = []
    for index in np.argsort(ranks, kind="stable"):
        row = {"loss": losses[index], "mean rank": float(ranks[index])}
        for noise in noises:
            cell = cells[noise, losses[index]]
            row[noise] = f"{cell['accuracy %']:.2f} ± {cell['std']:.2f}"
        rows.append(row)
    return rows


def board_markdown(board: Sequence[Mapping[str, Any]]) -> str:
    """The leaderboard as a Markdown table.

    Args:
        board: of `leaderboard`.

    Returns:
        Its lines.
    """
    lines = [[*board[0]], ["---"] * len(board[0])]
    lines += [
        [f"`{loss}`", f"{rank:.1f}", *cells]
        for loss, rank, *cells in (row.values() for row in board)
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
