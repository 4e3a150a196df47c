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
from lnl_jax.distill.training._devices import mesh_for, on_mesh

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

    Within `train.over_devices` the batches are split where they divide.

    Args:
        step: of `step_with`, for each of them.
        states: the first ones; they are not consumed.
        batches: one for each step; or a dict of arrays ``[steps, ...]``.
        keep: rising numbers of steps after which states are kept, the last one that of the last
            step.

    Returns:
        For each number of steps the states of all networks.
    """
    kept = []
    states = jax.tree.map(jnp.copy, list(states))
    if isinstance(batches, Mapping):
        batches = in_steps(batches)
    mesh, batches = mesh_for(batches)
    run = train.dispatch_in_turn(on_mesh(step, mesh))
    for begin, end in itertools.pairwise([0, *keep]):
        states, _ = run(states, itertools.islice(batches, end - begin))
        # The next steps consume these.
        kept.append(jax.tree.map(jnp.copy, states))
    return kept


def in_steps(batches: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The batches of arrays ``[steps, ...]``, one after the other.

    Args:
        batches: the arrays.

    Yields:
        Their rows.
    """
    for step in range(len(next(iter(batches.values())))):
        yield {name: values[step] for name, values in batches.items()}
