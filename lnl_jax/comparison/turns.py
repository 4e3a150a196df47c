"""Methods that are trained in turns, so that the rows of all of them grow together."""

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from lnl_jax import data, train
from lnl_jax.comparison.runs import memory_note, skipped_of
from lnl_jax.runner.outputs import Checkpoint, Note, Resume, Row

PyTree = Any


class Named(Protocol):
    """What is trained, by its name in rows."""

    name: str


def train_in_turns(
    methods: Sequence[Named],
    runs: Sequence[train.Runs],
    describe: Callable[[Any, dict[str, np.ndarray]], Row],
    *,
    size: int,
    seeds: Sequence[int],
    epochs: int,
    batch_size: int,
    every: int,
    resume: Resume,
    steps_at_once: int | None = None,
) -> Generator[Row | Checkpoint | Note, None, tuple[list[PyTree], list[dict[str, np.ndarray]]]]:
    """Trains each method for some epochs, a turn, then the next.

    Args:
        methods: in the order in which they are trained; each has a ``name``.
        runs: theirs, data sets by starts.
        describe: ``(method, measured) -> further columns`` of a row.
        size: training examples of each data set.
        seeds: of the orders, one for each data set.
        epochs: passes over the training set.
        batch_size: examples per step.
        every: so many epochs are a turn.
        resume: where an interrupted run goes on.
        steps_at_once: after about so many steps there is a checkpoint within a turn too, as of
            `train.fit_together`; None makes one at its end alone.

    Yields:
        A note of the memory that it takes; a row per method and turn, and a checkpoint per turn.

    Returns:
        The last states, and what was measured of them.

    Raises:
        StudyError: if the device has less memory.
    """
    of_epoch = data.epoch_plans(size, batch_size, seeds)

    def plan(turn):
        numbers = range(turn * every, min((turn + 1) * every, epochs))
        plans = [of_epoch(number) for number in numbers]
        return jax.tree.map(lambda *arrays: np.concatenate(arrays), *plans)

    shapes = [run.state.step.shape for run in runs]
    begin = train.SoFar(0, [train.no_sums("loss", shape=shape) for shape in shapes])
    states, so_far = resume.restore(([run.state for run in runs], begin))
    last = resume.rows[-1] if resume.rows else {"epoch": 0, "examples": 0}
    examples = last["examples"]
    finished = -(-last["epoch"] // every)
    if last["epoch"] < epochs:
        _, rows = next(train.in_pieces(plan(finished), steps_at_once))
        yield from memory_note(runs, rows)
    options = {"finished": finished, "steps_at_once": steps_at_once, "so_far": so_far}
    for turn, reports, trained in train.fit_together(
        runs, states, plan, epochs=-(-epochs // every), **options
    ):
        states = trained
        if isinstance(reports, train.SoFar):
            yield Checkpoint((states, reports))
            continue
        for method, report in zip(methods, reports, strict=True):
            examples += report["examples"]
            row = {"epoch": min(turn * every, epochs), "method": method.name}
            row |= {"loss": float(report["loss"].mean())} | describe(method, report)
            yield row | {"examples": examples} | skipped_of(report)
        yield Checkpoint((states, begin))
    measured = [run.measure(state) for run, state in zip(runs, states, strict=True)]
    return train.on_this_process(states), measured
