"""Trainings of students, teachers and projectors: AdamW along a cosine, one program per loss."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from lnl_jax import train

PyTree = Any
# That of `train.make_train_step`, after what it needs besides: (constants, params, extra, rows,
# batch, key) -> (losses [B], (extra, rows, metrics)).
Loss = Callable[..., tuple[Array, tuple[PyTree, PyTree, dict]]]
Step = Callable[[train.TrainState, Mapping], tuple[train.TrainState, dict]]


def cosine_adamw(
    learning_rate: float, steps: int, *, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """AdamW whose learning rate falls to 0 along a cosine; matrices and kernels decay.

    Its numbers are in the optimiser's state, so that trainings of any length share one program.

    Args:
        learning_rate: the first.
        steps: after which it is 0.
        weight_decay: of parameters with more than one axis.

    Returns:
        The optimiser.

    Example:
        >>> state = cosine_adamw(0.1, 5).init(jnp.zeros(3))
        >>> float(state.hyperparams["learning_rate"]), int(state.hyperparams["steps"])
        (0.1, 5)
    """
    return optax.inject_hyperparams(_adamw)(
        learning_rate=learning_rate, steps=steps, weight_decay=weight_decay
    )


def _adamw(learning_rate: Array, steps: Array, weight_decay: Array) -> optax.GradientTransformation:
    def rate(count):
        return learning_rate * (1 + jnp.cos(jnp.pi * jnp.minimum(count, steps) / steps)) / 2

    def of_matrices(params):
        return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    return optax.adamw(rate, weight_decay=weight_decay, mask=of_matrices)


def step_with(loss: Loss, constants: PyTree = ()) -> Step:
    """A step of `cosine_adamw` on a loss that needs more than parameters and batch.

    Args:
        loss: ``(constants, params, extra, rows, batch, key)`` to what a loss of
            `train.make_train_step` returns; the same function is one program.
        constants: arrays that it needs in every step, such as a frozen tower.

    Returns:
        ``step(state, batch) -> (state, metrics)``, a `jax.tree_util.Partial` that hands the
        constants to a compiled function as arguments.
    """
    return jax.tree_util.Partial(_step(loss), jax.device_put(constants))


@functools.lru_cache(maxsize=64)
def _step(loss: Loss) -> Callable:
    # The numbers are those of the state.
    tx = cosine_adamw(0.0, 1)

    def step(constants, state, batch):
        return train.make_train_step(functools.partial(loss, constants), tx)(state, batch)

    return step


def initial_state(
    params: PyTree,
    *,
    learning_rate: float,
    steps: int,
    weight_decay: float = 0.0,
    extra: PyTree = (),
    tables: PyTree = (),
    seed: int = 0,
) -> train.TrainState:
    """The state before the first step of `step_with`.

    Args:
        params: the first parameters.
        learning_rate: the first.
        steps: of the training.
        weight_decay: of matrices and kernels.
        extra: as of `train.init_state`.
        tables: likewise.
        seed: of the state's key.

    Returns:
        The `train.TrainState`.
    """
    tx = cosine_adamw(learning_rate, steps, weight_decay=weight_decay)
    return train.init_state(params, tx, key=jax.random.key(seed), extra=extra, tables=tables)


def train_in_turn(
    step: Step,
    states: Sequence[train.TrainState],
    batches: Mapping | Iterable[Mapping],
    *,
    keep: Sequence[int],
) -> list[list[train.TrainState]]:
    """Trains several networks on the same batches, at the same time.

    Args:
        step: of `step_with`, for each of them.
        states: the first ones; they are not consumed.
        batches: one for each step; or a dict of arrays ``[steps, ...]``.
        keep: rising numbers of steps after which states are kept, the last one that of the last
            step.

    Returns:
        For each number of steps the states of all networks.
    """
    run, kept = train.dispatch_in_turn(step), []
    states = jax.tree.map(jnp.copy, list(states))
    if isinstance(batches, Mapping):
        batches = in_steps(batches)
    batches = iter(batches)
    for begin, end in itertools.pairwise([0, *keep]):
        states, _ = run(states, itertools.islice(batches, end - begin))
        # The next steps consume these.
        kept.append(jax.tree.map(jnp.copy, states))
    return kept


def resumable(state: train.TrainState, keep: Sequence[int], passed: int = 0) -> dict[str, Any]:
    """All that it takes to go on with `train_in_passes`.

    Args:
        state: at the end of a pass, or the first one.
        keep: numbers of passes after which variables are kept.
        passed: how many passes were made; for the form of what an interrupted training left.

    Returns:
        A dict of the `state` and of the `kept` variables, dicts ``{"params", "extra"}`` by number
        of passes, as text.
    """
    kept = {str(number): _variables(state) for number in keep if number <= passed}
    return {"state": state, "kept": kept}


def train_in_passes(
    step: Step,
    start: Mapping[str, Any],
    batches: Callable[[int], Iterable[Mapping]],
    *,
    passes: int,
    steps_per_pass: int,
    keep: Sequence[int],
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Trains a network on data that are streamed, pass by pass, from where it was stopped.

    Args:
        step: of `step_with`.
        start: of `resumable`.
        batches: those of a pass, numbered from 0: a function of the number alone.
        passes: how many in all.
        steps_per_pass: how many batches each has.
        keep: numbers of passes after which the variables are kept.

    Yields:
        After each pass a row, as `train.fit` has it, and what it takes to go on, as of `resumable`.
    """
    kept, run = dict(start["kept"]), train.dispatch_steps(step)
    rows = train.fit(run, start["state"], batches, epochs=passes, steps_per_epoch=steps_per_pass)
    for row, state in rows:
        if row["epoch"] in keep:
            # The next steps consume these.
            kept[str(row["epoch"])] = jax.tree.map(jnp.copy, _variables(state))
        yield row, {"state": state, "kept": dict(kept)}


def _variables(state: train.TrainState) -> dict[str, PyTree]:
    return {"params": state.params, "extra": state.extra}


def in_steps(batches: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The batches of arrays ``[steps, ...]``, one after the other.

    Args:
        batches: the arrays.

    Yields:
        Their rows.
    """
    for step in range(len(next(iter(batches.values())))):
        yield {name: values[step] for name, values in batches.items()}
