"""Paired statistics, curves, and settings as text."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lnl_jax._extras import require
from lnl_jax.comparison.runs import Method, Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def curves(
    methods: Sequence[Method],
    history: Sequence[np.ndarray],
    metrics: Sequence[str],
    best: Callable[[np.ndarray], int],
    titles: Mapping[str, str],
) -> "Figure":
    """A panel per metric: every method at its chosen setting, mean and one deviation over seeds."""
    require("matplotlib")
    from matplotlib.figure import Figure

    # What cannot be known, such as false labels among labels that nobody looked at, has no panel.
    at = {metric: list(metrics).index(metric) for metric in titles}
    titles = {
        metric: title
        for metric, title in titles.items()
        if any(np.isfinite(values[at[metric]]).any() for values in history)
    }
    figure = Figure(figsize=(4.5 * max(len(titles), 1), 3.6), layout="constrained")
    panels = figure.subplots(1, max(len(titles), 1), squeeze=False)[0][: len(titles)]
    for panel, (metric, title) in zip(panels, titles.items(), strict=True):
        for method, values in zip(methods, history, strict=True):
            runs = 100 * values[at[metric], :, :, best(values[:, -1])]
            mean, epochs = runs.mean(1), np.arange(1, len(runs) + 1)
            panel.plot(epochs, mean, label=method.name)
            if runs.shape[1] > 1:
                width = runs.std(1, ddof=1)
                panel.fill_between(epochs, mean - width, mean + width, alpha=0.2, linewidth=0)
        panel.set(xlabel="epoch", ylabel="%", title=title)
        panel.grid(alpha=0.3)
    panels[0].legend(frameon=False)
    return figure


def paired_gain(values: np.ndarray, baseline: np.ndarray) -> dict[str, float | None]:
    """Mean and deviation of the difference over seeds, and its ratio to the standard error."""
    differences = values - baseline
    gain, width = differences.mean(), spread(differences)
    ratio = gain / (width / len(differences) ** 0.5) if width else None
    return {"gain": gain, "std of gain": width, "gain / its s.e.": ratio}


def spread(values: np.ndarray) -> float | None:
    """The standard deviation; None of a single value."""
    return values.std(ddof=1) if len(values) > 1 else None


def describe(setting: Setting) -> str:
    """A setting as text."""
    return ", ".join(f"{key} {_brief(value)}" for key, value in setting.items())


def _brief(value: Any) -> str:
    return "/".join(f"{part:g}" for part in np.atleast_1d(value))


def product(**values: Sequence[Any]) -> list[Setting]:
    """All combinations, the last key varying fastest."""
    return [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    ]
