"""What the studies of robust losses share: digits with noisy labels, losses as methods, metrics.

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

from lnl_jax import losses, metrics
from lnl_jax.comparison.catalogue import (
    EARLY,
    FIXED,
    KNOWN,
    LOSSES,
    LOSSES_WITH_ROWS,
    VIEWS,
    Loss,
    Normalization,
)
from lnl_jax.comparison.networks import Network
from lnl_jax.comparison.runs import Method, Setting
from lnl_jax.runner.arguments import StudyError, refused

BASELINE = "cross_entropy"
# Per epoch, data set and setting; `accuracy` and `nll` are on the clean test labels.
METRICS = ("loss", "accuracy", "nll", "validation_accuracy", "memorized")
PyTree = Any


def what_is_known(matrix: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """All of `KNOWN`: the transition matrix ``[K, K]``, and counts of the labels, at least 1."""
    counts = np.bincount(labels, minlength=len(matrix))
    return {"matrix": np.float32(matrix), "class_counts": np.float32(np.maximum(counts, 1))}


def name_of(loss: Loss) -> str:
    """The name in `LOSSES` or `LOSSES_WITH_ROWS` of a function, its keywords set or not."""
    chosen = loss.func if isinstance(loss, functools.partial) else loss
    for name, function in (LOSSES | LOSSES_WITH_ROWS).items():
        if function is chosen:
            return name
    raise StudyError(f"loss must be one of {', '.join(LOSSES)}; got {chosen}.")


def robust_loss(
    loss: Loss,
    normalize: Normalization,
    hyperparameters: Sequence[Setting],
    learning_rates: Sequence[float],
    *,
    network: Network,
    total_steps: int,
    **held: Any,
) -> Method:
    """A loss as a method, with each learning rate and each setting that is still open.

    Keywords set on the loss itself come first, then `held`, then `FIXED`.

    Raises:
        StudyError: from the loss, if a hyperparameter is out of range.
    """
    name = name_of(loss)
    own = loss.keywords if isinstance(loss, functools.partial) else {}
    fixed = FIXED.get(name, {}) | held | own
    open_settings = []
    for setting in hyperparameters or [{}]:
        still_open = {key: value for key, value in setting.items() if key not in fixed}
        if still_open not in open_settings:
            open_settings.append(still_open)
    call = _Call(
        functools.partial(loss, **fixed),
        normalize,
        network,
        needed=[
            key for key in KNOWN if key in inspect.signature(loss).parameters and key not in own
        ],
        views=VIEWS.get(name),
        early={key: (value, fixed[key]) for key, value in EARLY.get(name, {}).items()},
        half=total_steps // 2,
        with_rows=name in LOSSES_WITH_ROWS,
    )
    for setting in open_settings:
        with refused(f"loss {name}"):
            call.try_out(setting)
    settings = [
        {"learning_rate": rate} | setting for rate in learning_rates for setting in open_settings
    ]
    return Method(name, call, settings, extra=(jnp.zeros((), jnp.int32), network.stats))


@dataclasses.dataclass(frozen=True)
class _Call:
    """How a loss is called in a step; `extra` is the number of the step and the network's stats.

    `needed` are its arguments among `KNOWN`; `early` holds arguments with two values, one until the
    step `half` and one from there on. A loss `with_rows` takes and returns those of the batch.
    """

    loss: Callable
    normalize: Normalization
    network: Network
    needed: Sequence[str]
    views: int | None
    early: dict[str, tuple[float, float]]
    half: int
    with_rows: bool

    def __call__(self, setting, known, params, extra, rows, batch, key):
        step, stats = extra
        arguments = {name: value for name, value in setting.items() if name != "learning_rate"}
        arguments |= {name: known[name] for name in self.needed}
        for name, (early, late) in self.early.items():
            arguments[name] = jnp.where(step < self.half, early, late)
        scores, stats = self.network.training_scores(params, stats, known, batch, key, self.views)
        axis = self.network.class_axis
        scores, arguments = self.normalize(scores, axis=axis), arguments | {"axis": axis}
        if self.with_rows:
            values, rows = self.loss(scores, batch["label"], rows, **arguments)
        else:
            values = self.loss(scores, batch["label"], **arguments)
        return values, ((step + 1, stats), rows, {})

    def try_out(self, setting: Setting) -> None:
        """Calls the loss outside of any program, where a value out of range still has a name."""
        num_classes = self.network.num_classes
        known = {"matrix": np.eye(num_classes), "class_counts": np.ones(num_classes)}
        shape = (1, num_classes) if self.views is None else (self.views, 1, num_classes)
        arguments = {name: known[name] for name in self.needed} | setting
        rows = (jnp.ones(1),) if self.with_rows else ()
        inputs = jnp.zeros(shape), jnp.zeros(1, jnp.int32), *rows
        jax.eval_shape(lambda: self.loss(*inputs, **arguments))


def measure(
    network: Network, params: PyTree, extra: PyTree, parts: Mapping[str, Mapping]
) -> dict[str, jax.Array]:
    """All of `METRICS` but the loss.

    Args:
        network: what is trained.
        params: its parameters.
        extra: the number of the step and the network's stats.
        parts: `train`, `validation`, `test` and `known`; where there is a part `probe` of the
            training part, it stands for the whole of it.
    """
    _, stats = extra
    training = parts.get("probe", parts["train"])

    def scores(part):
        return network.scores(params, stats, parts["known"], part)

    on_test, test = scores(parts["test"]), parts["test"]
    averages = {
        "accuracy": metrics.accuracy(on_test, test["label"]),
        "nll": metrics.negative_log_likelihood(on_test, test["label"]),
        "validation_accuracy": metrics.accuracy(
            scores(parts["validation"]), parts["validation"]["label"]
        ),
        "memorized": metrics.memorization(
            scores(training), training["label"], training["clean_label"]
        ),
    }
    return {name: average.value for name, average in averages.items()}


def adapted_temperatures(
    method: Method, setting: Setting, scores: jax.Array, labels: jax.Array
) -> jax.Array:
    """The temperature that ALDR-KL gives each example, ``[B]``, at one setting of its method."""
    call = method.loss_fn
    searched = {name: value for name, value in setting.items() if name != "learning_rate"}
    arguments = call.loss.keywords | searched
    return losses.aldr_temperature(call.normalize(scores), labels, **arguments)


def best_setting(values: np.ndarray) -> int:
    """The one with the best mean validation accuracy, given ``[METRICS, seeds, settings]``."""
    return int(values[METRICS.index("validation_accuracy")].mean(0).argmax())
