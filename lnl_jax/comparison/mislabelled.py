"""Which training examples are mislabelled: suspicion, and the temperatures that a loss adapts."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lnl_jax import data, metrics
from lnl_jax._extras import require
from lnl_jax.comparison.methods import adapted_temperatures
from lnl_jax.comparison.networks import Network
from lnl_jax.comparison.outcome import Outcome
from lnl_jax.comparison.runs import Method, Setting
from lnl_jax.comparison.statistics import standard_deviation
from lnl_jax.runner.outputs import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What is told apart, and whether its label is known to be false; and where no label is, all.
KINDS = {"clean": False, "mislabelled": True}
KINDS_GIVEN = {"as given": False, "changed": True}
ALL = {"all": False}


class Scored(NamedTuple):
    """The training part of one data set under one trained network.

    Attributes:
        index: rows of the training set, ``[n]``.
        suspicion: ``-log softmax(f)_y`` of the given label, ``[n]``.
        predicted: the class with the largest score, ``[n]``.
        temperature: of each example, ``[n]``; None unless the loss adapts it.
    """

    index: np.ndarray
    suspicion: np.ndarray
    predicted: np.ndarray
    temperature: np.ndarray | None


def score_training_parts(
    outcome: Outcome, network: Network, data_sets: Sequence[Mapping], *, streamed: bool = False
) -> dict[str, list[Scored]]:
    """Every method at its chosen setting on the training part of every data set.

    Args:
        outcome: of the comparison.
        network: what was trained.
        data_sets: one after the other, `train` and `known` among their parts.
        streamed: whether they hold images that stay on the host; nothing is compiled whole then.

    Returns:
        By the name of the method, a `Scored` for each data set.
    """
    found = {}
    for method, state, best in zip(outcome.methods, outcome.states, outcome.best, strict=True):
        score = functools.partial(_score, network, method, method.settings[best])
        score = score if streamed else jax.jit(score)
        found[method.name] = []
        for position, data_set in enumerate(data_sets):
            params, stats = jax.tree.map(
                lambda array, at=position, best=best: array[at, best],
                (state.params, state.extra[1]),
            )
            parts = {name: dict(data_set[name]) for name in ("train", "known")}
            found[method.name].append(jax.tree.map(np.asarray, score(params, stats, parts)))
    return found


def _score(network: Network, method: Method, setting: Setting, params, stats, parts) -> Scored:
    part = parts["train"]
    scores = network.scores(params, stats, parts["known"], part)
    suspicion = optax.softmax_cross_entropy_with_integer_labels(scores, part["label"])
    temperature = None
    if method.name == "aldr_kl":
        temperature = adapted_temperatures(method, setting, scores, part["label"])
    return Scored(part["index"], suspicion, scores.argmax(-1), temperature)


def add_detection(
    rows: Sequence[Row], scored: Mapping[str, Sequence[Scored]], false: Sequence[np.ndarray]
) -> list[Row]:
    """The table with how well each method's suspicion finds the mislabelled training examples.

    As it was where no label is known to be false.

    Args:
        rows: from `results_table`.
        scored: from `score_training_parts`.
        false: where the label is not the clean one, ``[n]`` for each data set.

    Returns:
        The rows with ``AUROC %``, the mean over the data sets, before ``chosen``.
    """
    if not any(map(np.any, false)):
        return list(rows)
    extended = []
    for row in rows:
        of = scored[row["method"]]
        areas = [
            metrics.auroc(jnp.asarray(each.suspicion), jnp.asarray(where))
            for each, where in zip(of, false, strict=True)
        ]
        chosen = row["chosen"]
        rest = {key: value for key, value in row.items() if key != "chosen"}
        extended.append(rest | {"AUROC %": 100 * float(np.mean(areas)), "chosen": chosen})
    return extended


def temperatures_table(
    scored: Mapping[str, Sequence[Scored]], false: Sequence[np.ndarray], *, given: bool = False
) -> list[Row]:
    """The adapted temperatures of clean and of mislabelled examples; empty where no loss adapts.

    Of all examples in one line where no label is known to be false.

    Args:
        scored: from `score_training_parts`.
        false: where the label is not the clean one, ``[n]`` for each data set.
        given: whether that one is as somebody gave it, and need not be right.

    Returns:
        Dicts with ``method``, ``examples``, ``mean temperature`` and ``std`` over the data sets,
        and quantiles over their examples.
    """
    rows, kinds = [], _kinds(false, given)
    for name, of in scored.items():
        if of[0].temperature is None:
            continue
        for kind, wanted in kinds.items():
            parts = [
                each.temperature[where == wanted] for each, where in zip(of, false, strict=True)
            ]
            if not all(map(len, parts)):
                continue
            means = np.array([part.mean(dtype=np.float64) for part in parts])
            low, middle, high = np.quantile(np.concatenate(parts), (0.05, 0.5, 0.95))
            row = {"method": name, "examples": kind, "mean temperature": means.mean()}
            row |= {"std": standard_deviation(means), "5%": low, "median": middle, "95%": high}
            rows.append({k: float(v) if isinstance(v, np.floating) else v for k, v in row.items()})
    return rows


def _kinds(false: Sequence[np.ndarray], given: bool) -> dict[str, bool]:
    if not any(map(np.any, false)):
        return ALL
    return KINDS_GIVEN if given else KINDS


def temperatures_figure(
    scored: Mapping[str, Sequence[Scored]], false: Sequence[np.ndarray], *, given: bool = False
) -> "Figure | None":
    """Histograms of the adapted temperatures of the first method that has some.

    Args:
        scored: from `score_training_parts`.
        false: where the label is not the clean one, ``[n]`` for each data set.
        given: whether that one is as somebody gave it, and need not be right.

    Returns:
        A figure; None where no loss adapts.
    """
    require("matplotlib")
    from matplotlib.figure import Figure

    adapting = [of for of in scored.values() if of[0].temperature is not None]
    if not adapting:
        return None
    values = np.concatenate([each.temperature for each in adapting[0]])
    mislabelled = np.concatenate(false)
    figure = Figure(figsize=(5.5, 3.4), layout="constrained")
    panel = figure.subplots()
    edges = np.histogram_bin_edges(values, 40)
    for kind, wanted in _kinds(false, given).items():
        chosen = values[mislabelled == wanted]
        if len(chosen):
            panel.hist(chosen, edges, density=True, alpha=0.6, label=kind)
    panel.set(xlabel="adapted temperature", ylabel="density", title="ALDR-KL, training examples")
    panel.legend(frameon=False)
    return figure


def suspicious_images(
    scored: Scored, part: Mapping[str, Any], splits: data.Splits, method: str
) -> "Figure":
    """The training images whose label the network believes least: given and predicted.

    Where the noise is known, green are those whose given label it made false.

    Args:
        scored: the training part of a fold, from `score_training_parts`.
        part: its ``label`` and ``clean_label``, ``[n]``.
        splits: the images.
        method: its name, for the title.

    Returns:
        A figure of 32 images.
    """
    require("matplotlib")
    from matplotlib.figure import Figure

    def name(label):
        return splits.class_names[label] if splits.class_names else str(label)

    figure = Figure(figsize=(10, 5.6), layout="constrained")
    panels = figure.subplots(4, 8).ravel()
    false = part["label"] != part["clean_label"]
    for panel, position in zip(panels, np.argsort(-scored.suspicion), strict=False):
        image = splits.train["image"][scored.index[position]]
        # Of other channels than gray or colours only the first can be shown.
        whole = image.ndim == 2 or image.shape[-1] in (3, 4)
        shown = image if whole else image[..., 0]
        panel.imshow(shown, cmap="gray")
        given, predicted = part["label"][position], scored.predicted[position]
        text = f"given {name(given)}\npredicted {name(predicted)}"
        panel.set_title(text, fontsize=8, color="tab:green" if false[position] else "black")
    for panel in panels:
        panel.axis("off")
    title = f"the labels that {method} believes least"
    known = "changed by the noise" if splits.given else "known to be false"
    figure.suptitle(title + f"; green: {known}" * bool(false.any()))
    return figure
