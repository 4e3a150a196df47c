"""The images of a distilled set, as a figure."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lnl_jax._extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lnl_jax.distill.images._distilled import ImageSet
    from lnl_jax.distill.images._stitched import JpegSet


def sets_figure(
    sets: Mapping[int, Mapping[str, "ImageSet | JpegSet"]], *, num_classes: int
) -> "Figure":
    """The first images of the first classes of distilled sets and their controls.

    Args:
        sets: by images per class, then by name.
        num_classes: K.

    Returns:
        A figure of matplotlib.
    """
    shown = min(num_classes, 10)
    lines = [
        (f"{name}, {count} per class", found.first(classes=shown, most=3))
        for count, of_size in sets.items()
        for name, found in of_size.items()
    ]
    return image_figure(lines, num_classes=shown)


def image_figure(
    lines: Sequence[tuple[str, np.ndarray]], *, num_classes: int, most: int = 3
) -> "Figure":
    """Images by class: ten classes side by side, of each the first few below one another.

    Args:
        lines: title and images from 0 to 1, class by class, ``[N, H, W, C]``.
        num_classes: K.
        most: images of each class that are shown.

    Returns:
        A figure of matplotlib.
    """
    require("matplotlib")
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
