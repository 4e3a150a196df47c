"""Average ranks of the LDR paper's losses over all tables that `ldr_benchmark` was run on."""

from collections.abc import Iterator
from typing import Annotated, Any

from lnl_jax.comparison.conditions import cells_of, conditions_of, select
from lnl_jax.comparison.figures import compare_ranks, critical_difference_figure
from lnl_jax.comparison.ranks import (
    complete_in,
    rank_board,
    ranked_losses,
    ranks_by,
    read_runs,
)
from lnl_jax.runner.arguments import Range, StudyError, check_names, refused, study
from lnl_jax.runner.files import csv_bytes
from lnl_jax.runner.outputs import Artifact


@study
def ldr_ranks(
    *,
    runs: tuple[str, ...] = ("results/ldr_benchmark",),
    without: tuple[str, ...] = (),
    level: Annotated[float, Range(above=0, below=1)] = 0.05,
) -> Iterator[dict[str, Any] | Artifact]:
    """One table of average ranks over tables, noises and draws, with the critical difference.

    Zhu et al., "Label Distributionally Robust Losses for Multi-class Classification" (ICML 2023)
    compare 15 losses by their average rank over data sets and noises. Run `ldr_benchmark` on each
    table first; this study trains nothing. Settings are chosen on noisy validation labels, for each
    loss in each condition; ranks are over the conditions that have all losses, so that a loss that
    a table cannot have (LDR-5 with four classes) takes the table out: leave it out by `without` to
    have the table in. The deviation is that of the average ranks of single draws of the noise, each
    with settings of its own.

        python experiments/run.py --exp ldr_ranks --runs FOLDER

    Time: half a minute on a CPU core for a hundred thousand runs.

    Result: over eight tables LDR-KL 4.8, LDR-2 and symmetric cross-entropy 5.4, ALDR-KL 5.5,
    cross-entropy 7.4 of 17; docs/results/ldr_ranks (55f8f60 and what this study was added with).

    Args:
        runs: files of runs, or folders in and below which they are called runs.csv.
        without: losses that are not ranked.
        level: of Nemenyi's test, for the critical difference.

    Yields:
        A row; `average_ranks`, `ranks_by_table`, `ranks_by_noise`, `accuracies.csv`, and the
        figure `critical_difference`.
    """
    with refused():
        rows = read_runs(runs)
    if without:
        check_names("without", without, ranked_losses(rows))
    losses = ranked_losses(rows, without)
    kept = complete_in(rows, losses)
    if len(losses) < 3 or len(kept) < 2:
        raise StudyError(
            f"runs must have at least 3 losses in 2 conditions, got {len(losses)} losses that are "
            f"all in {len(kept)} conditions; leave out by without what few tables have."
        )
    chosen = select(rows)
    cells = cells_of(chosen, "top_1")
    comparison = compare_ranks(cells, conditions_of(rows), losses, level)
    best, rank = next(iter(comparison.ranks.items()))
    yield {
        "runs": len(rows),
        "losses": len(losses),
        "tables": len({condition.dataset for condition in kept}),
        "conditions": len(kept),
        "critical_difference": comparison.critical_difference,
        "p_value": comparison.p_value,
        "best": best,
        "rank": rank,
    }
    yield Artifact("average_ranks", rank_board(rows, losses))
    yield Artifact("ranks_by_table", ranks_by(rows, losses, "dataset"))
    yield Artifact("ranks_by_noise", ranks_by(rows, losses, "title"))
    lines = [
        condition._asdict()
        | {"loss": loss, "top_1 %": cell.mean, "std": cell.std}
        | {"finite": cell.finite, "runs": cell.runs}
        for (condition, loss), cell in cells.items()
    ]
    yield Artifact("accuracies.csv", csv_bytes(lines))
    yield Artifact("critical_difference", critical_difference_figure(comparison))
