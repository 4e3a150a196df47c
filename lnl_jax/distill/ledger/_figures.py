"""Bytes of labels over images per class, as a figure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lnl_jax._extras import require
from lnl_jax.distill.ledger._storage import label_bytes

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

    Returns:
        A figure of matplotlib.
    """
    require("matplotlib")
    from matplotlib.figure import Figure

    counts = np.unique([*COUNTS, *per_class])
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    full = np.array([label_bytes(int(c) * num_classes, epochs, num_classes) for c in counts])
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
