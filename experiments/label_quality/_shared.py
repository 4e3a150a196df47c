"""What is written of the labels of annotators: items to review, annotators, how networks fare."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from lnl_jax import data, label_models, metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def scores_of(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy, NLL, Brier score over all classes and ECE in 15 bins."""
    logits, labels = jnp.asarray(logits, jnp.float32), jnp.asarray(labels)
    bins = metrics.calibration_bins(logits, labels)
    return {
        "accuracy %": 100 * float(metrics.accuracy(logits, labels).value),
        "NLL": float(metrics.negative_log_likelihood(logits, labels).value),
        "Brier": float(metrics.brier_score(logits, labels).value),
        "ECE %": 100 * float(metrics.expected_calibration_error(bins)),
    }


def item_rows(crowd: data.Crowd, probabilities: np.ndarray, certainty: float) -> list[dict]:
    """The class of each item, those to review first, the least certain on top."""
    choice = label_models.accept_or_review(probabilities, certainty)
    votes = np.bincount(crowd.annotations[:, 0])
    return [
        {
            "item": crowd.item_names[i],
            "label": crowd.class_names[choice.best[i]],
            "probability": float(probabilities[i].max()),
            "labels given": int(votes[i]),
            "to do": "accept" if choice.accepted[i] else "review",
        }
        for i in np.argsort(choice.certainty, kind="stable")
    ]


def annotator_rows(crowd: data.Crowd, found: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """The quality of each annotator by every model, the worst by the average first."""
    counts = np.bincount(crowd.annotations[:, 1])
    return [
        {"annotator": crowd.annotator_names[j], "labels given": int(counts[j])}
        | {name: float(one["quality"][j]) for name, one in found.items()}
        for j in np.argsort(found["average"]["quality"], kind="stable")
    ]


def classifier_rows(
    scores: Mapping[str, list[list[dict]]], kinds: Sequence[str], known: bool
) -> list[dict[str, Any]]:
    """A line per test set and kind of label: mean and deviation over seeds."""
    rows = []
    for test, of_kinds in scores.items():
        for kind, runs in zip(kinds, of_kinds, strict=True):
            row = {"scored on": test, "trained on": kind}
            for name in runs[0]:
                values = np.array([run[name] for run in runs])
                # Labels that were given are not known to be right.
                name = name if known or name != "accuracy %" else "as given %"
                row[name] = f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"
            rows.append(row)
    return rows


def classifier_figure(scores: Mapping[str, list[list[dict]]], kinds: Sequence[str]) -> "Figure":
    """The NLL by kind of label, a panel per test set."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2 + 2.6 * len(scores), 0.3 * len(kinds) + 1.2), layout="constrained")
    panels = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    at = np.arange(len(kinds))
    for panel, (test, of_kinds) in zip(panels, scores.items(), strict=True):
        values = np.array([[run["NLL"] for run in runs] for runs in of_kinds])
        panel.errorbar(values.mean(1), at, xerr=values.std(1, ddof=1), fmt="o", markersize=4)
        panel.set(title=test, xlabel="NLL")
        panel.grid(alpha=0.3)
    panels[0].set_yticks(at, kinds)
    panels[0].invert_yaxis()
    return figure
