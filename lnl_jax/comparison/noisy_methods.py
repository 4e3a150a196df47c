"""Methods for noisy labels, also those that are more than a loss: measured, suspected, refreshed.

A `NoisyMethod` is a `Method` that the engine trains like any loss, with the network by which it is
measured and what it holds against the label of an example.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import metrics, train
from lnl_jax.comparison.catalogue import CATALOGUE, cross_entropy
from lnl_jax.comparison.methods import METRICS, measure, robust_loss
from lnl_jax.comparison.networks import Network
from lnl_jax.comparison.runs import Method, Setting

PyTree = Any
NOISY_METRICS = (*METRICS, "suspicion")


class NoisyMethod(NamedTuple):
    """A method, how it is measured, and whom it suspects.

    Attributes:
        method: for `make_trainer`.
        network: whose `scores` take the parameters and statistics of the method's state.
        suspicion: ``(setting, data_set, state) -> [N]`` of the training examples, larger where the
            label is more likely false.
        prepare: ``variables -> params`` of the D data sets: from those of the plain network, arrays
            ``[D, ...]``, to what the method trains.
        refresh: ``(data_set, state) -> state`` of one run before an epoch, on the host; or None.
    """

    method: Method
    network: Network
    suspicion: Callable[[Setting, Mapping, train.TrainState], jax.Array]
    prepare: Callable[[PyTree], PyTree] = lambda variables: variables
    refresh: Callable | None = None


def measure_noisy(
    noisy: NoisyMethod, setting: Setting, data_set: Mapping[str, Any], state: train.TrainState
) -> dict[str, jax.Array]:
    """All of `NOISY_METRICS` but the loss, for one run.

    Args:
        noisy: the method.
        setting: of the run.
        data_set: as for `measure`.
        state: of the run.

    Returns:
        Scalars by name; ``suspicion`` is the AUROC of the suspicion against which labels are false,
        NaN where nobody knows the clean ones.
    """
    found = measure(noisy.network, setting, data_set, state)
    training = data_set["train"]
    if "clean_label" not in training:
        return found | {"suspicion": jnp.full((), jnp.nan)}
    false = training["label"] != training["clean_label"]
    scores = noisy.suspicion(setting, data_set, state)
    return found | {"suspicion": metrics.auroc(scores, false)}


def one_loss(
    name: str,
    learning_rates: Sequence[float],
    *,
    network: Network,
    total_steps: int,
    grid: Sequence[Setting] | None = None,
) -> NoisyMethod:
    """A loss of the catalogue.

    Args:
        name: in `CATALOGUE`.
        learning_rates: to choose from.
        network: what is trained.
        total_steps: of a training.
        grid: the settings to choose from; None takes those of the catalogue.

    Returns:
        The method. ELR suspects a label against its target, SOP one with much noise in its rows,
        others one with a large cross-entropy.
    """
    method = robust_loss(
        CATALOGUE[name].function,
        learning_rates,
        network=network,
        total_steps=total_steps,
        grid=grid,
    )
    of_rows = {"elr_step": _against_the_target, "sop_step": _noise_in_the_rows}
    suspicion = of_rows.get(name, functools.partial(surprise, network))
    return NoisyMethod(method, network, suspicion)


def each_rate(learning_rates: Sequence[float], **grid: Sequence[float]) -> list[dict[str, float]]:
    """The settings of a method with one hyperparameter.

    Args:
        learning_rates: to choose from.
        **grid: the hyperparameter, with the values to choose from.

    Returns:
        A dict for each pair.
    """
    ((name, values),) = grid.items()
    return [{"learning_rate": rate, name: value} for rate in learning_rates for value in values]


def refreshed(
    noisy: NoisyMethod, runs: train.Runs, data_sets: Sequence[Mapping[str, Any]]
) -> train.Runs:
    """The runs of a method, with its `refresh` before every epoch.

    Args:
        noisy: the method.
        runs: its runs.
        data_sets: theirs, D dicts.

    Returns:
        The runs as they are where there is nothing to refresh.
    """
    if noisy.refresh is None:
        return runs

    def run_steps(states, rows):
        leading = jax.tree.leaves(states.step)[0].shape
        found = [
            noisy.refresh(data_sets[place[0]], jax.tree.map(lambda a, at=place: a[at], states))
            for place in np.ndindex(leading)
        ]
        fresh = jax.tree.map(lambda *each: jnp.stack(each).reshape(leading + each[0].shape), *found)
        return runs.run_steps(fresh, rows)

    return runs._replace(run_steps=run_steps)


def surprise(network: Network, setting: Setting, data_set: Mapping, state: Any) -> jax.Array:
    """The cross-entropy with the given labels, ``[N]``, of a method's network.

    Args:
        network: whose `scores` take the parameters and statistics of the state.
        setting: of the run.
        data_set: with ``train`` and ``known``.
        state: of the run.

    Returns:
        ``[N]``.
    """
    del setting
    training = data_set["train"]
    found = network.scores(state.params, state.extra[1], data_set["known"], training)
    return cross_entropy(found, training["label"])


def _against_the_target(setting: Setting, data_set: Mapping, state: Any) -> jax.Array:
    del setting
    labels = data_set["train"]["label"]
    return -jnp.take_along_axis(state.tables.values, labels[:, None], 1)[:, 0]


def _noise_in_the_rows(setting: Setting, data_set: Mapping, state: Any) -> jax.Array:
    del setting, data_set
    rows = state.tables.values
    return rows.u**2 + (rows.v**2).sum(-1)
