"""Many trainings in lockstep: all data sets (seeds, folds, noises) with all settings of a method.

Each method is one compiled program. Small networks train all at once, with two leading axes, data
sets and settings; networks that fill the machine alone take turns within an epoch. What every
method shares (splits, noise, initialisation, order) makes their differences paired.
"""

import dataclasses
import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lnl_jax import data, train
from lnl_jax.runner.outputs import Checkpoint, Resume, Row
from lnl_jax.train import Runs, Trainer

if TYPE_CHECKING:
    pass

PyTree = Any
Setting = dict[str, Any]


class Method(NamedTuple):
    """What is trained, and the settings among which validation chooses.

    Attributes:
        name: in rows and tables.
        loss_fn: ``(setting, known, params, extra, rows, batch, key)``, a loss function of
            `train.make_train_step` for one setting and for what is known of the data set.
        settings: dicts of numbers with the same keys, `learning_rate` among them.
        extra: the state that `loss_fn` carries along, at the start.
    """

    name: str
    loss_fn: Callable
    settings: Sequence[Setting]
    extra: PyTree = ()


def initial_params(model: Any, x: np.ndarray, seeds: Sequence[int]) -> PyTree:
    """The parameters that all methods and settings start from, ``[data sets, ...]``.

    Args:
        model: a flax module.
        x: inputs, ``[data sets, N, ...]``.
        seeds: one for each data set.
    """
    example = jnp.asarray(x[0, :1])
    return jax.jit(jax.vmap(lambda seed: model.init(jax.random.key(seed), example)))(
        jnp.asarray(seeds)
    )


def make_study(
    method: Method,
    params: PyTree,
    parts: Mapping[str, Any],
    seeds: Sequence[int],
    *,
    schedule: Callable[[jax.Array], jax.Array],
    weight_decay: float,
    measure: Callable[[PyTree, PyTree, Mapping], dict],
) -> Runs:
    """Puts the runs of a method side by side.

    Args:
        method: what is trained, by SGD with momentum 0.9.
        params: from `initial_params`.
        parts: arrays with a leading axis of data sets; `train` is trained on, `known`, if there, is
            handed to the loss function.
        seeds: of the steps, one for each data set.
        schedule: the factor on the learning rate at each step.
        weight_decay: added to the gradient, for all parameters.
        measure: ``(params, extra, parts) -> dict`` of scalars, for one run and one data set.

    Returns:
        The `Runs`.
    """
    trainer = make_trainer(method, schedule, weight_decay, measure)
    data_sets = dict(parts) | {"params": params, "seed": np.asarray(seeds)}
    return train.in_lanes(trainer, stacked(method.settings), data_sets)


def make_study_in_turn(
    method: Method,
    params: PyTree,
    parts: Mapping[str, Any],
    seeds: Sequence[int],
    *,
    schedule: Callable[[jax.Array], jax.Array],
    weight_decay: float,
    measure: Callable[[PyTree, PyTree, Mapping], dict],
    shared: Mapping[str, Mapping] | None = None,
    streamed: bool = False,
) -> Runs:
    """As `make_study`, for networks that fill the machine alone: one run after the other.

    Args:
        method: what is trained.
        params: from `initial_params`.
        parts: arrays with a leading axis of data sets.
        seeds: of the steps, one for each data set.
        schedule: the factor on the learning rate at each step.
        weight_decay: added to the gradient, for all parameters.
        measure: ``(params, extra, parts) -> dict`` of scalars.
        shared: more for the parts, without an axis: what all data sets have in common, such as the
            images.
        streamed: whether what is shared is larger than the device: ``known["image"]`` stays on the
            host, threads make the batches with their ``image``, and `measure`, which gets the
            images as they are, is not compiled whole.

    Returns:
        The `Runs`.
    """
    trainer = make_trainer(method, schedule, weight_decay, measure)
    own = jax.tree.map(np.asarray, dict(parts) | {"params": params, "seed": np.asarray(seeds)})
    shared = dict(shared or {}) if streamed else jax.tree.map(jnp.asarray, dict(shared or {}))
    data_sets = [part_of(own, shared, index) for index in range(len(seeds))]
    if not streamed:
        return train.in_turn(trainer, stacked(method.settings), data_sets)

    def batches(index, rows):
        training = dict(data_sets[index]["train"])
        training["image"] = _Rows(data_sets[index]["known"]["image"], training["index"])
        return data.stream(training, rows)

    on_device = [
        each | {"known": {k: v for k, v in each["known"].items() if k != "image"}, "test": {}}
        for each in data_sets
    ]
    return train.in_turn(
        trainer, stacked(method.settings), on_device, batches=batches, measured=data_sets
    )


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The rows of an array that belong to a part, read when they are asked for."""

    array: np.ndarray
    index: np.ndarray

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        return self.array[self.index[positions]]


def part_of(parts: Mapping, shared: Mapping | None, index: int) -> dict[str, Any]:
    """The parts of one data set: its own, and what it shares with the others."""
    found = dict(jax.tree.map(lambda array: array[index], dict(parts)))
    for name, part in (shared or {}).items():
        found[name] = dict(found.get(name, {})) | dict(part)
    return found


def stacked(settings: Sequence[Setting]) -> dict[str, np.ndarray]:
    """The settings as arrays with a leading axis."""
    return {
        key: np.asarray([setting[key] for setting in settings], np.float32) for key in settings[0]
    }


def make_trainer(
    method: Method,
    schedule: Callable[[jax.Array], jax.Array],
    weight_decay: float,
    measure: Callable[[PyTree, PyTree, Mapping], dict],
) -> Trainer:
    """What one run of a method does: SGD with momentum 0.9 from the data set's `params`."""

    def optimizer(setting):
        rate = setting["learning_rate"]
        decayed = optax.add_decayed_weights(weight_decay)
        return optax.chain(decayed, optax.sgd(lambda t: rate * schedule(t), momentum=0.9))

    def start(setting, data_set):
        key = jax.random.key(data_set["seed"])
        tx = optimizer(setting)
        return train.init_state(data_set["params"], tx, key=key, extra=method.extra)

    def step(setting, data_set, state, batch):
        loss_fn = functools.partial(method.loss_fn, setting, data_set.get("known", {}))
        return train.make_train_step(loss_fn, optimizer(setting))(state, batch)

    def measure_run(setting, data_set, state):
        return measure(state.params, state.extra, data_set)

    return Trainer(start, step, measure_run)


def search(
    methods: Sequence[Method],
    studies: Sequence[Runs],
    plan: Callable[[int], dict[str, np.ndarray]],
    metrics: Sequence[str],
    best: Callable[[np.ndarray], int],
    *,
    epochs: int,
    steps_per_epoch: int,
    resume: Resume,
) -> Generator[Row | Checkpoint, None, tuple[list[PyTree], list[np.ndarray]]]:
    """Trains all methods in lockstep, so that all curves grow together.

    Args:
        methods: what is compared.
        studies: theirs.
        plan: the rows of an epoch, numbered from 0, ``[steps, data sets, batch]``.
        metrics: names of what is measured; the first axis of the history.
        best: the chosen setting, given ``[metrics, data sets, settings]``.
        epochs: how many in all.
        steps_per_epoch: how many steps an epoch has.
        resume: where an interrupted run goes on.

    Yields:
        A row per epoch and method, of the setting that is best at that time; then a checkpoint.

    Returns:
        The last state of each method, and its history ``[metrics, epochs, data sets, settings]``.
    """
    shapes = [study.state.step.shape for study in studies]
    empty = [np.full((len(metrics), epochs, *shape), np.nan, np.float32) for shape in shapes]
    states, history = resume.restore(([study.state for study in studies], empty))
    examples = resume.rows[-1]["examples"] if resume.rows else 0
    finished = int(np.max(states[0].step)) // steps_per_epoch
    for epoch, measured, trained in train.fit_together(
        studies, states, plan, epochs=epochs, finished=finished
    ):
        for method, values, found in zip(methods, history, measured, strict=True):
            values[:, epoch - 1] = [found[metric] for metric in metrics]
            examples += found["examples"]
            now = values[:, epoch - 1]
            means = now[..., best(now)].mean(1)
            row = {"epoch": epoch, "method": method.name}
            row |= {name: float(mean) for name, mean in zip(metrics, means, strict=True)}
            yield row | {"examples": examples}
        states = trained
        yield Checkpoint((states, history))
    return states, history


def epoch_plans(
    size: int, batch_size: int, seeds: Sequence[int], epoch: int, *, shuffle: bool = True
) -> dict[str, np.ndarray]:
    """The batches of one epoch, an order for each seed: ``[steps, data sets, batch]``."""
    plans = [
        data.epoch_plan(size, batch_size, np.random.default_rng((seed, epoch)) if shuffle else None)
        for seed in seeds
    ]
    return jax.tree.map(lambda *arrays: np.stack(arrays, 1), *plans)


def staircase(
    step: jax.Array, *, total_steps: int, at: tuple[float, float] = (1 / 2, 3 / 4)
) -> jax.Array:
    """The factor on the learning rate: it falls tenfold at two fractions of the training."""
    passed = sum(step >= fraction * total_steps for fraction in at)
    return jnp.where(passed < 1, 1.0, jnp.where(passed < 2, 0.1, 0.01))
