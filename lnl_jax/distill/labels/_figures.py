"""What students learnt from which labels, as a figure."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lnl_jax._extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def accuracy_figure(results: Sequence[Mapping[str, Any]], per_class: Sequence[int]) -> "Figure":
    """Test accuracy of every row, with its deviation over students; a panel for each size.

    Args:
        results: lines with `row`, `per class`, `test %` and `std`.
        per_class: the sizes.

    Returns:
        A figure of matplotlib.
    """
    require("matplotlib")
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
