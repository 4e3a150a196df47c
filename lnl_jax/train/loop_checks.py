"""What the loops check of the steps that they took: their number, their rows, their numbers."""

from typing import NamedTuple

import numpy as np

from lnl_jax.train.not_finite import PARTS, NotFiniteError


class Place(NamedTuple):
    """Where the first one of some steps is.

    Attributes:
        epoch: from 0.
        batch: of the epoch, from 0.
        step: of the training, from 0.
    """

    epoch: int
    batch: int
    step: int


def check_steps(metrics: dict, epoch: int, expected: range, steps_per_epoch: int) -> None:
    """Before the losses are looked at: a row that is not there makes them NaN."""
    found = len(metrics["count"])
    if found != len(expected) or expected.stop > steps_per_epoch:
        check_epoch(expected.start + found, epoch, steps_per_epoch)
    outside = metrics.pop("outside_tables", None)
    if outside is not None and outside.any():
        step = int(np.argwhere(outside)[0][0])
        raise ValueError(
            f'batch["index"] holds {int(outside[step].max())} rows that the tables do not have, at '
            f"batch {expected.start + step + 1} of epoch {epoch + 1}: it must be from 0 to the "
            "number of rows less 1; make the tables as large as the training set, or number its "
            "examples from 0."
        )


def check_epoch(steps: int, epoch: int, steps_per_epoch: int) -> None:
    """Raises where an epoch has another number of steps."""
    if steps != steps_per_epoch:
        raise ValueError(
            f"batches({epoch}) has {steps} steps, not steps_per_epoch = {steps_per_epoch}."
        )


def check_parts(wrong: np.ndarray, metrics: dict, place: Place) -> None:
    """Raises where a step has something that is not finite; names the first one."""
    bad = np.argwhere(wrong)
    if not len(bad):
        return
    at = tuple(bad[0])
    name = PARTS[wrong[at] - 1]
    values = {"loss": metrics["loss"][at], "gradients": metrics["gradient_norm"][at]}
    what = {"loss": "the loss is", "gradients": "the loss is finite, but the gradient_norm is"}
    text = f"{what[name]} {values[name]}" if name in values else _PARAMETERS
    raise NotFiniteError(_at_step(text, bad[0].tolist(), place))


_PARAMETERS = "loss and gradients are finite, but the parameters after them are not"


def check_finite(name: str, values: np.ndarray, place: Place) -> None:
    """Raises where a metric is not finite; names the first step."""
    bad = np.argwhere(~np.isfinite(values))
    if not len(bad):
        return
    text = f"the {name} is {values[tuple(bad[0])]}"
    raise NotFiniteError(_at_step(text, bad[0].tolist(), place))


def _at_step(text: str, bad: list[int], place: Place) -> str:
    step, *run = bad
    which = f", run {run}" if run else ""
    return (
        f"{text} at step {place.step + step} (epoch {place.epoch + 1}, batch "
        f"{place.batch + step + 1}{which}); lower the learning rate, or look at that batch."
    )
