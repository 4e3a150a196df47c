"""All settings of several methods as one run: the network is evaluated once for all of them.

On an accelerator a step of small networks costs what it costs to start its kernels, and so many
methods in a program of each cost as many times as much. Here the runs of all methods have one
program. Only the losses, each on its own runs, are computed apart.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lnl_jax import train
from lnl_jax.comparison.networks import Network
from lnl_jax.comparison.runs import BEFORE_ALL_STEPS, Method, known_of, sgd, stack_settings
from lnl_jax.train import Trainer

PyTree = Any
# (setting, data set, params, stats, rows) -> scalars by name, of one run
MeasureOne = Callable[[Mapping, Mapping, PyTree, PyTree, PyTree], dict]


def make_joined_trainer(
    methods: Sequence[Method],
    schedule: Callable[[jax.Array], jax.Array],
    network: Network,
    measure: MeasureOne,
    *,
    measure_more: Mapping[str, MeasureOne] = types.MappingProxyType({}),
    weight_decay: float = 0.0,
) -> tuple[Trainer, dict[str, Any]]:
    """What the runs of several methods do together, each as `runs.make_trainer` has it do alone.

    The loss of the one run is the sum of those of all, so that the gradient of each is its own: a
    run that diverges leaves the others as they are.

    Args:
        methods: from `methods.robust_loss`, all of losses of the example or of as many views.
        schedule: the factor on the learning rates at each step.
        network: what is trained, the same one for all.
        measure: of each run.
        measure_more: of the runs of some methods, by their names; other runs have NaN there.
        weight_decay: added to the gradients, for all parameters.

    Returns:
        The `Trainer`, and its settings, for `train.in_chunks` or `train.in_lanes`: one for all,
        with a leading axis of length 1. What is measured is ``[data sets, 1, S]``, with the S
        settings of all methods one after the other.

    Raises:
        ValueError: if the methods are of different numbers of views.
    """
    views = {method.name: method.loss_fn.views for method in methods}
    if len(set(views.values())) > 1:
        raise ValueError(f"methods must be of as many views each, got {views}.")
    rates = np.float32([one["learning_rate"] for method in methods for one in method.settings])
    places = _places(methods)
    # By place and not by name: JAX would put a dict in order.
    settings = [stack_settings(method.settings) for method in methods]

    def optimizer(rate):
        return sgd(rate, schedule, weight_decay)

    def start(settings, data_set):
        size, key = len(data_set["train"]["label"]), jax.random.key(data_set["seed"])
        early = jax.random.fold_in(key, BEFORE_ALL_STEPS)
        rows = {
            method.name: jax.vmap(
                lambda one, m=method: m.initial_rows(one, size, early), out_axes=1
            )(own)
            for method, own in zip(methods, settings, strict=True)
            if method.initial_rows is not None
        }
        stacked = jax.tree.map(
            lambda values: jnp.broadcast_to(values, (len(rates), *values.shape)),
            (data_set["params"], network.stats),
        )
        return train.init_state(
            stacked[0],
            _for_each(optimizer, rates),
            key=key,
            extra=(jnp.zeros((), jnp.int32), stacked[1]),
            tables=train.Table(rows, combine=None) if rows else (),
        )

    def step(settings, data_set, state, batch):
        known = known_of(data_set)

        def loss_fn(params, extra, rows, batch, key):
            count, stats = extra
            scores, stats = jax.vmap(
                lambda own, carried: network.training_scores(own, carried, known, batch, key, None)
            )(params, stats)
            total, written = 0.0, dict(rows) if rows else rows
            for method, own, place in zip(methods, settings, places, strict=True):
                kept = rows[method.name] if method.initial_rows is not None else ()

                def of_one(one, scores, kept, call=method.loss_fn):
                    return call.of_scores(one, known, count, scores, batch["label"], kept)

                values, kept = jax.vmap(of_one, (0, 0, 1), (0, 1))(own, scores[place], kept)
                total += values.sum(0)
                if method.initial_rows is not None:
                    written[method.name] = kept
            return total, ((count + 1, stats), written, {})

        # A row is found by the place in the training set.
        placed = {**batch, "index": batch["position"]}
        return train.make_train_step(loss_fn, _for_each(optimizer, rates))(state, placed)

    def measure_all(settings, data_set, state):
        _, stats = state.extra
        data_set = {**data_set, "known": known_of(data_set)}
        rows = state.tables.values if state.tables else {}
        found = jax.lax.map(lambda own: measure({}, data_set, *own, ()), (state.params, stats))
        for method, own, place in zip(methods, settings, places, strict=True):
            if method.name not in measure_more:
                continue
            kept = jax.tree.map(lambda values: jnp.moveaxis(values, 1, 0), rows.get(method.name))
            mine = jax.tree.map(lambda values, at=place: values[at], (state.params, stats))
            more = jax.lax.map(
                lambda run, m=method: measure_more[m.name](run[0], data_set, *run[1], run[2]),
                (own, mine, kept),
            )
            for name, values in more.items():
                unknown = jnp.full(len(rates), jnp.nan, values.dtype)
                found[name] = found.get(name, unknown).at[place].set(values)
        return found

    return Trainer(start, step, measure_all), jax.tree.map(lambda values: values[None], settings)


def _places(methods: Sequence[Method]) -> list[slice]:
    """Where the runs of each method are."""
    ends = np.cumsum([0, *(len(method.settings) for method in methods)]).tolist()
    return [slice(*ends[at : at + 2]) for at in range(len(methods))]


def _for_each(
    optimizer: Callable[[jax.Array], optax.GradientTransformation], rates: np.ndarray
) -> optax.GradientTransformation:
    """One optimiser for runs along a leading axis, each with a learning rate of its own."""

    def init(params):
        return jax.vmap(lambda rate, own: optimizer(rate).init(own))(rates, params)

    def update(gradients, state, params=None):
        return jax.vmap(lambda rate, *own: optimizer(rate).update(*own))(
            rates, gradients, state, params
        )

    return optax.GradientTransformation(init, update)
