"""A study whose epochs are long: many trainings at once and others in turn, with split tables.

Some examples are padding, one is NaN, and so are the tables at first. As a command it is one
process of several, for `test_stopped_within`.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import data, runner, train
from lnl_jax.runner.outputs import Checkpoint, Resume
from tests.train import test_transfers as families
from tests.train.problems import EXAMPLES, classification

BATCH, SEEDS = 16, range(4)


def interrupted(epoch):
    """Called within an epoch; tests replace it."""


def trainer():
    """Of a classifier with a table of two arrays, as a step that is made now has it."""
    step, state = families.robust()

    def start(setting, data_set):
        return state._replace(key=jax.random.key(data_set["seed"]))

    def take(setting, data_set, state, batch):
        return step(state, batch)

    def measure(setting, data_set, state):
        sums = [jnp.nansum(leaf) for leaf in jax.tree.leaves(state.tables)]
        return {"tables": sum(sums), "params": jnp.abs(state.params["kernel"]).sum()}

    return train.Trainer(start, take, measure)


def examples(seed):
    """Numbers with one that is none."""
    part = classification(np.random.default_rng(seed))
    part["x"][5] = np.nan
    return {"train": part, "seed": np.int32(seed)}


def stopped_within(*, epochs: int = 2, resume: Resume = Resume()):
    """Yields a checkpoint after each step."""
    settings, parts = np.zeros(1, np.float32), [examples(seed) for seed in SEEDS]
    mesh = train.batch_mesh(BATCH, split_tables=True)
    stacked = jax.tree.map(lambda *each: np.stack(each), *parts)
    all_runs = [
        train.in_turn(trainer(), settings, parts, mesh=mesh, split_tables=True),
        train.in_lanes(
            trainer(), settings, stacked, mesh=train.lanes_mesh(len(SEEDS), local=False)
        ),
    ]
    begin = train.SoFar(0, [train.no_sums("loss", shape=(len(SEEDS), 1)) for _ in all_runs])
    states, so_far = resume.restore(([runs.state for runs in all_runs], begin))
    plan = data.epoch_plans(EXAMPLES, BATCH, SEEDS)
    options = {"epochs": epochs, "finished": len(resume.rows)}
    options |= {"steps_at_once": 1, "so_far": so_far}
    for epoch, found, now in train.fit_together(all_runs, states, plan, **options):
        if isinstance(found, train.SoFar):
            yield Checkpoint((now, found))
            interrupted(epoch)
            continue
        row = {"epoch": epoch}
        for kind, measured in zip(("turn", "lanes"), found, strict=True):
            for name, values in measured.items():
                each = np.ravel(values).astype(float)
                row |= {f"{kind} {name} {at}": float(one) for at, one in enumerate(each)}
        yield row
        yield Checkpoint((now, begin))


def stop(epoch):
    """In the first epoch."""
    raise KeyboardInterrupt


def main() -> int:
    """One of two processes; the first word says whether it stops."""
    word = sys.argv.pop(1)
    if word == "stop":
        globals()["interrupted"] = stop
    return runner.main({"stopped_within": stopped_within})


if __name__ == "__main__":
    sys.exit(main())
