"""Figures of soft-label studies: accuracy by row, bytes over images per class, the images."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lnl_jax import distill

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COUNTS = (1, 2, 5, 10, 20, 50, 100, 200)


def storage_curve(
    *, num_classes: int, epochs: int, adapter: int, teacher: int, per_class: Sequence[int]
) -> "Figure":
    """Bytes of labels over images per class: those that grow, and those that do not.

    Args:
        num_classes: K.
        epochs: of a student's training.
        adapter: bytes of the adapter's file.
        teacher: bytes of the teacher in float16.
        per_class: sizes that were run; marked.
    """
    from matplotlib.figure import Figure

    counts = np.unique([*COUNTS, *per_class])
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    full = np.array(
        [distill.ledger.label_bytes(int(c) * num_classes, epochs, num_classes) for c in counts]
    )
    ran = np.isin(counts, per_class)
    for values, color, label in (
        (full, "C0", "stored logits, float16"),
        (full / 10, "C1", "one in ten of them (LPLD)"),
    ):
        axis.plot(counts, values, color=color, label=label)
        axis.plot(counts[ran], values[ran], "o", color=color)
    axis.axhline(adapter, color="C2", label="projector's adapter, float16")
    axis.axhline(teacher, color="C3", linestyle="--", label="the teacher itself, float16")
    axis.set(xscale="log", yscale="log", xlabel="images per class", ylabel="bytes for labels")
    axis.set_xticks(COUNTS, [str(count) for count in COUNTS])
    axis.minorticks_off()
    axis.set_title(
        f"{num_classes} classes, {epochs} epochs; public tower not counted; dots: sizes that ran",
        fontsize=9,
    )
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=9)
    return figure


def accuracy_figure(results: Sequence[Mapping[str, Any]], per_class: Sequence[int]) -> "Figure":
    """Test accuracy of every row, with its deviation over students; a panel for each size."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["row"] for row in results))
    figure = Figure(
        figsize=(3 + 2.6 * len(per_class), 0.8 + 0.3 * len(names)), layout="constrained"
    )
    panels = figure.subplots(1, len(per_class), sharey=True, squeeze=False)[0]
    places = np.arange(len(names))
    for panel, count in zip(panels, per_class, strict=True):
        of = {row["row"]: row for row in results if row["per class"] == count}
        colors = ["C2" if name.startswith("projector") else "0.6" for name in names]
        values = [of[name]["test %"] for name in names]
        panel.barh(places, values, color=colors, xerr=[of[name]["std"] or 0 for name in names])
        for place, value in zip(places, values, strict=True):
            panel.text(2, place, f"{value:.1f}", va="center", fontsize=8)
        panel.set(xlim=(0, 100), xticks=range(0, 100, 20), xlabel="test accuracy, %")
        panel.set_title(f"{count} image{'s' * (count > 1)} per class", fontsize=10)
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(places, names, fontsize=9)
    panels[0].invert_yaxis()
    return figure


def image_figure(
    lines: Sequence[tuple[str, np.ndarray]], *, num_classes: int, most: int = 3
) -> "Figure":
    """Images by class: ten classes side by side, of each the first few below one another.

    Args:
        lines: title and images from 0 to 1, class by class, ``[N, H, W, C]``.
        num_classes: K.
        most: images of each class that are shown.
    """
    from matplotlib.figure import Figure

    shown = [(title, _grid(images, num_classes, most)) for title, images in lines]
    heights = [grid.shape[0] for _, grid in shown]
    width = shown[0][1].shape[1]
    figure = Figure(figsize=(7, 7 * sum(heights) / width + 0.3 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, (title, grid) in zip(panels, shown, strict=True):
        panel.imshow(grid, cmap="gray_r" if grid.ndim == 2 else None, vmin=0, vmax=1)
        panel.set_axis_off()
        panel.set_title(title, loc="left", fontsize=9)
    return figure


def _grid(images: np.ndarray, num_classes: int, most: int) -> np.ndarray:
    """``[rows * (H + gap), 10 * (W + gap)]``, of gray or of three channels."""
    by_class = images.reshape(num_classes, -1, *images.shape[1:])[:10, :most]
    gray = images.shape[-1] == 1
    gap = ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0))
    padded = np.pad(by_class, gap, constant_values=0 if gray else 1)
    classes, rows, height, width, channels = padded.shape
    grid = padded.transpose(1, 2, 0, 3, 4).reshape(rows * height, classes * width, channels)
    return grid[..., 0] if gray else grid
