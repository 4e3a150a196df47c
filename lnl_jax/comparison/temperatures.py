"""What temperatures per example say, by class and over seeds: tables and figures."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lnl_jax import evaluation, metrics
from lnl_jax._extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def class_means(temperatures: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """The mean temperature of each class.

    Args:
        temperatures: ``[runs, N]``.
        labels: ``[runs, N]``.
        num_classes: K.

    Returns:
        ``[runs, K]``; NaN of a class without examples.
    """
    return np.stack(
        [
            np.asarray(metrics.class_average(values, of, num_classes=num_classes).value)
            for values, of in zip(temperatures, labels, strict=True)
        ]
    )


def class_counts(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """The size of each class.

    Args:
        labels: ``[runs, N]``.
        num_classes: K.

    Returns:
        ``[runs, K]``.
    """
    return np.stack([np.bincount(row, minlength=num_classes) for row in labels])


def classes_table(
    temperatures: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> list[dict[str, Any]]:
    """A line per class: how many examples it has, and their mean temperature.

    Args:
        temperatures: ``[N]``.
        labels: ``[N]``.
        names: of the classes.
    """
    counts = class_counts(labels[None], len(names))[0]
    means = class_means(temperatures[None], labels[None], len(names))[0]
    return [
        {"class": name, "examples": int(count), "temperature": float(mean)}
        for name, count, mean in zip(names, counts, means, strict=True)
    ]


def captions_table(
    temperatures: np.ndarray, captions: Sequence[str], most: int
) -> list[dict[str, Any]]:
    """The captions of lowest and of highest temperature.

    Args:
        temperatures: ``[N]``.
        captions: N.
        most: lines at either end.
    """
    order = np.argsort(temperatures)
    count = min(most, len(order) // 2)
    return [
        {"temperature": float(temperatures[row]), "caption": captions[row]}
        for row in (*order[:count], *order[-count:])
    ]


def correlations(temperatures: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Spearman's correlation of class size and mean temperature.

    Args:
        temperatures: ``[runs, N]``.
        labels: ``[runs, N]``.
        num_classes: K; classes without examples are left out.

    Returns:
        ``[runs]``; NaN where all sizes or all means are equal.
    """
    from scipy.stats import rankdata

    counts = class_counts(labels, num_classes)
    means = class_means(temperatures, labels, num_classes)
    found = []
    for count, mean in zip(counts, means, strict=True):
        present = count > 0
        ranks = rankdata(count[present]), rankdata(mean[present])
        constant = any(np.ptp(rank) == 0 for rank in ranks)
        found.append(np.nan if constant else np.corrcoef(*ranks)[0, 1])
    return np.array(found)


def independence_table(
    starts: Sequence[float], temperatures: np.ndarray
) -> list[dict[str, float | int]]:
    """How much the final mean temperature depends on the first one, a line per seed.

    Args:
        starts: initial temperatures.
        temperatures: the final ones, ``[starts, seeds, N]``.

    Returns:
        Dicts with ``seed``, ``from START`` for each start, and ``largest difference %``.
    """
    means = temperatures.astype(np.float64).mean(-1)
    lines = []
    for seed, column in enumerate(means.T):
        line = {"seed": seed}
        line |= {f"from {start:g}": float(mean) for start, mean in zip(starts, column, strict=True)}
        spread = (column.max() - column.min()) / column.min()
        lines.append(line | {"largest difference %": float(100 * spread)})
    return lines


def histogram_figure(temperatures: Mapping[str, np.ndarray], title: str) -> "Figure":
    """How the temperatures are distributed, a line per group of runs.

    Args:
        temperatures: by name, of any shape.
        title: of the figure.

    Returns:
        A figure with one panel.
    """
    require("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    panel = figure.subplots()
    low, high = (f([f(v) for v in temperatures.values()]) for f in (np.min, np.max))
    bins = np.linspace(low, max(high, low + 1e-3), 41)
    for name, values in temperatures.items():
        weights = np.full(values.size, 100 / values.size)
        panel.hist(values.ravel(), bins, weights=weights, histtype="step", lw=1.5, label=name)
    panel.set(xlabel="final temperature", ylabel="% of the examples", title=title)
    panel.legend(frameon=False)
    panel.grid(alpha=0.3)
    return figure


def by_class_figure(
    temperatures: np.ndarray, labels: np.ndarray, num_classes: int, title: str
) -> "Figure":
    """The mean temperature of every class against its size, a colour per run.

    Args:
        temperatures: ``[runs, N]``.
        labels: ``[runs, N]``.
        num_classes: K.
        title: of the figure.

    Returns:
        A figure with one panel.
    """
    require("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    panel = figure.subplots()
    means = class_means(temperatures, labels, num_classes)
    rows = zip(class_counts(labels, num_classes), means, strict=True)
    for run, (count, mean) in enumerate(rows):
        order = np.argsort(count)
        panel.plot(count[order], mean[order], "o-", ms=4, lw=0.8, alpha=0.8, label=f"seed {run}")
    panel.set(xscale="log", xlabel="examples of the class", ylabel="mean temperature", title=title)
    panel.legend(frameon=False, fontsize=8)
    panel.grid(alpha=0.3)
    return figure


def by_size_figure(
    temperatures: Mapping[str, np.ndarray],
    labels: np.ndarray,
    num_classes: int,
    title: str,
    bins: int = 12,
) -> "Figure":
    """The mean temperature against the size of the class, a line with a band for each setting.

    Args:
        temperatures: by setting, ``[runs, N]``.
        labels: ``[runs, N]``.
        num_classes: K.
        title: of the figure.
        bins: classes of like size are a point together; the band is a deviation over the runs.

    Returns:
        A figure with one panel.
    """
    require("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    panel = figure.subplots()
    counts = class_counts(labels, num_classes)
    order = np.argsort(counts, axis=-1, kind="stable")
    bins = min(bins, num_classes)

    def binned(values):
        parts = np.array_split(np.take_along_axis(values, order, -1), bins, axis=-1)
        return np.stack([np.nanmean(part, -1) for part in parts], -1)

    sizes = binned(counts.astype(float)).mean(0)
    for name, values in temperatures.items():
        means = binned(class_means(values, labels, num_classes))
        middle, width = means.mean(0), means.std(0, ddof=1) if len(means) > 1 else 0
        panel.plot(sizes, middle, "o-", ms=3, lw=1, label=name)
        panel.fill_between(sizes, middle - width, middle + width, alpha=0.2, lw=0)
    panel.set(xscale="log", xlabel="examples of the class", ylabel="mean temperature", title=title)
    panel.legend(frameon=False, fontsize=8)
    panel.grid(alpha=0.3)
    return figure


def neighbours_figure(
    images: np.ndarray, features: np.ndarray, temperatures: np.ndarray, title: str
) -> "Figure":
    """The examples of lowest and of highest temperature, each with its nearest neighbours.

    Args:
        images: ``[N, H, W]`` or ``[N, H, W, C]``, as shown.
        features: of unit norm, ``[N, D]``, in which neighbours are near.
        temperatures: ``[N]``.
        title: of the figure.

    Returns:
        A figure with a line of images per example.
    """
    require("matplotlib")
    from matplotlib.figure import Figure

    rows, count = 6, 7
    order = np.argsort(temperatures)
    _, nearest = evaluation.nearest(
        features[np.r_[order[:rows], order[::-1][:rows]]],
        features,
        num_neighbours=min(count + 1, len(features)),
    )
    halves = np.split(np.asarray(nearest), 2)
    figure = Figure(figsize=(9.5, 4.4), layout="constrained")
    for half, positions, name in zip(
        figure.subfigures(1, 2), halves, ("lowest temperature", "highest temperature"), strict=True
    ):
        half.suptitle(name, fontsize=10)
        panels = half.subplots(len(positions), positions.shape[1], squeeze=False)
        for line, places in zip(panels, positions, strict=True):
            for column, (panel, place) in enumerate(zip(line, places, strict=True)):
                panel.imshow(images[place], cmap="gray_r")
                panel.set(xticks=[], yticks=[])
                for spine in panel.spines.values():
                    spine.set(color="tab:red" if column == 0 else "lightgray", linewidth=1.5)
            line[0].set_ylabel(f"{temperatures[places[0]]:.2f}", fontsize=8)
    figure.suptitle(title, fontsize=11)
    return figure


def head_and_tail(
    temperatures: np.ndarray, labels: np.ndarray, num_classes: int
) -> tuple[float, float]:
    """The mean temperature of the three largest classes, and of the four smallest, over runs.

    Args:
        temperatures: ``[runs, N]``.
        labels: ``[runs, N]``.
        num_classes: K.

    Returns:
        Of the largest, and of the smallest.
    """
    means = class_means(temperatures, labels, num_classes)
    order = np.argsort(class_counts(labels, num_classes), axis=-1)
    ordered = np.take_along_axis(means, order, axis=-1)
    return float(ordered[:, -3:].mean()), float(ordered[:, :4].mean())
