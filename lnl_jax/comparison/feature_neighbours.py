"""Weighted nearest neighbours on frozen features beside the heads that are trained on them."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import evaluation, metrics
from lnl_jax.comparison.feature_heads import HEAD_METRICS, NEIGHBOURS
from lnl_jax.comparison.runs import Method
from lnl_jax.comparison.statistics import grid


def neighbour_values(
    x: np.ndarray,
    test: Mapping[str, np.ndarray],
    data_sets: Sequence[Mapping[str, Any]],
    num_classes: int,
    counts: Sequence[int] = (10, 30, 100),
    temperatures: Sequence[float] = (0.05, 0.1, 0.3),
) -> tuple[Method, np.ndarray]:
    """Weighted nearest neighbours by cosine, in the form of a method of a search.

    Args:
        x: features, ``[N + T, P]``.
        test: ``row`` and ``label``.
        data_sets: D of `head_data`; those of one seed have the same rows.
        num_classes: K.
        counts: how many neighbours vote, to choose from.
        temperatures: of their votes, to choose from.

    Returns:
        A `Method` that trains nothing, and its values, ``[HEAD_METRICS, 1, D, S]``.
    """
    units = evaluation.unit_rows(jnp.asarray(x))
    settings = grid(num_neighbours=counts, temperature=temperatures)
    found: dict[int, list] = {}
    values = np.full((len(HEAD_METRICS), 1, len(data_sets), len(settings)), np.nan, np.float32)
    for at, each in enumerate(data_sets):
        seed, keys, parts = each["seed"], each["train"], (test, each["validation"])
        if seed not in found:
            most = min(max(counts), len(keys["row"]))
            near = functools.partial(evaluation.nearest, num_neighbours=most)
            found[seed] = jax.device_get(
                [near(units[part["row"]], units[keys["row"]]) for part in parts]
            )
        for place, setting in enumerate(settings):
            scores = [_votes(*near, keys["label"], num_classes, **setting) for near in found[seed]]
            values[1:, 0, at, place] = _vote_values(scores, *(part["label"] for part in parts))
    return Method(NEIGHBOURS, None, settings), values


def _votes(similarities, positions, labels, num_classes, num_neighbours, temperature):
    """As `evaluation.knn_scores`, of neighbours that are known; log probabilities."""
    near = similarities[:, :num_neighbours] / temperature
    weights = np.exp(near - near.max(1, keepdims=True))
    votes = np.zeros((len(near), num_classes), np.float32)
    np.add.at(
        votes, (np.arange(len(near))[:, None], labels[positions[:, :num_neighbours]]), weights
    )
    # A class without votes is not impossible.
    return jnp.log(votes / weights.sum(1, keepdims=True) + 1e-3)


def _vote_values(scores, test, validation) -> list[float]:
    bins = metrics.calibration_bins(scores[0], test)
    measured = {
        "accuracy": metrics.accuracy(scores[0], test).value,
        "nll": metrics.negative_log_likelihood(scores[0], test).value,
        "validation_accuracy": metrics.accuracy(scores[1], validation).value,
        "calibration_error": metrics.expected_calibration_error(bins),
    }
    return [float(measured.get(name, np.nan)) for name in HEAD_METRICS[1:]]
