"""Losses of the catalogue as methods of a comparison, and what is measured of their runs.

One setting is chosen for all seeds, by the mean of their accuracies on noisy validation labels.
Each seed of the digits has a split of its own, so an example that one seed validates on may be
tested on by another.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import losses, metrics, train
from lnl_jax.comparison.catalogue import (
    CATALOGUE,
    KNOWN,
    LOSSES,
    Loss,
    LossEntry,
    Normalization,
)
from lnl_jax.comparison.networks import Network
from lnl_jax.comparison.runs import Method, Setting
from lnl_jax.runner.arguments import StudyError, refused

BASELINE = "cross_entropy"
# Per epoch, data set and setting; `accuracy` and `nll` are on the clean test labels.
METRICS = ("loss", "accuracy", "nll", "validation_accuracy", "memorized")
# What a setting holds that is no argument of the loss.
OF_OPTIMIZER = ("learning_rate", "weight_decay")
PyTree = Any


def what_is_known(matrix: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """What a loss may be told of a data set, all of `KNOWN`.

    Args:
        matrix: the transition matrix of the noise, ``[K, K]``.
        labels: integers, ``[N]``.

    Returns:
        ``matrix``, and ``class_counts`` of the labels, ``[K]``, at least 1.
    """
    counts = np.bincount(labels, minlength=len(matrix))
    return {"matrix": np.float32(matrix), "class_counts": np.float32(np.maximum(counts, 1))}


def find_entry(loss: Loss) -> tuple[str, LossEntry]:
    """The name and the entry in `CATALOGUE` of a function.

    Args:
        loss: the function itself, or `functools.partial` of it with keywords set.

    Returns:
        Name and entry.

    Raises:
        StudyError: if there is none.
    """
    chosen = loss.func if isinstance(loss, functools.partial) else loss
    for name, entry in CATALOGUE.items():
        if entry.function is chosen:
            return name, entry
    raise StudyError(f"loss must be one of {', '.join(LOSSES)}; got {chosen}.")


def robust_loss(
    loss: Loss | LossEntry,
    learning_rates: Sequence[float],
    *,
    network: Network,
    total_steps: int,
    grid: Sequence[Setting] | None = None,
    normalize: Normalization | None = None,
    weight_decays: Sequence[float] = (),
    **fixed: Any,
) -> Method:
    """A loss as a method, with each learning rate and each setting that is still open.

    Args:
        loss: a function of the catalogue; keywords set on it are not searched. Or an entry of one's
            own, which is named after its function.
        learning_rates: to choose from.
        network: what is trained.
        total_steps: of a training, in whose first half the entry's `warmup` holds.
        grid: the settings to choose from; None takes the entry's.
        normalize: what the logits go through before the loss; None takes the entry's.
        weight_decays: to choose from; none leaves the choice to `make_trainer`.
        **fixed: keywords in place of those that the entry fixes.

    Returns:
        The `Method`.

    Raises:
        StudyError: if the loss is not in the catalogue, or refuses a hyperparameter.
    """
    keywords = {}
    if isinstance(loss, LossEntry):
        name, entry = loss.function.__name__, loss
    else:
        name, entry = find_entry(loss)
        keywords = loss.keywords if isinstance(loss, functools.partial) else {}
    fixed = {**entry.fixed, **fixed, **keywords}
    open_settings = []
    for setting in entry.grid if grid is None else grid:
        still_open = {key: value for key, value in setting.items() if key not in fixed}
        if still_open not in open_settings:
            open_settings.append(still_open)
    accepted = inspect.signature(entry.function).parameters
    call = _Call(
        functools.partial(entry.function, **fixed),
        entry.normalize if normalize is None else normalize,
        network,
        needed=[key for key in KNOWN if key in accepted and key not in fixed],
        views=entry.views,
        warmup={key: (value, fixed[key]) for key, value in entry.warmup.items()},
        half=total_steps // 2,
        with_rows=entry.initial_rows is not None,
    )
    initial_rows = _rows_of_classes(entry, network, fixed)
    for setting in open_settings:
        with refused(f"loss {name}"):
            call.try_out(setting, initial_rows)
    rates = [{"learning_rate": rate} for rate in learning_rates]
    if weight_decays:
        rates = [rate | {"weight_decay": decay} for rate in rates for decay in weight_decays]
    settings = [rate | setting for rate in rates for setting in open_settings]
    extra = jnp.zeros((), jnp.int32), network.stats
    return Method(name, call, settings, extra, initial_rows)


def _rows_of_classes(
    entry: LossEntry, network: Network, fixed: Mapping[str, Any]
) -> Callable[[Setting, int, jax.Array], PyTree] | None:
    if entry.initial_rows is None:
        return None
    return lambda setting, size, key: entry.initial_rows(
        {**fixed, **setting}, size, network.num_classes, key
    )


@dataclasses.dataclass(frozen=True)
class _Call:
    """How a loss is called in a step; `extra` is the number of the step and the network's stats.

    `needed` are its arguments among `KNOWN`; `warmup` holds arguments with two values, one until
    the step `half` and one from there on. A loss `with_rows` takes and returns those of the batch.
    """

    loss: Callable
    normalize: Normalization
    network: Network
    needed: Sequence[str]
    views: int | None
    warmup: dict[str, tuple[float, float]]
    half: int
    with_rows: bool

    def __call__(self, setting, known, params, extra, rows, batch, key):
        step, stats = extra
        scores, stats = self.network.training_scores(params, stats, known, batch, key, self.views)
        values, rows = self.of_scores(setting, known, step, scores, batch["label"], rows)
        return values, ((step + 1, stats), rows, {})

    def of_scores(self, setting, known, step, scores, labels, rows):
        """The losses and the new rows, given what the network says of the batch."""
        arguments = {name: value for name, value in setting.items() if name not in OF_OPTIMIZER}
        arguments |= {name: known[name] for name in self.needed}
        for name, (early, late) in self.warmup.items():
            arguments[name] = jnp.where(step < self.half, early, late)
        axis = self.network.class_axis
        scores, arguments = self.normalize(scores, axis=axis), arguments | {"axis": axis}
        if self.with_rows:
            return self.loss(scores, labels, rows, **arguments)
        return self.loss(scores, labels, **arguments), rows

    def try_out(self, setting: Setting, initial_rows: Callable | None) -> None:
        """Calls the loss outside of any program, where a value out of range still has a name."""
        num_classes = self.network.num_classes
        known = {"matrix": np.eye(num_classes), "class_counts": np.ones(num_classes)}
        shape = (1, num_classes) if self.views is None else (self.views, 1, num_classes)
        arguments = {name: known[name] for name in self.needed} | setting
        # The values of rows say nothing here.
        key = jax.random.key(0)
        rows = () if initial_rows is None else (initial_rows(setting, 1, key),)
        inputs = jnp.zeros(shape), jnp.zeros(1, jnp.int32), *rows
        jax.eval_shape(lambda: self.loss(*inputs, **arguments))


def measure(
    network: Network, setting: Setting, data_set: Mapping[str, Any], state: train.TrainState
) -> dict[str, jax.Array]:
    """All of `METRICS` but the loss, for one run of `robust_loss`.

    Args:
        network: what is trained.
        setting: of the run.
        data_set: the dicts `train`, `validation`, `test` and `known`; where there is a `probe` of
            the training part, it stands for the whole of it. Without its ``clean_label`` nothing is
            known to be memorised: NaN.
        state: of the run.

    Returns:
        Scalars by name.
    """
    _, stats = state.extra
    training = data_set.get("probe", data_set["train"])

    def scores(part):
        return network.scores(state.params, stats, data_set["known"], part)

    on_test, test = scores(data_set["test"]), data_set["test"]
    averages = {
        "accuracy": metrics.accuracy(on_test, test["label"]),
        "nll": metrics.negative_log_likelihood(on_test, test["label"]),
        "validation_accuracy": metrics.accuracy(
            scores(data_set["validation"]), data_set["validation"]["label"]
        ),
        "memorized": metrics.memorization(
            scores(training), training["label"], training.get("clean_label", training["label"])
        ),
    }
    return {name: average.value for name, average in averages.items()}


def adapted_temperatures(
    method: Method, setting: Setting, scores: jax.Array, labels: jax.Array
) -> jax.Array:
    """The temperature that ALDR-KL gives each example.

    Args:
        method: `robust_loss` of `losses.aldr_kl`.
        setting: one of its settings.
        scores: of the network, ``[B, K]``.
        labels: integers, ``[B]``.

    Returns:
        ``[B]``.
    """
    call = method.loss_fn
    searched = {name: value for name, value in setting.items() if name not in OF_OPTIMIZER}
    arguments = call.loss.keywords | searched
    return losses.aldr_temperature(call.normalize(scores), labels, **arguments)


def best_setting(values: np.ndarray) -> int:
    """The setting with the best mean accuracy on the noisy validation labels.

    Args:
        values: ``[METRICS, D, S]``, over D data sets.

    Returns:
        Its number; the first of equals.
    """
    return int(values[METRICS.index("validation_accuracy")].mean(0).argmax())
