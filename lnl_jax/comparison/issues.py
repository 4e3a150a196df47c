"""What is shown of labels that may be wrong: tables and a figure, in the words of who gave them.

A label is given, another is suggested; which is true is said only where a column of true ones is.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from lnl_jax import data, label_models, metrics
from lnl_jax._extras import require
from lnl_jax.runner.outputs import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILTER = "confident_learning"
# Rows of tables and images of figures; `issues.csv` has all.
SHOWN, IMAGES, NEIGHBOURS = 40, 32, 3


def detector_rows(
    suspicion: Mapping[str, np.ndarray],
    labels: np.ndarray,
    flags: np.ndarray,
    truth: np.ndarray | None,
) -> list[Row]:
    """A line per way of finding false labels: how many of its first rows others find, or are false.

    Args:
        suspicion: by name, larger is more suspicious, ``[N]``.
        labels: the given ones, ``[N]``.
        flags: of the filter of confident learning, ``[N]``; of the others as many rows are taken.
        truth: the true labels, where they are known.

    Returns:
        Dicts with ``detector`` and ``flagged``; ``AUROC %``, ``average precision %``, ``precision
        %``, ``recall %`` and ``F1 %`` where the truth is known, else how many of the rows that the
        filter flagged are among them.
    """
    count, rows = int(flags.sum()), []
    taken = {FILTER: flags}
    for name, values in suspicion.items():
        taken[name] = np.zeros(len(labels), bool)
        taken[name][np.argsort(-values, kind="stable")[:count]] = True
    for name, chosen in taken.items():
        row = {"detector": name, "flagged": count}
        if truth is None:
            shared = (chosen & flags).sum() / max(count, 1)
            rows.append(row | {f"of them flagged by {FILTER} %": 100 * float(shared)})
            continue
        false = labels != truth
        found = (chosen & false).sum()
        if name in suspicion and false.any():
            scores, where = jnp.asarray(suspicion[name], jnp.float32), jnp.asarray(false)
            row |= {"AUROC %": 100 * float(metrics.auroc(scores, where))}
            precision = metrics.average_precision(scores, where)
            row |= {"average precision %": 100 * float(precision)}
        else:
            row |= {"AUROC %": None, "average precision %": None}
        row |= {"precision %": 100 * float(found / max(count, 1))}
        row |= {"recall %": 100 * float(found / max(false.sum(), 1))}
        row |= {"F1 %": 200 * float(found / max(count + false.sum(), 1))}
        rows.append(row)
    return rows


def issue_rows(
    whole: data.Labelled,
    issues: label_models.LabelIssues,
    suspicion: Mapping[str, np.ndarray],
) -> list[Row]:
    """A line per example, the most suspicious first.

    Args:
        whole: the data set.
        issues: of its labels.
        suspicion: by name, larger is more suspicious, ``[N]``.

    Returns:
        Dicts with ``row``, ``file``, ``given``, ``suggested``, ``flagged`` and the methods.
    """
    names = whole.class_names
    given, truth = whole.columns["label"], whole.columns.get("clean_label")
    rows = []
    for at in issues.ranking:
        row = {"row": int(whole.row[at]), "file": whole.files[at] if whole.files else None}
        row |= {"given": names[given[at]], "suggested": names[issues.suggested[at]]}
        row |= {} if truth is None else {"true": names[truth[at]]}
        row |= {"flagged": bool(issues.flags[at])}
        rows.append(row | {name: float(f"{values[at]:.6g}") for name, values in suspicion.items()})
    return rows


def matrix_rows(whole: data.Labelled, issues: label_models.LabelIssues) -> list[Row]:
    """The estimated shares of the given labels for each true class, in percent.

    Args:
        whole: the data set.
        issues: of its labels.

    Returns:
        A dict for each class, with ``estimated true class`` and a column for each given one.
    """
    return [
        {"estimated true class": name}
        | {
            f"given {other} %": 100 * float(value)
            for other, value in zip(whole.class_names, line, strict=True)
        }
        for name, line in zip(whole.class_names, issues.noise_matrix, strict=True)
    ]


def class_rows(whole: data.Labelled, issues: label_models.LabelIssues) -> list[Row]:
    """How many labels of each class are flagged, and how many are false where it is known.

    Args:
        whole: the data set.
        issues: of its labels.

    Returns:
        A dict for each class.
    """
    given, truth = whole.columns["label"], whole.columns.get("clean_label")
    rows = []
    for number, name in enumerate(whole.class_names):
        own = given == number
        count = max(int(own.sum()), 1)
        row = {"class": name, "given": int(own.sum()), "flagged": int(issues.flags[own].sum())}
        row |= {"flagged %": 100 * float(issues.flags[own].sum() / count)}
        if truth is not None:
            row |= {"false %": 100 * float((truth != given)[own].sum() / count)}
        rows.append(row)
    return rows


def neighbour_rows(
    whole: data.Labelled, issues: label_models.LabelIssues, features: np.ndarray
) -> list[Row]:
    """The most suspicious rows of a table beside their nearest neighbours.

    Args:
        whole: the data set.
        issues: of its labels.
        features: of comparable size, ``[N, D]``.

    Returns:
        A dict for each, with the given labels of its neighbours and which rows they are.
    """
    count = min(NEIGHBOURS, len(features) - 1)
    near = label_models.nearest_neighbours(
        features, count, metric=label_models.euclidean_distance
    ).positions
    names, given = whole.class_names, whole.columns["label"]
    rows = []
    for at in issues.ranking[:SHOWN]:
        row = {"row": int(whole.row[at]), "given": names[given[at]]}
        row |= {"suggested": names[issues.suggested[at]]}
        for place, other in enumerate(near[at], 1):
            row[f"neighbour {place}"] = f"{names[given[other]]} (row {whole.row[other]})"
        rows.append(row)
    return rows


def issues_figure(whole: data.Labelled, issues: label_models.LabelIssues) -> "Figure":
    """The images whose labels are the most suspicious: given and suggested.

    Args:
        whole: the data set.
        issues: of its labels.

    Returns:
        A figure of 32 images; green are those whose label is known to be false.
    """
    require("matplotlib")
    from matplotlib.figure import Figure

    names, given = whole.class_names, whole.columns["label"]
    truth = whole.columns.get("clean_label", given)
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    panels = figure.subplots(4, 8).ravel()
    for panel, at in zip(panels, issues.ranking[:IMAGES], strict=False):
        image = whole.columns["image"][at]
        # Of other channels than gray or colours only the first can be shown.
        panel.imshow(image if image.shape[-1] in (3, 4) else image[..., 0], cmap="gray")
        text = f"given {names[given[at]]}\nsuggested {names[issues.suggested[at]]}"
        color = "tab:green" if given[at] != truth[at] else "black"
        panel.set_title(text, fontsize=8, color=color)
    for panel in panels:
        panel.axis("off")
    known = "; green: known to be false" * bool((given != truth).any())
    figure.suptitle(f"{int(issues.flags.sum())} labels are flagged, the most suspicious{known}")
    return figure
