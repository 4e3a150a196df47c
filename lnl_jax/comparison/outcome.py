"""What a comparison ends with: the chosen settings, a table with paired gains, curves."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lnl_jax._extras import require
from lnl_jax.comparison.methods import METRICS, best_setting
from lnl_jax.comparison.runs import Method
from lnl_jax.comparison.statistics import paired_gain, setting_text, standard_deviation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PyTree = Any
# Title and metric of the columns of a table, and of the panels of a figure.
COLUMNS = {"accuracy %": "accuracy", "nll": "nll", "memorized %": "memorized"}
# More methods than these have their names beside the panels; so many have a colour of their own.
LEGEND_INSIDE, COLOURS = 6, 10
PANELS = {"test accuracy": "accuracy", "false labels memorised": "memorized"}
# The same where the labels before the noise are as somebody gave them.
COLUMNS_GIVEN = {"agrees with given labels %": "accuracy", "nll": "nll"}
COLUMNS_GIVEN |= {"changed labels fitted %": "memorized"}
PANELS_GIVEN = {"agreement with given test labels": "accuracy"}
PANELS_GIVEN |= {"changed labels fitted": "memorized"}


class Outcome(NamedTuple):
    """What a search ends with, for M methods, D data sets and each method's S settings.

    Attributes:
        methods: the first is the baseline.
        states: the last ones, arrays ``[D, S, ...]`` each.
        history: ``[metrics, epochs, D, S]`` each.
        metrics: the names of what was measured.
        choose: the setting that validation chooses, given ``[metrics, D, S]``.
    """

    methods: Sequence[Method]
    states: Sequence[PyTree]
    history: Sequence[np.ndarray]
    metrics: Sequence[str] = METRICS
    choose: Callable[[np.ndarray], int] = best_setting

    @property
    def best(self) -> list[int]:
        """The chosen setting of each method, after the last epoch."""
        return [self.choose(values[:, -1]) for values in self.history]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The history by the name of the method."""
        return {m.name: values for m, values in zip(self.methods, self.history, strict=True)}

    @property
    def final(self) -> list[dict[str, np.ndarray]]:
        """Of each method at its chosen setting: the last value of every metric, ``[D]``."""
        return [
            dict(zip(self.metrics, values[:, -1, :, best], strict=True))
            for values, best in zip(self.history, self.best, strict=True)
        ]


def results_table(outcome: Outcome, columns: Mapping[str, str] = COLUMNS) -> list[dict[str, Any]]:
    """A line per method at its chosen setting, with the paired gain over the first method.

    Columns that are NaN for all methods, what cannot be known, are left out.

    Args:
        outcome: of a search.
        columns: the metric of each column, by its title; a title that ends in % is a percentage. Of
            the first one the standard deviation over the data sets and the gain are given.

    Returns:
        Dicts with ``method``, the columns as means over the data sets, ``std``, ``gain``, ``std of
        gain``, ``gain / its s.e.`` and ``chosen``, the setting as text.
    """
    rows, baseline = [], None
    (first, *_) = columns
    for method, final, best in zip(outcome.methods, outcome.final, outcome.best, strict=True):
        values = {
            title: final[metric].astype(np.float64) * (100 if title.endswith("%") else 1)
            for title, metric in columns.items()
        }
        row = {"method": method.name, first: values[first].mean()}
        row |= {"std": standard_deviation(values[first])}
        if baseline is None:
            baseline = values[first]
            row |= {"gain": None, "std of gain": None, "gain / its s.e.": None}
        else:
            row |= paired_gain(values[first], baseline)
        row |= {title: each.mean() for title, each in values.items()}
        row = {key: float(v) if isinstance(v, np.floating) else v for key, v in row.items()}
        rows.append(row | {"chosen": setting_text(method.settings[best])})
    return without_unknown(rows)


def without_unknown(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without the columns that are NaN in all of them: what cannot be known."""
    columns = dict.fromkeys(key for row in rows for key in row)
    unknown = {
        column
        for column in columns
        if all(isinstance(row.get(column), float) and np.isnan(row[column]) for row in rows)
    }
    return [{key: value for key, value in row.items() if key not in unknown} for row in rows]


def curves_figure(outcome: Outcome, title: str, panels: Mapping[str, str] = PANELS) -> "Figure":
    """A panel per metric: every method at its chosen setting, mean and one deviation.

    Args:
        outcome: of a search.
        title: of the figure.
        panels: the metric of each panel, a fraction, by its title. What is NaN for all methods has
            no panel.

    Returns:
        The figure; deviations are over the data sets.
    """
    require("matplotlib")
    from matplotlib.figure import Figure

    at = {name: list(outcome.metrics).index(metric) for name, metric in panels.items()}
    shown = [
        name
        for name in panels
        if any(np.isfinite(values[at[name]]).any() for values in outcome.history)
    ]
    many = len(outcome.methods) > LEGEND_INSIDE
    inches = 4.5 * max(len(shown), 1) + 2.5 * many
    figure = Figure(figsize=(inches, 3.6), layout="constrained")
    axes = figure.subplots(1, max(len(shown), 1), squeeze=False)[0][: len(shown)]
    for axis, name in zip(axes, shown, strict=True):
        for number, (method, values, best) in enumerate(
            zip(outcome.methods, outcome.history, outcome.best, strict=True)
        ):
            runs = 100 * values[at[name], :, :, best]
            mean, epochs = runs.mean(1), np.arange(1, len(runs) + 1)
            # A single epoch is no line.
            marker = "o" if len(epochs) == 1 else None
            # The eleventh has the colour of the first.
            style = "-" if number < COLOURS else "--"
            axis.plot(epochs, mean, style, label=method.name, marker=marker)
            if runs.shape[1] > 1:
                width = runs.std(1, ddof=1)
                alpha = 0.08 if many else 0.2
                axis.fill_between(epochs, mean - width, mean + width, alpha=alpha, linewidth=0)
        axis.set(xlabel="epoch", ylabel="%", title=name)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    for axis in axes[:1]:
        if many:
            handles, labels = axis.get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside right upper", frameon=False)
        else:
            axis.legend(frameon=False)
    figure.suptitle(title)
    return figure
