"""Probabilities of all examples by models that have not seen them."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from lnl_jax import data, models, train
from lnl_jax._host_arguments import (
    check_integer,
    check_number,
    check_seed,
    count_classes,
    host_classes,
)
from lnl_jax.comparison.catalogue import CATALOGUE, LossEntry, cross_entropy
from lnl_jax.comparison.methods import robust_loss
from lnl_jax.comparison.networks import Network, initial_variables, tabular_in_lanes
from lnl_jax.comparison.runs import Method, make_trainer, stack_settings
from lnl_jax.data.splits import stack

# Of a standardised column: a value that is rare must not outweigh the rest.
LARGEST_FEATURE = 5.0


def cross_validated_probabilities(
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    loss: Callable | LossEntry = cross_entropy,
    num_classes: int | None = None,
    hidden: Sequence[int] = (),
    folds: int = 5,
    repeats: int = 1,
    seed: int = 0,
    epochs: int = 30,
    batch_size: int = 64,
    learning_rates: Sequence[float] = (0.1, 0.01),
    weight_decay: float = 5e-4,
) -> np.ndarray:
    r"""Scores every example by a network that was trained on the other folds.

    .. math::
        p_i = \frac{1}{S} \sum_s \text{softmax}(f_{s,-k_s(i)}(x_i))

    where :math:`k_s(i)` is the fold that holds example i out in repeat s. Folds are shuffled and
    have the classes in proportion, none is left over. All folds, repeats and settings are trained
    by SGD with momentum as one compiled program. Of the settings, learning rates and what the grid
    of the loss leaves open, that one is taken whose predictions out of fold agree most with the
    labels.

    Args:
        inputs: features ``[N, D]``, each column of which is brought to mean 0 and deviation 1
            (beyond 5 it is cut), or images of uint8, ``[N, H, W]`` or ``[N, H, W, C]``, whose
            pixels are the columns.
        labels: integers from 0 to K - 1, ``[N]``.
        loss: ``(logits, labels, ..., axis) -> losses``, one of `CATALOGUE` with its usual settings,
            any other, or a `LossEntry`; keywords are set by `functools.partial`.
        num_classes: K; by default one more than the largest label.
        hidden: widths of the hidden layers; none is a linear head.
        folds: at least 2; each class must have as many examples.
        repeats: S, with other folds, initialisation and order each.
        seed: of the first.
        epochs: passes over the training part.
        batch_size: examples per step.
        learning_rates: to choose from.
        weight_decay: added to the gradient.

    Returns:
        float32, ``[N, K]``, rows of probabilities.

    Raises:
        ValueError: for inputs that are not finite, labels outside of the classes, a class with
            fewer examples than folds, numbers out of range, or a loss that asks for more than its
            keywords; names them.
        FloatingPointError: if no training stayed finite.

    Example:
        >>> label = np.arange(60) % 2
        >>> x = label[:, None] + np.random.default_rng(0).normal(size=(60, 3)) / 4
        >>> found = cross_validated_probabilities(x, label, epochs=5)
        >>> found.shape, bool((found.argmax(1) == label).mean() > 0.9)
        ((60, 2), True)

    References:
        Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels"
        (JAIR, 2021), section 3: probabilities out of sample.
    """
    features = read_inputs(inputs)
    num_classes = count_classes(labels) if num_classes is None else num_classes
    labels = host_classes(labels, len(features), num_classes)
    check_integer("repeats", repeats)
    check_seed("seed", seed)
    check_integer("epochs", epochs)
    check_integer("batch_size", batch_size)
    check_number("weight_decay", weight_decay, at_least=0)
    if not len(learning_rates):
        raise ValueError("learning_rates must hold at least one, got none.")
    for rate in learning_rates:
        check_number("learning_rates", rate, above=0)
    seeds = range(seed, seed + repeats)
    data_sets = [part for one in seeds for part in _folds(labels, folds, one)]
    size = data_sets[0]["train"]["label"].size
    batch_size = min(batch_size, size)
    model = models.LaneMLP(num_classes=num_classes, hidden=tuple(hidden))
    streams = [one * folds + fold for one in seeds for fold in range(folds)]
    params = initial_variables(model, jnp.zeros((features.shape[1], 1)), streams)
    counts = np.maximum(np.bincount(labels, minlength=num_classes), 1)
    steps = -(-size // batch_size) * epochs
    network = of_shared_rows(tabular_in_lanes(model))
    method = method_of(loss, learning_rates, network, steps)
    runs = train.in_lanes(
        make_trainer(
            method,
            train.staircase_schedule(steps),
            functools.partial(_held_out, network),
            weight_decay=weight_decay,
        ),
        stack_settings(method.settings),
        stack(data_sets) | {"params": params, "seed": np.array(streams)},
        shared={"known": {"x": features, "class_counts": np.float32(counts)}},
    )
    plan = data.epoch_plans(size, batch_size, streams)
    sizes = np.array([one["size"] for one in data_sets])
    state = runs.state
    for epoch in range(epochs):
        rows = plan(epoch)
        rows["mask"] &= rows["position"] < sizes[:, None]
        state, _ = runs.run_steps(state, rows)
    found = _whole(runs.measure(state)["probabilities"], data_sets, repeats, len(labels))
    return _best(found, labels, learning_rates)


def read_inputs(inputs: ArrayLike, *, like: ArrayLike | None = None) -> np.ndarray:
    """Features or images as columns of comparable size, float32, ``[N, D]``.

    Args:
        inputs: ``[N, D]``, or images of uint8, ``[N, H, W]`` or ``[N, H, W, C]``.
        like: features whose mean and deviation are taken, as those of a training part; None takes
            their own.

    Returns:
        Columns of mean 0 and deviation 1, cut beyond 5; of images the pixels from 0 to 1.

    Raises:
        ValueError: for other shapes, no number, or a number that is not finite; names its row.
    """
    inputs = np.asarray(inputs)
    if inputs.ndim in (3, 4) and inputs.dtype == np.uint8:
        return np.float32(inputs.reshape(len(inputs), -1)) / 255
    if inputs.ndim != 2 or inputs.dtype.kind not in "biuf" or not inputs.size:
        raise ValueError(
            "inputs must be features [N, D] or images [N, H, W] or [N, H, W, C] of uint8, got "
            f"{inputs.dtype} of shape {inputs.shape}."
        )
    bad = np.argwhere(~np.isfinite(inputs))
    if len(bad):
        row, column = bad[0]
        rows = len(np.unique(bad[:, 0]))
        raise ValueError(
            f"inputs must be finite; {rows} of {len(inputs)} rows are not, the first is row {row}, "
            f"column {column}: {inputs[row, column]}; fill in or drop them."
        )
    inputs = inputs.astype(np.float64)
    like = inputs if like is None else np.asarray(like, np.float64)
    spread = like.std(0)
    scaled = (inputs - like.mean(0)) / np.where(spread > 0, spread, 1)
    return np.float32(np.clip(scaled, -LARGEST_FEATURE, LARGEST_FEATURE))


def _folds(labels: np.ndarray, folds: int, seed: int) -> list[dict[str, Any]]:
    """The rows of every fold, padded to one size; the last row of a smaller part is no example."""
    number = data.fold_numbers(labels, folds, np.random.default_rng(seed))
    rows = [
        (np.flatnonzero(number != fold), np.flatnonzero(number == fold)) for fold in range(folds)
    ]
    sizes = [max(map(len, parts)) for parts in zip(*rows, strict=True)]
    found = []
    for training, held in rows:
        row, of_held = (
            np.pad(part, (0, size - len(part)), mode="edge")
            for part, size in zip((training, held), sizes, strict=True)
        )
        columns = {"row": row, "label": labels[row], "index": np.arange(len(row), dtype=np.int32)}
        found.append({"train": columns, "held": {"row": of_held}, "size": len(training)})
    return found


def of_shared_rows(network: Network) -> Network:
    """A network of rows of numbers that all data sets share, ``known["x"]``."""

    def looked_up(known, part):
        return part | {"x": known["x"][part["row"]]}

    def training_scores(params, stats, known, batch, key, views):
        return network.training_scores(params, stats, known, looked_up(known, batch), key, views)

    def scores(params, stats, known, part):
        return network.scores(params, stats, known, looked_up(known, part))

    return network._replace(training_scores=training_scores, scores=scores)


def method_of(
    loss: Callable | LossEntry, learning_rates: Sequence[float], network: Network, steps: int
) -> Method:
    """The loss with each setting; one that the catalogue does not have is taken as it is."""
    function = loss.function if isinstance(loss, LossEntry) else loss
    plain = function.func if isinstance(function, functools.partial) else function
    if not isinstance(loss, LossEntry) and all(e.function is not plain for e in CATALOGUE.values()):
        loss = LossEntry(functools.wraps(plain)(functools.partial(loss)))
    given = loss.keywords if isinstance(loss, functools.partial) else {}
    if isinstance(loss, LossEntry):
        given = loss.fixed
    if "matrix" in inspect.signature(function).parameters and "matrix" not in given:
        raise ValueError(
            "loss asks for matrix, which only its user knows: functools.partial(loss, matrix=...)."
        )
    return robust_loss(loss, learning_rates, network=network, total_steps=steps)


def _held_out(network: Network, setting, data_set, state) -> dict[str, jax.Array]:
    _, stats = state.extra
    scores = network.scores(state.params, stats, data_set["known"], data_set["held"])
    return {"probabilities": jax.nn.softmax(scores)}


def _whole(
    held: np.ndarray, data_sets: Sequence[dict[str, Any]], repeats: int, size: int
) -> np.ndarray:
    """The parts put together, ``[settings, repeats, N, K]``."""
    found = np.empty((held.shape[1], repeats, size, held.shape[-1]), np.float32)
    folds = len(data_sets) // repeats
    for at, (values, data_set) in enumerate(zip(held, data_sets, strict=True)):
        found[:, at // folds, data_set["held"]["row"]] = values
    return found


def _best(found: np.ndarray, labels: np.ndarray, learning_rates: Sequence[float]) -> np.ndarray:
    finite = np.isfinite(found).all((1, 2, 3))
    if not finite.any():
        raise FloatingPointError(
            "no training stayed finite; learning_rates must hold a lower one than "
            f"{', '.join(f'{rate:g}' for rate in learning_rates)}."
        )
    agreement = (found.argmax(-1) == labels).mean((1, 2))
    return found[np.where(finite, agreement, -1).argmax()].mean(0)
