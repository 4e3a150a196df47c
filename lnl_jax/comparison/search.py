"""All methods trained in lockstep; validation chooses the setting of each."""

from collections.abc import Callable, Generator, Sequence

import numpy as np

from lnl_jax import train
from lnl_jax.comparison.methods import METRICS, best_setting
from lnl_jax.comparison.outcome import Outcome
from lnl_jax.comparison.runs import Method
from lnl_jax.runner.outputs import Checkpoint, Resume, Row


def search(
    methods: Sequence[Method],
    all_runs: Sequence[train.Runs],
    plan: Callable[[int], dict[str, np.ndarray]],
    *,
    epochs: int,
    resume: Resume = Resume(),
    metrics: Sequence[str] = METRICS,
    choose: Callable[[np.ndarray], int] = best_setting,
) -> Generator[Row | Checkpoint, None, Outcome]:
    """Trains all methods in lockstep, so that all curves grow together.

    Args:
        methods: what is compared.
        all_runs: theirs.
        plan: the rows of an epoch, numbered from 0, ``[steps, data sets, batch]``.
        epochs: how many in all.
        resume: where an interrupted run goes on.
        metrics: names of what is measured; the first axis of the history.
        choose: the chosen setting, given ``[metrics, data sets, settings]``.

    Yields:
        A row per epoch and method, of the setting that is best at that time; then a checkpoint.

    Returns:
        The `Outcome`.
    """
    shapes = [runs.state.step.shape for runs in all_runs]
    empty = [np.full((len(metrics), epochs, *shape), np.nan, np.float32) for shape in shapes]
    states, history = resume.restore(([runs.state for runs in all_runs], empty))
    examples, finished = 0, 0
    if resume.rows:
        examples, finished = (resume.rows[-1][name] for name in ("examples", "epoch"))
    for epoch, measured, trained in train.fit_together(
        all_runs, states, plan, epochs=epochs, finished=finished
    ):
        for method, values, found in zip(methods, history, measured, strict=True):
            values[:, epoch - 1] = [found[metric] for metric in metrics]
            examples += found["examples"]
            now = values[:, epoch - 1]
            means = now[..., choose(now)].mean(1)
            row = {"epoch": epoch, "method": method.name}
            row |= {name: float(mean) for name, mean in zip(metrics, means, strict=True)}
            yield row | {"examples": examples}
        states = trained
        yield Checkpoint((states, history))
    return Outcome(methods, states, history, metrics, choose)
