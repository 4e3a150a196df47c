"""Curves over the epochs, from the rows of one run or of several that differ in their seed."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lnl_jax._extras import require
from lnl_jax.runner.outputs import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOT_DRAWN = ("epoch", "examples", "seed", "done", "runs", "chunk", "run_steps")
MAX_PANELS = 9
MAX_COLORS = 7  # methods in colour, those that end highest in the first panel (an eighth is grey)
# Stands for the colour of the text, which only the reader's browser knows.
_TEXT = "#010203"

Curve = tuple[np.ndarray, np.ndarray, np.ndarray]  # epochs, mean, deviation (NaN of one value)


def columns_of(rows: Sequence[Row]) -> list[str]:
    """The columns that hold numbers, accuracy first; none where the rows are not of epochs."""
    if not all(_is_number(row.get("epoch")) for row in rows):
        return []
    found = dict.fromkeys(
        key
        for row in rows
        for key, value in row.items()
        if key not in NOT_DRAWN and _is_number(value) and np.isfinite(value)
    )
    return sorted(found, key=lambda column: (column != "accuracy", column == "loss"))


class Panel(NamedTuple):
    """What a panel shows: a column, of all methods or of one."""

    title: str
    column: str
    method: str | None = None


def panels_of(runs: Sequence[Sequence[Row]]) -> list[Panel]:
    """A panel per column; the losses of several methods, which are unlike, have one each."""
    panels = []
    for column in columns_of([row for rows in runs for row in rows]):
        methods = list(curves_of(runs, column))
        if column == "loss" and len(methods) > 1:
            panels += [Panel(f"loss of {method}", column, method) for method in methods]
        else:
            panels.append(Panel(column, column))
    return panels


def curves_of(runs: Sequence[Sequence[Row]], column: str) -> dict[str, Curve]:
    """Mean and deviation per epoch over the runs, and over the seeds in their rows, by method."""
    values: dict[str, dict[float, list[float]]] = {}
    for row in (row for rows in runs for row in rows):
        if _is_number(row.get(column)) and _is_number(row.get("epoch")):
            epochs = values.setdefault(str(row.get("method", "")), {})
            epochs.setdefault(row["epoch"], []).append(row[column])
    return {method: _curve(epochs) for method, epochs in values.items()}


def _curve(values: Mapping[float, Sequence[float]]) -> Curve:
    epochs = sorted(values)
    with np.errstate(invalid="ignore"):  # a run may have diverged to infinity
        mean = np.array([np.mean(values[epoch]) for epoch in epochs])
        spread = [
            np.std(values[epoch], ddof=1) if len(values[epoch]) > 1 else np.nan for epoch in epochs
        ]
    return np.array(epochs), mean, np.array(spread)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def curves_svg(runs: Sequence[Sequence[Row]], name: str) -> str | None:
    """A panel per column as SVG to be put into HTML; None where there is nothing to draw.

    Args:
        runs: the rows of each run.
        name: what distinguishes it from other figures on the page.
    """
    shown = panels_of(runs)[:MAX_PANELS]
    if not shown:
        return None
    colors = _colors(runs, shown[0].column)
    require("matplotlib")
    import matplotlib
    from matplotlib.figure import Figure

    colored = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    style = dict.fromkeys(colored, _TEXT) | {"svg.fonttype": "none", "svg.hashsalt": name}
    buffer = io.StringIO()
    with matplotlib.rc_context(style):
        lines = -(-len(shown) // 3)
        size = (4.0 * min(len(shown), 3), 3.0 * lines + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.add_gridspec(lines, min(len(shown), 3))
        for place, (title, column, method) in enumerate(shown):
            panel = figure.add_subplot(grid[place // 3, place % 3])
            curves = curves_of(runs, column)
            _draw(panel, curves if method is None else {method: curves[method]}, colors)
            panel.set(title=title, xlabel="epoch")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        if labels:
            figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _inline(buffer.getvalue(), name)


def _colors(runs: Sequence[Sequence[Row]], column: str) -> dict[str, str]:
    """A colour per method: the highest last values get one of their own."""
    curves = curves_of(runs, column)
    order = sorted(curves, key=lambda method: -np.nan_to_num(curves[method][1][-1], nan=-np.inf))
    if len(order) <= MAX_COLORS + 1:
        return {method: f"C{place % 10}" for place, method in enumerate(curves)}
    return {method: f"C{p}" if p < MAX_COLORS else "0.6" for p, method in enumerate(order)}


def _draw(panel: "Axes", curves: Mapping[str, Curve], colors: Mapping[str, str]) -> None:
    labelled = set()
    for method, (epochs, mean, spread) in curves.items():
        color = colors.get(method, "0.6")
        label = "the others" if color == "0.6" else method
        marker = "o" if len(epochs) == 1 else None
        panel.plot(
            epochs,
            mean,
            color=color,
            marker=marker,
            linewidth=0.8 if color == "0.6" else 1.5,
            zorder=1 if color == "0.6" else 2,
            label=None if label in labelled or not label else label,
        )
        labelled.add(label)
        if np.isfinite(spread).any():
            low, high = mean - spread, mean + spread
            panel.fill_between(epochs, low, high, color=color, alpha=0.2, linewidth=0)
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.grid(alpha=0.3)


def _inline(svg: str, name: str) -> str:
    """What HTML takes of an SVG file: no prolog, no metadata, ids of its own, the page's colour."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    return svg.replace(_TEXT, "currentColor")
