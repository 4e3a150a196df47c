"""Toy experiments, with a command of their own so that tests can interrupt a real process."""

import functools
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import runner
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume


def square(x, *, scale: float = 1.0, shift: float | None = None, axis: int = -1, where=None):
    """Squares."""
    del axis, where
    return scale * x**2 + (shift or 0.0)


def absolute(x, *, power: int = 1):
    """Powers of the absolute value."""
    return abs(x) ** power


wait = time.sleep  # tests replace it

LOSSES: dict[str, Callable] = {"square": square, "absolute": absolute}
NORMALIZE: dict[str, Callable] = {"half": lambda x: x / 2}


@functools.partial(jax.jit, donate_argnums=0)
def step(state):
    key, noise = jax.random.split(state["key"])
    return {"x": state["x"] * 0.9 + 0.01 * jax.random.normal(noise, (4,)), "key": key}


def descent(
    *,
    seed: int = 0,
    epochs: int = 20,
    start: float = 1.0,
    rates: tuple[float, ...] = (0.1, 0.2),
    pause: float = 0.0,
    depth: int | None = None,
    verbose: bool = False,
    loss: Annotated[Callable, LOSSES] = square,
    normalize: Annotated[Callable | None, NORMALIZE] = None,
    resume: Resume = Resume(),
) -> Iterator[dict | Artifact | Checkpoint]:
    """Shrinks four noisy numbers, Table 3 of Nobody (2024).

    The loss ends below 0.1.

    Time: a second of a CPU core.

    Args:
      seed: of the noise.
      epochs: how often the numbers shrink,
        100% of them.
      loss: what is measured.
    """
    state = {"x": jnp.full(4, start), "key": jax.random.key(seed)}
    state = resume.restore(state)
    losses = [row["loss"] for row in resume.rows]
    for epoch in range(len(resume.rows) + 1, epochs + 1):
        state = step(state)
        wait(pause)
        losses.append(loss(state["x"]).mean())
        yield {
            "epoch": epoch,
            "loss": losses[-1],
            "accuracy": np.float32(epoch / epochs),
            "examples": 4 * epoch,
        }
        if epoch == 1:
            yield Artifact("first", [{"epoch": 1, "loss": losses[0]}])
        yield Checkpoint(state)
    yield Artifact("curve", {"loss": np.asarray(losses, np.float32)})
    yield Artifact("final", [{"method": "descent", "loss": losses[-1], "rate": rates[0]}])


def seeds():
    """Two seeds."""
    for seed in (0, 1):
        yield {"seed": seed, "epochs": 3}


def wait_then_stand_still(seconds, calls=itertools.count(1)):  # noqa: B008
    """Sleeps; from the tenth time on for ever, until a signal comes."""
    time.sleep(seconds)
    while next(calls) > 10:
        time.sleep(1)


if __name__ == "__main__":
    wait = wait_then_stand_still
    sys.exit(runner.main({"descent": descent}, {"seeds": ("descent", seeds)}))
