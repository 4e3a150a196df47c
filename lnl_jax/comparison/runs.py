"""From a method to its runs: every data set (seed, fold, noise) with every setting.

What all methods share (splits, noise, initialisation, order) makes their differences paired. How
the runs of a trainer are carried out is a choice of `lnl_jax.train`: `in_lanes`, `in_turn` or
`in_chunks`.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.typing import ArrayLike

from lnl_jax import train
from lnl_jax.runner.arguments import check_memory
from lnl_jax.runner.outputs import Note
from lnl_jax.train import Trainer

PyTree = Any
# Of long steps, such as those of networks of images: so many of all runs together lie between two
# states that can be gone on from, but not fewer than these of each run.
RUN_STEPS_AT_ONCE, LEAST_STEPS_AT_ONCE = 1000, 20
# In place of the number of a step, by which a step's random numbers differ from all others'.
BEFORE_ALL_STEPS = 2**32 - 1
# The hyperparameters of a run, the learning rate among them.
Setting = Mapping[str, Any]
# (setting, data set, state) -> scalars by name, of one run
Measure = Callable[[Setting, Mapping, train.TrainState], dict]


class Method(NamedTuple):
    """What is trained, and the settings among which validation chooses.

    Attributes:
        name: in rows and tables.
        loss_fn: ``(setting, known, params, extra, rows, batch, key)``, a loss function of
            `train.make_train_step` for one setting and for what is known of the data set.
        settings: dicts of numbers with the same keys, `learning_rate` among them.
        extra: the state that `loss_fn` carries along, at the start.
        initial_rows: of a loss with state per training example: ``(setting, N, key) -> rows``
            before their first visit, arrays ``[N, ...]``; None for a loss without.
    """

    name: str
    loss_fn: Callable
    settings: Sequence[Setting]
    extra: PyTree = ()
    initial_rows: Callable[[Setting, int, jax.Array], PyTree] | None = None


def make_trainer(
    method: Method,
    schedule: Callable[[jax.Array], jax.Array],
    measure: Measure,
    *,
    weight_decay: float = 0.0,
) -> Trainer:
    """What one run of a method does: SGD with momentum 0.9.

    A data set is a dict: ``train`` holds the training examples; ``params`` what is trained, at the
    start; ``seed`` the seed of the steps' random numbers; ``known``, where there is one, is handed
    to the loss function; what is in ``shared``, the same for all data sets, is known too; anything
    else is for `measure`.

    Args:
        method: what is trained.
        schedule: the factor on the learning rate at each step.
        measure: ``(setting, data_set, state) -> dict`` of scalars, for one run.
        weight_decay: added to the gradient, for all parameters; a setting with a ``weight_decay``
            of its own has that one.

    Returns:
        The `Trainer`, for `train.in_lanes`, `train.in_turn` or `train.in_chunks`, with the settings
        from `stack_settings`. Losses with rows have a table with a row per training example.
    """

    def optimizer(setting):
        decay = setting.get("weight_decay", weight_decay)
        return sgd(setting["learning_rate"], schedule, decay)

    def start(setting, data_set):
        key, tables = jax.random.key(data_set["seed"]), ()
        if method.initial_rows is not None:
            size = len(data_set["train"]["label"])
            rows = method.initial_rows(setting, size, jax.random.fold_in(key, BEFORE_ALL_STEPS))
            # Within an epoch no example comes twice.
            tables = train.Table(rows, combine=None)
        return train.init_state(
            data_set["params"],
            optimizer(setting),
            key=key,
            extra=method.extra,
            tables=tables,
        )

    def step(setting, data_set, state, batch):
        loss_fn = functools.partial(method.loss_fn, setting, known_of(data_set))
        if method.initial_rows is None:
            return train.make_train_step(loss_fn, optimizer(setting))(state, batch)

        # A row is found by the place in the training set, what else has a number by its index.
        def at_its_index(params, extra, rows, placed, key):
            return loss_fn(params, extra, rows, placed | {"index": batch["index"]}, key)

        placed = batch | {"index": batch["position"]}
        return train.make_train_step(at_its_index, optimizer(setting))(state, placed)

    def measure_run(setting, data_set, state):
        return measure(setting, {**data_set, "known": known_of(data_set)}, state)

    return Trainer(start, step, measure_run)


def sgd(
    rate: ArrayLike, schedule: Callable[[jax.Array], jax.Array], weight_decay: ArrayLike
) -> optax.GradientTransformation:
    """SGD with momentum 0.9; weights decay through the gradient."""
    decayed = optax.add_decayed_weights(weight_decay)
    return optax.chain(decayed, optax.sgd(lambda step: rate * schedule(step), momentum=0.9))


def known_of(data_set: Mapping) -> dict[str, Any]:
    """What a loss may look at besides its batch: of the data set, and of all of them."""
    return {**data_set.get("known", {}), **data_set.get("shared", {})}


def memory_of(all_runs: Sequence[train.Runs], rows: Mapping) -> int | None:
    """How much memory of the device it takes to train runs in lockstep, one after the other.

    Args:
        all_runs: of all methods.
        rows: of an epoch, or of the steps of it that are taken at once.

    Returns:
        Bytes: of the largest program with its data, and of the states of all runs; None where one
        of the programs is not known.
    """
    each = [runs.memory(rows) for runs in all_runs]
    if None in each:
        return None
    states = jax.tree.leaves([runs.state for runs in all_runs])
    # What of each array is on a device.
    return max(each) + sum(leaf.addressable_shards[0].data.nbytes for leaf in states)


def steps_at_once(num_runs: int) -> int:
    """Into pieces of how many steps an epoch is cut, where steps are long: of `train.fit_together`.

    Args:
        num_runs: of all methods.

    Returns:
        The number for each run.
    """
    return max(RUN_STEPS_AT_ONCE // num_runs, LEAST_STEPS_AT_ONCE)


def memory_note(all_runs: Sequence[train.Runs], rows: Mapping) -> Iterator[Note]:
    """Says before a training starts how much memory it takes; refuses one that is too large.

    Args:
        all_runs: of all methods.
        rows: as of `memory_of`.

    Yields:
        A note, or nothing where one of the programs is not known.

    Raises:
        StudyError: if the device has less.
    """
    if (needed := memory_of(all_runs, rows)) is not None:
        yield Note(check_memory(needed, train.device_bytes()))


def skipped_of(found: Mapping[str, Any], run: Any = ...) -> dict[str, int]:
    """What a row says of the examples that runs left out, as of `train.skip_not_finite`.

    Args:
        found: of a set of runs, as of `train.fit_together`.
        run: one of them; all by default.

    Returns:
        Their number, ``examples_skipped``; nothing where there is none.
    """
    count = int(np.sum(found["examples_skipped"][run])) if "examples_skipped" in found else 0
    return {"examples_skipped": count} if count else {}


def stack_settings(settings: Sequence[Setting]) -> dict[str, np.ndarray]:
    """The settings as arrays with a leading axis.

    Args:
        settings: S dicts of numbers, or of tuples of them, with the same keys.

    Returns:
        By key a float32 array, ``[S]`` or ``[S, ...]``.
    """
    return {
        key: np.asarray([setting[key] for setting in settings], np.float32) for key in settings[0]
    }
