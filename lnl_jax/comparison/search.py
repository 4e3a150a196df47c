"""All methods trained in lockstep; validation chooses the setting of each."""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import data, train
from lnl_jax.comparison.methods import METRICS, best_setting
from lnl_jax.comparison.outcome import Outcome
from lnl_jax.comparison.runs import (
    Measure,
    Method,
    make_trainer,
    memory_note,
    skipped_of,
    stack_settings,
)
from lnl_jax.data.splits import stack
from lnl_jax.runner.outputs import Checkpoint, Note, Resume, Row


def search(
    methods: Sequence[Method],
    all_runs: Sequence[train.Runs],
    plan: Callable[[int], dict[str, np.ndarray]],
    *,
    epochs: int,
    resume: Resume = Resume(),
    metrics: Sequence[str] = METRICS,
    choose: Callable[[np.ndarray], int] = best_setting,
    steps_at_once: int | None = None,
) -> Generator[Row | Checkpoint | Note, None, Outcome]:
    """Trains all methods in lockstep, so that all curves grow together.

    Args:
        methods: what is compared.
        all_runs: theirs.
        plan: the rows of an epoch, numbered from 0, ``[steps, data sets, batch]``.
        epochs: how many in all.
        resume: where an interrupted run goes on.
        metrics: names of what is measured; the first axis of the history.
        choose: the chosen setting, given ``[metrics, data sets, settings]``.
        steps_at_once: after about so many steps there is a checkpoint within an epoch too, as of
            `train.fit_together`; None makes one at its end alone.

    Yields:
        A note of the memory that it takes; a row per epoch and method, of the setting that is best
        at that time; then a checkpoint.

    Returns:
        The `Outcome`.

    Raises:
        StudyError: if the device has less memory.
    """
    shapes = [runs.state.step.shape for runs in all_runs]
    empty = [np.full((len(metrics), epochs, *shape), np.nan, np.float32) for shape in shapes]
    begin = train.SoFar(0, [train.no_sums("loss", shape=shape) for shape in shapes])
    initial = [runs.state for runs in all_runs], empty, begin
    states, history, so_far = resume.restore(initial)
    examples, finished = 0, 0
    if resume.rows:
        examples, finished = (resume.rows[-1][name] for name in ("examples", "epoch"))
    if finished < epochs:
        _, rows = next(train.in_pieces(plan(finished), steps_at_once))
        yield from memory_note(all_runs, rows)
    options = {"finished": finished, "steps_at_once": steps_at_once, "so_far": so_far}
    for epoch, measured, trained in train.fit_together(
        all_runs, states, plan, epochs=epochs, **options
    ):
        states = trained
        if isinstance(measured, train.SoFar):
            yield Checkpoint((states, history, measured))
            continue
        for method, values, found in zip(methods, history, measured, strict=True):
            values[:, epoch - 1] = [found[metric] for metric in metrics]
            examples += found["examples"]
            now = values[:, epoch - 1]
            means = now[..., choose(now)].mean(1)
            row = {"epoch": epoch, "method": method.name}
            row |= {
                name: float(mean)
                for name, mean, each in zip(metrics, means, now, strict=True)
                if not _is_unknown(each, found["loss"])
            }
            yield row | {"examples": examples} | skipped_of(found)
        yield Checkpoint((states, history, begin))
    return Outcome(methods, train.on_this_process(states), history, metrics, choose)


def _is_unknown(values: np.ndarray, losses: np.ndarray) -> bool:
    """Whether a metric is NaN in all runs that did not diverge: it cannot be known then."""
    finite = np.isfinite(losses)
    return bool(finite.any() and np.isnan(values[finite]).all())


def search_in_lanes(
    methods: Sequence[Method],
    params: Any,
    data_sets: Sequence[Mapping[str, Any]],
    measure: Measure,
    *,
    epochs: int,
    batch_size: int,
    weight_decay: float = 0.0,
    shuffle: bool = True,
    resume: Resume = Resume(),
    metrics: Sequence[str] = METRICS,
    choose: Callable[[np.ndarray], int] = best_setting,
) -> Generator[Row | Checkpoint | Note, None, Outcome]:
    """Trains small networks by SGD, each method's runs at once, the learning rate in a staircase.

    Args:
        methods: what is compared; the first is the baseline.
        params: what the D data sets start from, arrays ``[D, ...]``, from `initial_variables`.
        data_sets: D dicts of one size with ``train``, and what the loss and `measure` look at, such
            as those of `noisy_folds`. The number of a data set is the seed of its order.
        measure: ``(setting, data_set, state) -> dict`` of scalars, such as `methods.measure` of a
            network.
        epochs: passes over the data.
        batch_size: examples per step.
        weight_decay: added to the gradient, for all parameters.
        shuffle: whether the order changes from epoch to epoch.
        resume: where an interrupted run goes on.
        metrics: names of what is measured, and ``loss``.
        choose: the chosen setting, given ``[metrics, data sets, settings]``.

    Yields:
        As `search`.

    Returns:
        The `Outcome`.

    Raises:
        StudyError: as `search`.
    """
    seeds = range(len(data_sets))
    parts = stack(data_sets) | {"params": params, "seed": np.array(seeds)}
    # Once on the device, not once for each method.
    parts = jax.tree.map(jnp.asarray, parts)
    size = len(data_sets[0]["train"]["label"])
    schedule = train.staircase_schedule(-(-size // batch_size) * epochs)
    all_runs = [
        train.in_lanes(
            make_trainer(method, schedule, measure, weight_decay=weight_decay),
            stack_settings(method.settings),
            parts,
            mesh=train.lanes_mesh(len(data_sets), local=False),
        )
        for method in methods
    ]
    plan = data.epoch_plans(size, batch_size, seeds, shuffle=shuffle)
    return (
        yield from search(
            methods, all_runs, plan, epochs=epochs, resume=resume, metrics=metrics, choose=choose
        )
    )


def finish(search: Generator[Any, None, Outcome]) -> Outcome:
    """Runs a search to its end, for those who want no rows.

    Args:
        search: from `search` or `search_in_lanes`.

    Returns:
        The `Outcome`.
    """
    while True:
        try:
            next(search)
        except StopIteration as end:
            return end.value
