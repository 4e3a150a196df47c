"""Losses against cross-entropy on one noisily labelled data set: what the ldr_* studies share."""

import types
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lnl_jax import train
from lnl_jax.comparison.catalogue import CATALOGUE, LOSSES, Loss, Normalization, unnormalized
from lnl_jax.comparison.methods import BASELINE, METRICS, best_setting, find_entry, robust_loss
from lnl_jax.comparison.networks import Network
from lnl_jax.comparison.runs import Method, search
from lnl_jax.comparison.statistics import curves, describe, paired_gain, product, spread
from lnl_jax.runner.arguments import check_batch_size
from lnl_jax.runner.outputs import Checkpoint, Resume, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PyTree = Any

# The losses to which `temperatures` and `margin` belong, and all that are compared by default.
ADAPTED = ("ldr_kl", "aldr_kl")
COMPARED = ("generalized_cross_entropy", *ADAPTED)
TITLES = {"accuracy": "test accuracy", "memorized": "false labels memorised"}


class Protocol(NamedTuple):
    """How every loss is trained, and what validation chooses from."""

    epochs: int
    batch_size: int
    learning_rates: Sequence[float]
    weight_decay: float
    temperatures: Sequence[float]
    qs: Sequence[float]
    margin: float

    def steps_per_epoch(self, size: int) -> int:
        """For a training part of that many examples."""
        return -(-size // self.batch_size)


class Outcome(NamedTuple):
    """What a comparison ends with.

    Attributes:
        methods: cross-entropy first.
        states: the last ones, ``[data sets, settings]`` each.
        history: ``[METRICS, epochs, data sets, settings]`` each.
    """

    methods: Sequence[Method]
    states: Sequence[PyTree]
    history: Sequence[np.ndarray]

    @property
    def best(self) -> list[int]:
        """The chosen setting of each method, after the last epoch."""
        return [best_setting(values[:, -1]) for values in self.history]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The history by the name of the method."""
        return {m.name: values for m, values in zip(self.methods, self.history, strict=True)}


def compared(
    loss: Loss | None,
    normalize: Normalization | None,
    own: Mapping[str, Normalization] = types.MappingProxyType({}),
) -> list[tuple[str, Loss, Normalization]]:
    """Cross-entropy, always, and what it is compared with: names, losses, normalisations.

    Args:
        loss: this one alone; None takes `COMPARED`.
        normalize: for all of them; None takes each loss's own, from the catalogue.
        own: in place of these.
    """
    functions = {name: LOSSES[name] for name in COMPARED}
    if loss is not None:
        functions = {find_entry(loss)[0]: loss}
    return [(BASELINE, LOSSES[BASELINE], unnormalized)] + [
        (name, function, normalize or own.get(name) or CATALOGUE[name].normalize)
        for name, function in functions.items()
        if name != BASELINE
    ]


def methods_of(
    choices: Sequence[tuple[str, Loss, Normalization]],
    network: Network,
    protocol: Protocol,
    size: int,
) -> list[Method]:
    """The losses with the settings that the protocol leaves open, for `size` training examples.

    Raises:
        StudyError: for a batch of more than that, or a setting that a loss refuses.
    """
    check_batch_size(protocol.batch_size, size)
    temperatures = product(temperature=protocol.temperatures)
    grids = dict.fromkeys(ADAPTED, temperatures)
    grids |= {"generalized_cross_entropy": product(q=protocol.qs)}
    return [
        robust_loss(
            function,
            protocol.learning_rates,
            network=network,
            total_steps=protocol.steps_per_epoch(size) * protocol.epochs,
            grid=grids.get(name),
            normalize=normalization,
            **({"margin": protocol.margin} if name in ADAPTED else {}),
        )
        for name, function, normalization in choices
    ]


def compare(
    methods: Sequence[Method],
    make: Callable[[Method], train.Runs],
    plan: Callable[[int], dict[str, np.ndarray]],
    protocol: Protocol,
    size: int,
    resume: Resume,
) -> Generator[Row | Checkpoint, None, Outcome]:
    """Trains all methods; yields rows and checkpoints as `search` does."""
    states, history = yield from search(
        methods,
        [make(method) for method in methods],
        plan,
        METRICS,
        best_setting,
        epochs=protocol.epochs,
        steps_per_epoch=protocol.steps_per_epoch(size),
        resume=resume,
    )
    return Outcome(methods, states, history)


def results_table(outcome: Outcome) -> list[dict[str, Any]]:
    """A line per method: the chosen setting, percentages, and the paired gain over the first.

    How many false labels were memorised is left out where no label is known to be false.
    """
    rows = []
    for method, values, best in zip(outcome.methods, outcome.history, outcome.best, strict=True):
        of = {name: values[index, -1, :, best] for index, name in enumerate(METRICS)}
        accuracy = 100 * of["accuracy"].astype(np.float64)
        row = {"method": method.name}
        row |= {"accuracy %": accuracy.mean(), "std": spread(accuracy)}
        if not rows:
            baseline = accuracy
            row |= {"gain": None, "std of gain": None, "gain / its s.e.": None}
        else:
            row |= paired_gain(accuracy, baseline)
        row |= {"nll": of["nll"].mean(), "memorized %": 100 * of["memorized"].mean()}
        row = {key: float(v) if isinstance(v, np.floating) else v for key, v in row.items()}
        rows.append(row | {"chosen": describe(method.settings[best])})
    return without_unknown(rows)


def without_unknown(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without the columns that are NaN in all of them: what cannot be known."""
    columns = dict.fromkeys(key for row in rows for key in row)
    unknown = {
        column
        for column in columns
        if all(isinstance(row.get(column), float) and np.isnan(row[column]) for row in rows)
    }
    return [{key: value for key, value in row.items() if key not in unknown} for row in rows]


def curves_figure(outcome: Outcome, title: str) -> "Figure":
    """Accuracy and memorised labels over the epochs, of every method at its chosen setting."""
    figure = curves(outcome.methods, outcome.history, METRICS, best_setting, TITLES)
    figure.suptitle(title)
    return figure
