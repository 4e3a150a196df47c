"""Figures of a comparison of losses, from the rows that `conditions` describes."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lnl_jax._extras import require
from lnl_jax.comparison.conditions import (
    UNCHANGED,
    Cells,
    Condition,
    average_ranks,
    best_first,
    cells_of,
    condition_of,
    conditions_of,
    losses_of,
    numbers,
    scores,
    select,
)
from lnl_jax.runner.outputs import Artifact, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASELINE = "cross_entropy"
HIGHLIGHTED = 5  # losses that get a colour, and the baseline; more cannot be told apart
LEVEL = 0.05
TEMPERATURES = {"temperature_clean": "right\nlabel", "temperature_mislabelled": "false\nlabel"}
TEMPERATURES_GIVEN = {"temperature_unchanged": "label\nas given"}
TEMPERATURES_GIVEN |= {"temperature_changed": "label\nchanged"}


class RankComparison(NamedTuple):
    """Whether losses differ over the conditions (Demšar, JMLR 2006, section 3.2.2).

    Attributes:
        ranks: the average rank of each loss, best first.
        conditions: how many conditions the ranks are over.
        p_value: of Friedman's test that all losses are equal; NaN where all ranks are.
        critical_difference: of two average ranks, by Nemenyi's test.
        level: of that test.
    """

    ranks: dict[str, float]
    conditions: int
    p_value: float
    critical_difference: float
    level: float = LEVEL


def critical_difference(losses: int, conditions: int, level: float = LEVEL) -> float:
    """How far two average ranks must be apart by Nemenyi's test.

    q sqrt(k (k + 1) / (6 N)) for k losses and N conditions, q the studentized range over sqrt(2).
    """
    from scipy.stats import studentized_range

    q = studentized_range.ppf(1 - level, losses, math.inf) / math.sqrt(2)
    return float(q * math.sqrt(losses * (losses + 1) / (6 * conditions)))


def compare_ranks(
    cells: Cells, conditions: Sequence[Condition], losses: Sequence[str], level: float = LEVEL
) -> RankComparison | None:
    """Compares the losses over the complete conditions; None of fewer than 3, or 2 conditions.

    The conditions of one data set are not independent, so the tests are a guide and no proof.
    """
    from scipy.stats import friedmanchisquare

    values = scores(cells, conditions, losses)
    if len(values) < 2 or len(losses) < 3:
        return None
    ranks = average_ranks(cells, conditions, losses)
    ordered = {loss: ranks[loss] for loss in best_first(losses, ranks)}
    all_equal = (values == values[:, :1]).all()  # the statistic would be 0/0
    p_value = math.nan if all_equal else float(friedmanchisquare(*values.T).pvalue)
    difference = critical_difference(len(losses), len(values), level)
    return RankComparison(ordered, len(values), p_value, difference, level)


def cliques(ranks: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """The largest runs of sorted ranks within the difference: first and last index of each."""
    found: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = int(np.searchsorted(ranks, rank + difference, side="right")) - 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def figures(rows: Iterable[Row]) -> Iterator[Artifact]:
    """The figures of a comparison.

    Args:
        rows: one per run.

    Yields:
        `critical_difference`, the average ranks of top-1 with bars over losses that do not differ
        (from three losses and two conditions on); `accuracy_against_noise`; and, of each form of
        ALDR-KL, `NAME_temperatures`, of examples with right and with false labels.
    """
    chosen = select(rows)
    cells, conditions, losses = cells_of(chosen, "top_1"), conditions_of(chosen), losses_of(chosen)
    if comparison := compare_ranks(cells, conditions, losses):
        yield Artifact("critical_difference", critical_difference_figure(comparison))
    ordered = best_first(losses, average_ranks(cells, conditions, losses))
    if any(condition.noise not in UNCHANGED for condition in conditions):
        yield Artifact("accuracy_against_noise", noise_figure(cells, conditions, ordered))
    for loss in losses:
        runs = [row for row in chosen if row["loss"] == loss]
        if any(np.isfinite(numbers(runs, column)).any() for column in _temperatures(runs)):
            yield Artifact(f"{loss}_temperatures", _temperatures_figure(loss, runs))


def critical_difference_figure(comparison: RankComparison) -> "Figure":
    """An axis of average ranks, the losses on both sides, bars over those that do not differ."""
    require("matplotlib")
    from matplotlib.figure import Figure

    names, ranks = [*comparison.ranks], [*comparison.ranks.values()]
    bars = cliques(ranks, comparison.critical_difference)
    half = math.ceil(len(names) / 2)
    first_label = 0.8 + 0.28 * len(bars)
    depth = first_label + 0.62 * half
    # Names may stand beyond the axes: files are cut to what is drawn.
    figure = Figure(figsize=(7, 0.9 + 0.32 * depth))
    axes = figure.add_axes((0, 0, 1, 1))
    low, high = 1, len(names)
    width = high - low
    _rank_axis(axes, low, high, comparison.critical_difference)
    for index, (name, rank) in enumerate(comparison.ranks.items()):
        left = index < half
        level = first_label + 0.62 * (index if left else len(names) - 1 - index)
        end = low - 0.04 * width if left else high + 0.04 * width
        color = _color(name, names)
        axes.plot([rank, rank, end], [0, level, level], color=color, linewidth=1)
        axes.text(
            end + (-0.01 if left else 0.01) * width,
            level,
            f"{name}  {rank:.2f}" if left else f"{rank:.2f}  {name}",
            ha="right" if left else "left",
            va="center",
            color="black",
            weight="bold" if name == BASELINE else "normal",
        )
    for place, (first, last) in enumerate(bars):
        height = 0.42 + 0.28 * place
        ends = [ranks[first] - 0.006 * width, ranks[last] + 0.006 * width]
        axes.plot(ends, [height] * 2, color="black", linewidth=3, solid_capstyle="butt")
    axes.set(xlim=(low - 0.04 * width, high + 0.04 * width), ylim=(depth, -2.3))
    axes.axis("off")
    axes.set_title(
        f"average rank of top-1 accuracy over {comparison.conditions} conditions, best left; "
        f"Friedman p = {comparison.p_value:.1g}\n"
        f"bars join losses within Nemenyi's critical difference at {comparison.level:g}",
        fontsize=10,
    )
    return figure


def _rank_axis(axes: "Axes", low: int, high: int, difference: float) -> None:
    """The axis itself, with ticks and the length of the critical difference above it."""
    step = max(1, round((high - low) / 10))
    axes.plot([low, high], [0, 0], color="black", linewidth=1)
    for tick in range(low, high + 1):
        labelled = (tick - low) % step == 0
        axes.plot([tick, tick], [0, -0.2 if labelled else -0.1], color="black", linewidth=1)
        if labelled:
            axes.text(tick, -0.3, str(tick), ha="center", va="bottom")
    shown = min(difference, high - low)
    axes.plot([low, low + shown], [-1.35] * 2, color="black", linewidth=1.5, marker="|")
    beyond = ", more than the axis" if difference > high - low else ""
    label = f"critical difference {difference:.2f}{beyond}"
    axes.text(low + shown / 2, -1.5, label, ha="center", va="bottom")


def _color(name: str, ordered: Sequence[str]) -> str:
    """A colour for each of the best losses, black for the baseline, grey for the others."""
    if name == BASELINE:
        return "black"
    place = [other for other in ordered if other != BASELINE].index(name)
    return f"C{place}" if place < HIGHLIGHTED else "0.75"


def noise_figure(cells: Cells, conditions: Sequence[Condition], ordered: Sequence[str]) -> "Figure":
    """Accuracy against the rate of the noise: a line per data set, a panel per kind of noise."""
    require("matplotlib")
    from matplotlib.figure import Figure

    datasets = list(dict.fromkeys(condition.dataset for condition in conditions))
    noises = list(dict.fromkeys(c.noise for c in conditions if c.noise not in UNCHANGED))
    size = (4.6 * len(noises) + 2.6, 3.6 * len(datasets) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(datasets), len(noises), squeeze=False, sharey="row")
    for line, dataset in zip(panels, datasets, strict=True):
        for panel, noise in zip(line, noises, strict=True):
            kinds = (*UNCHANGED, noise)
            shown = [c for c in conditions if c.dataset == dataset and c.noise in kinds]
            for loss in reversed(ordered):  # the best on top
                _noise_curve(panel, cells, shown, loss, _color(loss, ordered))
            panel.set(title=f"{dataset}, {noise}", xlabel="noise rate")
            panel.grid(alpha=0.3)
        line[0].set_ylabel(f"accuracy on {conditions[0].labels} test labels, %")
    handles, labels = panels[0][-1].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right upper", frameon=False)
    return figure


def _noise_curve(
    panel: "Axes", cells: Cells, conditions: Sequence[Condition], loss: str, color: str
) -> None:
    """Mean and one deviation; nothing where all runs diverged."""
    points = [(c.rate, cells[c, loss]) for c in conditions if (c, loss) in cells]
    rates = np.array([rate for rate, _ in points])
    mean = np.array([cell.mean for _, cell in points])
    width = np.array([cell.std for _, cell in points])
    if color == "0.75":
        others = panel.get_legend_handles_labels()[1]
        label = None if "the others" in others else "the others"
        panel.plot(rates, mean, color=color, linewidth=0.8, zorder=1, label=label)
        return
    style = "--" if loss == BASELINE else "-"
    panel.plot(rates, mean, style, color=color, marker="o", markersize=3, label=loss, zorder=3)
    if np.isfinite(width).any():
        low, high = mean - width, mean + width
        panel.fill_between(rates, low, high, color=color, alpha=0.1, linewidth=0, zorder=2)


def _temperatures_figure(loss: str, chosen: Sequence[Row]) -> "Figure":
    """The temperature that a loss ends with, of examples with right and with false labels."""
    require("matplotlib")
    from matplotlib.figure import Figure

    grouped: dict[Condition, list[Row]] = {}
    for row in chosen:
        if any(np.isfinite(numbers([row], column))[0] for column in _temperatures([row])):
            grouped.setdefault(condition_of(row), []).append(row)
    conditions = conditions_of([row for runs in grouped.values() for row in runs])
    datasets = list(dict.fromkeys(condition.dataset for condition in conditions))
    wide = max(sum(c.dataset == dataset for c in conditions) for dataset in datasets)
    size = (max(1.5 * wide, 4.0), 2.9 * len(datasets) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(datasets), wide, squeeze=False)
    for line, dataset in zip(panels, datasets, strict=True):
        shown = [condition for condition in conditions if condition.dataset == dataset]
        for panel, condition in zip(line, shown, strict=False):
            _temperature_points(panel, condition, grouped[condition])
        for panel in line[len(shown) :]:
            panel.axis("off")
        line[0].set_ylabel(f"{dataset}: temperature λ")
    figure.suptitle(f"λ of {loss}, mean ± std over the runs; the scales differ", fontsize=10)
    return figure


def _temperatures(runs: Sequence[Row]) -> dict[str, str]:
    """The columns of temperatures, and what to call them."""
    return TEMPERATURES_GIVEN if condition_of(runs[0]).labels == "given" else TEMPERATURES


def _temperature_points(panel: "Axes", condition: Condition, runs: Sequence[Row]) -> None:
    """Right beside false labels, on a scale of their own: the chosen temperatures differ much."""
    columns = _temperatures(runs)
    for place, (column, color) in enumerate(zip(columns, ("C0", "C3"), strict=True)):
        values = numbers(runs, column)
        values = values[np.isfinite(values)]
        if len(values):
            width = values.std(ddof=1) if len(values) > 1 else 0.0
            panel.errorbar([place], [values.mean()], yerr=[width], fmt="o", color=color, capsize=3)
    title = condition.title.replace(" ", "\n")
    setting = runs[0]["setting"].replace(", ", "\n")
    panel.set_title(f"{title}\n{setting}".strip(), fontsize=8)
    panel.set_xticks(range(len(columns)), columns.values(), fontsize=8)
    panel.set_xlim(-0.6, 1.6)
    panel.tick_params(axis="y", labelsize=8)
    panel.grid(alpha=0.3)
