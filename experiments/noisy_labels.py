"""What the studies of robust losses share: digits with noisy labels, losses as methods, metrics.

One setting is chosen for all seeds, by the mean of their accuracies on noisy validation labels.
Each seed has a split of its own, so an example that one seed validates on may be tested on by
another.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.choices import EARLY, FIXED, LOSSES, VIEWS, Loss, Normalization
from experiments.lockstep import Method, Setting
from lnl_jax import data, metrics, models, noise
from lnl_jax.data.digits import NUM_CLASSES

MODEL = models.MLP(num_classes=NUM_CLASSES, hidden=(64, 64))
BASELINE = "cross_entropy"
# Per epoch, data set and setting; `accuracy` and `nll` are on the clean test labels.
METRICS = ("loss", "accuracy", "nll", "validation_accuracy", "memorized")
# Standard deviation of what tells the views of an example apart; pixels are from 0 to 1.
VIEW_JITTER = 0.1
# What a loss may ask for that follows from the data set: the noise and the counts of the labels.
KNOWN = ("matrix", "class_counts")
PyTree = Any


def noisy_digits(matrix: np.ndarray, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Training and validation part with noisy labels, test part with clean ones."""
    rng = np.random.default_rng(seed)
    rest, test = data.hold_out(data.digits(), 0.2, rng)
    noisy = noise.corrupt(rest["label"], matrix, rng)
    rest |= {"clean_label": rest["label"], "label": noisy.labels}
    training, validation = data.hold_out(rest, 0.2, rng)
    counts = np.bincount(training["label"], minlength=NUM_CLASSES)
    known = {"matrix": np.float32(matrix), "class_counts": np.float32(np.maximum(counts, 1))}
    return {"train": training, "validation": validation, "test": test, "known": known}


def stack(data_sets: Sequence[Mapping]) -> dict[str, Any]:
    """Data sets of equal sizes with a leading axis."""
    return jax.tree.map(lambda *arrays: np.stack(arrays), *data_sets)


def name_of(loss: Loss) -> str:
    """The name in `LOSSES` of a function, its keywords set or not."""
    chosen = loss.func if isinstance(loss, functools.partial) else loss
    for name, function in LOSSES.items():
        if function is chosen:
            return name
    raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {chosen}.")


def robust_loss(
    loss: Loss,
    normalize: Normalization,
    hyperparameters: Sequence[Setting],
    learning_rates: Sequence[float],
    *,
    total_steps: int,
    **held: Any,
) -> Method:
    """A loss as a method, with each learning rate and each setting that is still open.

    Keywords set on the loss itself come first, then `held`, then `FIXED`.

    Raises:
        ValueError: from the loss, if a hyperparameter is out of range.
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
        needed=[
            key for key in KNOWN if key in inspect.signature(loss).parameters and key not in own
        ],
        views=VIEWS.get(name),
        early={key: (value, fixed[key]) for key, value in EARLY.get(name, {}).items()},
        half=total_steps // 2,
    )
    for setting in open_settings:
        call.try_out(setting)
    settings = [
        {"learning_rate": rate} | setting for rate in learning_rates for setting in open_settings
    ]
    return Method(name, call, settings, extra=jnp.zeros((), jnp.int32))


@dataclasses.dataclass(frozen=True)
class _Call:
    """How a loss is called in a step; `extra` counts the steps.

    `needed` are its arguments among `KNOWN`; `early` holds arguments with two values, one until the
    step `half` and one from there on.
    """

    loss: Callable
    normalize: Normalization
    needed: Sequence[str]
    views: int | None
    early: dict[str, tuple[float, float]]
    half: int

    def __call__(self, setting, known, params, extra, rows, batch, key):
        arguments = {name: value for name, value in setting.items() if name != "learning_rate"}
        arguments |= {name: known[name] for name in self.needed}
        for name, (early, late) in self.early.items():
            arguments[name] = jnp.where(extra < self.half, early, late)
        logits = self.normalize(self._scores(params, batch["x"], key))
        return self.loss(logits, batch["label"], **arguments), (extra + 1, rows, {})

    def _scores(self, params: PyTree, x: jax.Array, key: jax.Array) -> jax.Array:
        """The network's scores, ``[B, K]``, or those of jittered views, ``[V, B, K]``."""
        if self.views is None:
            return MODEL.apply(params, x)
        jittered = x[None] + VIEW_JITTER * jax.random.normal(key, (self.views, *x.shape))
        return jax.vmap(MODEL.apply, (None, 0))(params, jittered)

    def try_out(self, setting: Setting) -> None:
        """Calls the loss outside of any program, where a value out of range still has a name."""
        known = {"matrix": np.eye(NUM_CLASSES), "class_counts": np.ones(NUM_CLASSES)}
        shape = (1, NUM_CLASSES) if self.views is None else (self.views, 1, NUM_CLASSES)
        arguments = {name: known[name] for name in self.needed} | setting
        self.loss(jnp.zeros(shape), jnp.zeros(1, jnp.int32), **arguments)


def measure(params: PyTree, parts: Mapping[str, Mapping]) -> dict[str, jax.Array]:
    """All of `METRICS` but the loss."""
    training, validation, test = parts["train"], parts["validation"], parts["test"]
    on_test = MODEL.apply(params, test["x"])
    on_training = MODEL.apply(params, training["x"])
    averages = {
        "accuracy": metrics.accuracy(on_test, test["label"]),
        "nll": metrics.negative_log_likelihood(on_test, test["label"]),
        "validation_accuracy": metrics.accuracy(
            MODEL.apply(params, validation["x"]), validation["label"]
        ),
        "memorized": metrics.memorization(on_training, training["label"], training["clean_label"]),
    }
    return {name: average.value for name, average in averages.items()}


def best_setting(values: np.ndarray) -> int:
    """The one with the best mean validation accuracy, given ``[METRICS, seeds, settings]``."""
    return int(values[METRICS.index("validation_accuracy")].mean(0).argmax())


def check_protocol(
    *,
    seeds: int,
    epochs: int,
    batch_size: int,
    weight_decay: float,
    learning_rates: Sequence[float],
) -> None:
    """Raises ValueError for arguments that no training can have."""
    if seeds < 2:
        raise ValueError(f"seeds must be at least 2, for a standard deviation; got {seeds}.")
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    check_choice("learning_rates", learning_rates)
    if min(learning_rates) <= 0:
        raise ValueError(f"learning_rates must be above 0, got {learning_rates}.")
    if weight_decay < 0:
        raise ValueError(f"weight_decay must be at least 0, got {weight_decay}.")


def check_choice(name: str, values: Sequence[float]) -> None:
    """Raises ValueError if there is nothing to choose from."""
    if not len(values):
        raise ValueError(f"{name} must hold at least one value to choose from, got none.")
