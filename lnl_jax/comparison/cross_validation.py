"""Probabilities of all examples by models that have not seen them."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

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
    dtype: Any = None,
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
        dtype: in which the network computes, such as ``jnp.bfloat16``; parameters and scores are
            float32 all the same. None means that of the inputs.

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
    seeds = range(seed, seed + repeats)
    held = score_held_out(
        features,
        labels,
        [part for one in seeds for part in fold_rows(labels, folds, one)],
        [one * folds + fold for one in seeds for fold in range(folds)],
        loss=loss,
        num_classes=num_classes,
        hidden=hidden,
        epochs=epochs,
        batch_size=batch_size,
        learning_rates=learning_rates,
        weight_decay=weight_decay,
        dtype=dtype,
    )
    return held.whole(labels, repeats)


class HeldOut(NamedTuple):
    """What networks say of rows that they were not trained on.

    Attributes:
        rows: of each part, ``[n]``.
        probabilities: of each part, ``[settings, n, K]``; not finite where a training diverged.
        settings: which were tried.
    """

    rows: Sequence[np.ndarray]
    probabilities: Sequence[np.ndarray]
    settings: Sequence[Mapping[str, Any]]

    def best(self, labels: np.ndarray, rows: Sequence[np.ndarray] | None = None) -> int:
        """The setting whose predictions agree most with the labels, of those that stayed finite.

        Args:
            labels: of all examples, ``[N]``.
            rows: of each part those that are looked at; None looks at all that are held out.

        Returns:
            Its number.

        Raises:
            FloatingPointError: if none stayed finite.
        """
        rows = self.rows if rows is None else rows
        agreement = np.zeros(len(self.settings))
        finite = np.ones(len(self.settings), bool)
        for own, looked_at, found in zip(self.rows, rows, self.probabilities, strict=True):
            finite &= np.isfinite(found).all((1, 2))
            agreement += (found.argmax(-1) == labels[own])[:, np.isin(own, looked_at)].mean(1)
        if not finite.any():
            lowest = min(setting["learning_rate"] for setting in self.settings)
            raise FloatingPointError(
                f"no training stayed finite; learning_rates must hold a lower one than {lowest:g}."
            )
        return int(np.where(finite, agreement, -1).argmax())

    def whole(self, labels: np.ndarray, repeats: int = 1) -> np.ndarray:
        """Folds put together at the best setting, the mean over repeats, ``[N, K]``."""
        best = self.best(labels)
        found = np.zeros((len(labels), self.probabilities[0].shape[-1]), np.float32)
        for rows, values in zip(self.rows, self.probabilities, strict=True):
            found[rows] += values[best] / repeats
        return found


def score_held_out(
    features: np.ndarray,
    labels: np.ndarray,
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    streams: Sequence[int],
    *,
    loss: Callable | LossEntry = cross_entropy,
    num_classes: int,
    hidden: Sequence[int] = (),
    epochs: int = 30,
    batch_size: int = 64,
    learning_rates: Sequence[float] = (0.1, 0.01),
    weight_decay: float = 5e-4,
    weight_decays: Sequence[float] = (),
    dtype: Any = None,
) -> HeldOut:
    """Trains a network on each list of rows and scores another: all of them in one program.

    Args:
        features: float32, ``[N, D]``, in memory once.
        labels: integers, ``[N]``, or those of each part, ``[parts, N]``.
        parts: rows to train on and rows to score, of any sizes.
        streams: of each part the seed of its initialisation and order.
        loss: as of `cross_validated_probabilities`.
        num_classes: K.
        hidden: widths of the hidden layers; none is a linear head.
        epochs: passes over the rows.
        batch_size: examples per step.
        learning_rates: to choose from.
        weight_decay: added to the gradient.
        weight_decays: to choose from in its place; none takes that one.
        dtype: as of `cross_validated_probabilities`.

    Returns:
        `HeldOut`.

    Raises:
        ValueError: for numbers out of range, or a loss that asks for more than its keywords.
    """
    check_integer("epochs", epochs)
    check_integer("batch_size", batch_size)
    for decay in (weight_decay, *weight_decays):
        check_number("weight_decay", decay, at_least=0)
    if not len(learning_rates):
        raise ValueError("learning_rates must hold at least one, got none.")
    for rate in learning_rates:
        check_number("learning_rates", rate, above=0)
    data_sets, sizes = _padded(labels, parts)
    size = data_sets["train"]["label"].shape[1]
    batch_size = min(batch_size, size)
    model = models.LaneMLP(num_classes=num_classes, hidden=tuple(hidden), dtype=dtype)
    params = initial_variables(model, jnp.zeros((features.shape[1], 1)), streams)
    counts = np.bincount(labels.ravel(), minlength=num_classes) * labels.shape[-1] / labels.size
    counts = np.maximum(counts, 1)
    steps = -(-size // batch_size) * epochs
    network = of_shared_rows(tabular_in_lanes(model))
    method = method_of(loss, learning_rates, network, steps, weight_decays)
    runs = train.in_lanes(
        make_trainer(
            method,
            train.staircase_schedule(steps),
            functools.partial(_held_out, network),
            weight_decay=weight_decay,
        ),
        stack_settings(method.settings),
        data_sets | {"params": params, "seed": np.array(streams)},
        shared={"known": {"x": features, "class_counts": np.float32(counts)}},
    )
    plan = data.epoch_plans(size, batch_size, streams)
    state = runs.state
    for epoch in range(epochs):
        rows = plan(epoch)
        rows["mask"] &= rows["position"] < sizes[:, None]
        state, _ = runs.run_steps(state, rows)
    found = runs.measure(state)["probabilities"]
    held = [rows for _, rows in parts]
    cut = [values[:, : len(rows)] for values, rows in zip(found, held, strict=True)]
    return HeldOut(held, cut, method.settings)


def fold_rows(labels: np.ndarray, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The rows outside and inside of every fold, shuffled, classes in proportion.

    Args:
        labels: integers, ``[N]``.
        folds: how many, at least 2.
        seed: of the folds.

    Returns:
        A pair for each fold; all rows are inside of one.
    """
    number = data.fold_numbers(labels, folds, np.random.default_rng(seed))
    return [
        (np.flatnonzero(number != fold), np.flatnonzero(number == fold)) for fold in range(folds)
    ]


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


def _padded(
    labels: np.ndarray, parts: Sequence[tuple[np.ndarray, np.ndarray]]
) -> tuple[dict[str, Any], np.ndarray]:
    """The rows of every part, filled up to one size, and how many of them are trained on."""
    training, held = (_filled(rows) for rows in zip(*parts, strict=True))
    index = np.broadcast_to(np.arange(training.shape[1], dtype=np.int32), training.shape)
    labels = np.broadcast_to(labels, (len(parts), labels.shape[-1]))
    own = np.take_along_axis(labels, training, 1)
    columns = {"row": training, "label": own, "index": index}
    sizes = np.array([len(rows) for rows, _ in parts])
    return {"train": columns, "held": {"row": held}}, sizes


def _filled(rows: Sequence[np.ndarray]) -> np.ndarray:
    """With the last one of each, which is no example then, ``[parts, n]``."""
    size = max(map(len, rows))
    return np.stack([np.pad(each, (0, size - len(each)), mode="edge") for each in rows])


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
    loss: Callable | LossEntry,
    learning_rates: Sequence[float],
    network: Network,
    steps: int,
    weight_decays: Sequence[float] = (),
) -> Method:
    """The loss with each setting; one that the catalogue does not have is taken as it is."""
    function = loss.function if isinstance(loss, LossEntry) else loss
    plain = function.func if isinstance(function, functools.partial) else function
    keywords = function.keywords if isinstance(function, functools.partial) else {}
    if not isinstance(loss, LossEntry) and all(e.function is not plain for e in CATALOGUE.values()):
        loss = LossEntry(functools.wraps(plain)(functools.partial(loss)), fixed=keywords)
    given = loss.keywords if isinstance(loss, functools.partial) else {}
    if isinstance(loss, LossEntry):
        given = loss.fixed
    if "matrix" in inspect.signature(function).parameters and "matrix" not in given:
        raise ValueError(
            "loss asks for matrix, which only its user knows: functools.partial(loss, matrix=...)."
        )
    return robust_loss(
        loss, learning_rates, network=network, total_steps=steps, weight_decays=weight_decays
    )


def _held_out(network: Network, setting, data_set, state) -> dict[str, jax.Array]:
    _, stats = state.extra
    scores = network.scores(state.params, stats, data_set["known"], data_set["held"])
    return {"probabilities": jax.nn.softmax(scores)}
