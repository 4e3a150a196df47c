"""What is measured of runs on noisy folds of a table, and a row for each of them."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import metrics
from lnl_jax.comparison.conditions import as_given
from lnl_jax.comparison.methods import adapted_temperatures
from lnl_jax.comparison.networks import Network
from lnl_jax.comparison.noisy_folds import NoisyFold
from lnl_jax.comparison.runs import Method
from lnl_jax.comparison.statistics import setting_text

# What is measured of a run, in the order of the arrays of results.
MEASURED = ("validation_accuracy", *(f"top_{k}" for k in range(1, 6)), "memorized")
MEASURED += ("temperature_clean", "temperature_mislabelled")


def width(group: Sequence[Method]) -> int:
    """How many settings the methods have."""
    return sum(len(method.settings) for method in group)


def measure(network: Network, setting, part, params, stats, rows) -> dict[str, jax.Array]:
    """`MEASURED` of one run but for the temperatures, as of `joined_runs.MeasureOne`."""
    training, held, test = part["train"], part["validation"], part["test"]
    on_training, on_held, on_test = (
        network.scores(params, stats, part["known"], own) for own in (training, held, test)
    )
    within = functools.partial(metrics.top_k_accuracy, on_test, test["label"])
    found = {f"top_{k}": within(min(k, network.num_classes)).value for k in range(1, 6)}
    found["validation_accuracy"] = metrics.accuracy(on_held, held["label"]).value
    found["memorized"] = metrics.memorization(
        on_training, training["label"], training["clean_label"]
    ).value
    # Scores that are not finite still have a largest one: a run that diverged is NaN throughout.
    finite = jnp.isfinite(on_training).all() & jnp.isfinite(on_test).all()
    return {name: jnp.where(finite, value, jnp.nan) for name, value in found.items()}


def measure_temperatures(
    method: Method, network: Network, setting, part, params, stats, rows
) -> dict[str, jax.Array]:
    """The temperatures of one run of the two forms of ALDR-KL, likewise."""
    training = part["train"]
    scores = network.scores(params, stats, part["known"], training)
    if method.initial_rows is None:
        rows = adapted_temperatures(method, setting, scores, training["label"])
    false = training["label"] != training["clean_label"]
    finite = jnp.isfinite(scores).all()
    return {
        "temperature_clean": jnp.where(finite, jnp.mean(rows, where=~false), jnp.nan),
        "temperature_mislabelled": jnp.where(finite, jnp.mean(rows, where=false), jnp.nan),
    }


def _cell(name: str, value: float) -> float | str:
    """A temperature that a loss does not have is empty; an accuracy of NaN is one that diverged."""
    return "" if name.startswith("temperature") and np.isnan(value) else value


def run_rows(
    dataset: str,
    groups: Sequence[Sequence[Method]],
    noisy_folds: Sequence[NoisyFold],
    results: Sequence[np.ndarray],
    done: Sequence[np.ndarray],
    epochs: int,
    given: bool,
) -> list[dict[str, Any]]:
    """A row for each run so far, as `conditions` describes them.

    Args:
        dataset: its name.
        groups: the methods, in groups that were trained together.
        noisy_folds: the data sets.
        results: of each group `MEASURED`, ``[measured, data sets, settings]``.
        done: of each group how many data sets, the first ones.
        epochs: of a training.
        given: whether the labels are as somebody gave them.

    Returns:
        The rows.
    """
    rows = []
    for group, values, finished in zip(groups, results, done, strict=True):
        settings = [(method.name, setting) for method in group for setting in method.settings]
        for at, fold in enumerate(noisy_folds[: int(finished)]):
            for index, (loss, setting) in enumerate(settings):
                searched = {k: v for k, v in setting.items() if k != "learning_rate"}
                row = {"dataset": dataset, "noise": fold.noise, "rate": fold.rate}
                row |= {"loss": loss, "setting": setting_text(searched)}
                row |= {"learning_rate": setting["learning_rate"]}
                row |= {"fold": fold.fold, "seed": fold.seed, "epochs": epochs}
                measured = zip(MEASURED, values[:, at, index], strict=True)
                rows.append(row | {name: _cell(name, float(value)) for name, value in measured})
    return as_given(rows) if given else rows
