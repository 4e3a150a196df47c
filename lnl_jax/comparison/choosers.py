"""Which run of a grid to choose by what is known of it, and what that choice loses."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lnl_jax._extras import require
from lnl_jax.comparison.statistics import mean_and_std, paired_gain, setting_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Line = dict[str, Any]


class Cells(NamedTuple):
    """All runs of some methods, by the cells of a grid.

    Attributes:
        settings: hyperparameters, each with the ``method`` that they are of; the same in all cells.
        found: by cell what was measured, ``[seeds, settings]``: accuracies ``validation`` and
            ``test``, from 0 to 1, and anything else.
        names: of the parts of a cell.
    """

    settings: Sequence[Mapping[str, Any]]
    found: Mapping[tuple, Mapping[str, np.ndarray]]
    names: Sequence[str]

    @property
    def methods(self) -> list[str]:
        """Their names, the first one that which others are compared with."""
        return list(dict.fromkeys(setting["method"] for setting in self.settings))

    def of(self, cell: tuple, method: str | None) -> dict[str, np.ndarray]:
        """What was measured of the settings of a method, in percent where accuracies; None: all."""
        own = [method in (None, setting["method"]) for setting in self.settings]
        measured = {key: np.float64(values)[:, own] for key, values in self.found[cell].items()}
        return measured | {key: 100 * measured[key] for key in ("validation", "test")}

    def along(self, cell: tuple, method: str, key: str) -> dict[Any, np.ndarray]:
        """Test accuracy in percent by a hyperparameter, the mean over all others, ``[seeds]``."""
        test = self.of(cell, method)["test"]
        values = np.array([one[key] for one in self.settings if one["method"] == method])
        return {value: test[:, values == value].mean(1) for value in np.unique(values)}

    def ranges(self, cell: tuple, method: str, key: str) -> np.ndarray:
        """Highest less lowest test accuracy along a hyperparameter, in points, ``[seeds]``.

        Of every combination of the others by itself, then the mean: a mean over others would take
        away of what runs differ by chance, of a method with more of them the more.
        """
        test = self.of(cell, method)["test"]
        rest = [
            tuple((name, value) for name, value in one.items() if name != key)
            for one in self.settings
            if one["method"] == method
        ]
        own = [[other == one for other in rest] for one in dict.fromkeys(rest)]
        return np.mean([np.ptp(test[:, which], axis=1) for which in own], axis=0)


def at_highest(score: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The value of the setting with the highest score, for each seed.

    Args:
        score: ``[seeds, settings]``; NaN is never chosen.
        value: likewise, such as the accuracy on test examples.

    Returns:
        ``[seeds]``.

    Raises:
        ValueError: if the shapes differ, or a row of scores is all NaN.

    Example:
        >>> at_highest(np.array([[1.0, 3.0, np.nan]]), np.array([[0.9, 0.8, 0.5]])).tolist()
        [0.8]
    """
    if np.shape(score) != np.shape(value) or np.ndim(score) != 2:
        raise ValueError(
            "score and value must have one shape, [seeds, settings]; got "
            f"{np.shape(score)} and {np.shape(value)}."
        )
    if np.isnan(score).all(-1).any():
        raise ValueError("score must not be NaN for all settings of a seed.")
    return np.take_along_axis(value, np.nanargmax(score, -1)[:, None], -1)[:, 0]


def regrets(
    scores: Mapping[str, np.ndarray], value: np.ndarray, best: np.ndarray
) -> dict[str, np.ndarray]:
    r"""What each way of choosing a setting loses against a choice by labels.

    .. math:: v_{\arg\max_t b_t} - v_{\arg\max_t s_t}

    Args:
        scores: :math:`s` by name, ``[seeds, settings]``; more is better.
        value: :math:`v`, such as the accuracy on test examples, likewise.
        best: :math:`b`, what the choice is compared with, such as the accuracy on validation
            examples, likewise.

    Returns:
        By name ``[seeds]``, below 0 where the score chose the better one; ``at random`` is the mean
        over settings.

    Raises:
        ValueError: as `at_highest`.

    Example:
        >>> accuracy = np.array([[0.9, 0.8, 0.4]])
        >>> found = regrets({"rank": np.array([[1.0, 3.0, 2.0]])}, accuracy, accuracy)
        >>> {name: each.round(3).tolist() for name, each in found.items()}
        {'rank': [0.1], 'at random': [0.2]}

    References:
        Garrido et al., "RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised
        Representations by Their Rank" (ICML 2023), section 4.
    """
    wanted = at_highest(best, value)
    found = {name: wanted - at_highest(score, value) for name, score in scores.items()}
    return found | {"at random": wanted - value.mean(-1)}


def rank_correlation(score: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Spearman's over the settings, for each seed.

    Args:
        score: ``[seeds, settings]``.
        value: likewise.

    Returns:
        ``[seeds]``; NaN where all of one row are equal.
    """
    # Slow to import, and nobody else here needs it.
    from scipy.stats import rankdata

    ranks = (rankdata(each, axis=-1) for each in (score, value))
    first, second = (each - each.mean(-1, keepdims=True) for each in ranks)
    with np.errstate(invalid="ignore"):
        lengths = np.sqrt(np.square(first).sum(-1) * np.square(second).sum(-1))
        return (first * second).sum(-1) / lengths


def method_table(cells: Cells, key: str) -> list[Line]:
    """A line per cell and method: the choice of validation, and all settings, in percent.

    Args:
        cells: the runs.
        key: a hyperparameter of all methods, over whose values the range of accuracies is given,
            the others held.

    Returns:
        Dicts with means and deviations over seeds, the gain paired by seed.
    """
    lines = []
    for cell in cells.found:
        baseline = None
        for method in cells.methods:
            found = cells.of(cell, method)
            chosen = at_highest(found["validation"], found["test"])
            baseline = chosen if baseline is None else baseline
            line = dict(zip(cells.names, cell, strict=True)) | {"method": method}
            line |= mean_and_std(chosen, "chosen by validation %")
            line |= {name: _number(value) for name, value in paired_gain(chosen, baseline).items()}
            line |= mean_and_std(found["test"].mean(1), "all settings %")
            line |= mean_and_std(found["test"].std(1), "deviation over settings")
            lines.append(line | mean_and_std(cells.ranges(cell, method, key), f"range over {key}"))
    return lines


def chooser_table(cells: Cells, choosers: Mapping[str, int]) -> list[Line]:
    """A line per method and chooser: its regret in points, over all cells.

    Args:
        cells: the runs.
        choosers: by name in what was measured, 1 where more is better, -1 where less is.

    Returns:
        Dicts with ``regret`` against the choice by validation labels, the mean over cells, as mean
        and deviation over seeds; what that is less than at random, paired by seed; and
        ``spearman`` of the score with the accuracy over settings.
        ``all`` chooses among the settings of all methods.
    """
    lines = []
    for method in (*cells.methods, None):
        regret = regret_curve(cells, choosers, method)
        for name, values in regret.items():
            line = {"method": method or "all", "chooser": name} | mean_and_std(values, "regret")
            line |= mean_and_std(regret["at random"] - values, "gain over chance")
            if name in choosers:
                each = [cells.of(cell, method) for cell in cells.found]
                ranks = [rank_correlation(choosers[name] * one[name], one["test"]) for one in each]
                line |= mean_and_std(np.nanmean(ranks, axis=0), "spearman")
            else:
                line |= {"spearman": None, "std of spearman": None}
            lines.append(line)
    return lines


def spread_table(cells: Cells, key: str) -> list[Line]:
    """A line per method: how far accuracies lie apart along a hyperparameter, over all cells.

    Args:
        cells: the runs.
        key: the hyperparameter; see `Cells.ranges`.

    Returns:
        Dicts with the mean over cells in points, as mean and deviation over seeds, and what it is
        above that of the first method, paired by seed.
    """
    each = {
        method: np.mean([cells.ranges(cell, method, key) for cell in cells.found], axis=0)
        for method in cells.methods
    }
    first = each[cells.methods[0]]
    return [
        {"method": method}
        | mean_and_std(values, f"range over {key}")
        | mean_and_std(values - first, f"above {cells.methods[0]}")
        for method, values in each.items()
    ]


def regret_curve(
    cells: Cells, choosers: Mapping[str, int], method: str | None
) -> dict[str, np.ndarray]:
    """The regret of each chooser and of chance, the mean over cells, ``[seeds]``.

    Args:
        cells: the runs.
        choosers: as in `chooser_table`.
        method: among whose settings is chosen; None for all.

    Returns:
        By chooser, in points.
    """
    each = []
    for cell in cells.found:
        found = cells.of(cell, method)
        scores = {name: sign * found[name] for name, sign in choosers.items()}
        each.append(regrets(scores, found["test"], found["validation"]))
    return {name: np.mean([one[name] for one in each], axis=0) for name in each[0]}


def run_table(cells: Cells) -> list[Line]:
    """A line per cell and setting, with all that was measured as mean and deviation over seeds."""
    lines = []
    for cell in cells.found:
        measured = cells.of(cell, None)
        for number, setting in enumerate(cells.settings):
            line = dict(zip(cells.names, cell, strict=True)) | {"method": setting["method"]}
            rest = {key: value for key, value in setting.items() if key != "method"}
            line["setting"] = setting_text(rest)
            for name, values in measured.items():
                title = f"{name} %" if name in ("validation", "test") else name
                line |= mean_and_std(values[:, number], title)
            lines.append(line)
    return lines


def chosen_curves(cells: Cells, places: Sequence[tuple], *, gain: bool) -> dict[str, np.ndarray]:
    """Accuracy of the setting that validation chooses, by method ``[seeds, places]``.

    Args:
        cells: the runs.
        places: cells, from left to right.
        gain: whether over the first method, which is left out.

    Returns:
        By method, in percent or points.
    """
    curves = {}
    for method in cells.methods:
        each = [cells.of(cell, method) for cell in places]
        curves[method] = np.stack([at_highest(one["validation"], one["test"]) for one in each], 1)
    if gain:
        first = curves.pop(cells.methods[0])
        return {method: values - first for method, values in curves.items()}
    return curves


class Bands(NamedTuple):
    """A panel of `bands_figure`.

    Attributes:
        xlabel: what changes along the axis.
        ylabel: of the values.
        ticks: names of the points.
        curves: by name the values, ``[seeds, points]``.
        joined: whether the points are on an axis; otherwise each stands for itself.
    """

    xlabel: str
    ylabel: str
    ticks: Sequence[str]
    curves: Mapping[str, np.ndarray]
    joined: bool = True


def along_curves(cells: Cells, cell: tuple, key: str) -> tuple[list[str], dict[str, np.ndarray]]:
    """Test accuracy by a hyperparameter of all methods, the mean over the others, in percent.

    Args:
        cells: the runs.
        cell: which ones.
        key: the hyperparameter, with the same values for each method.

    Returns:
        Its values as text, and by method ``[seeds, values]``.
    """
    each = {method: cells.along(cell, method, key) for method in cells.methods}
    values = [f"{value:g}" for value in each[cells.methods[0]]]
    return values, {method: np.stack(list(one.values()), 1) for method, one in each.items()}


def regret_panels(cells: Cells, choosers: Mapping[str, int]) -> list[Bands]:
    """A panel for each method, and one for the settings of all.

    Args:
        cells: the runs.
        choosers: as in `chooser_table`.
    """
    panels = []
    for method in (*cells.methods, None):
        curve, name = regret_curve(cells, choosers, method), method or "all methods"
        values = {name: np.stack(list(curve.values()), 1)}
        panels.append(Bands(f"{name}: chosen by", "regret, points", list(curve), values, False))
    return panels


def bands_figure(panels: Sequence[Bands], title: str) -> "Figure":
    """A panel for each question: means over seeds, one deviation to both sides.

    Args:
        panels: from left to right.
        title: of the figure.

    Returns:
        The figure.
    """
    require("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(panels), 3.8), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    # A name has one colour in all panels.
    names = list(dict.fromkeys(name for panel in panels for name in panel.curves))
    for axis, panel in zip(axes, panels, strict=True):
        places = np.arange(len(panel.ticks))
        for name, values in panel.curves.items():
            mean, width = values.mean(0), values.std(0, ddof=1)
            colour = f"C{names.index(name)}"
            if panel.joined:
                axis.plot(places, mean, "o-", ms=4, label=name, color=colour)
                low, high = mean - width, mean + width
                axis.fill_between(places, low, high, alpha=0.15, linewidth=0, color=colour)
            else:
                axis.errorbar(places, mean, width, fmt="o", capsize=4, label=name, color=colour)
        turned = {"rotation": 25, "ha": "right"} if max(map(len, panel.ticks)) > 6 else {}
        axis.set_xticks(places, panel.ticks, **turned)
        axis.set(xlabel=panel.xlabel, ylabel=panel.ylabel)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8)
    figure.suptitle(title)
    return figure


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
