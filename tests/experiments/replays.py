"""Studies with stages without a runner: played to their end, or from what was kept."""

from typing import Any, NamedTuple

from flax import serialization

from lnl_jax.runner.outputs import Artifact, Checkpoint, Kept, Resume, Stage
from tests.experiments.snapshots import on_the_host


class Played(NamedTuple):
    """What a study yielded.

    Attributes:
        rows: all of them.
        artifacts: by name.
        kept: results of the stages by name, as they come back from the disk.
        inside: of each stage its rows, and the states yielded after them.
        computed: names of the stages that were not handed back.
    """

    rows: list[dict[str, Any]]
    artifacts: dict[str, Any]
    kept: dict[str, Any]
    inside: dict[str, tuple[list, list]]
    computed: list[str]


def play(outputs, kept=None, resume=None):
    """Plays a study.

    Args:
        outputs: the study's generator.
        kept: results of stages that were computed earlier, by name.
        resume: of the stage after these, its rows and the state saved after them.
    """
    kept = kept or {}
    played, answer, stage = Played([], {}, {}, {}, []), None, None
    while True:
        try:
            output = outputs.send(answer)
        except StopIteration:
            return played
        answer = None
        match output:
            case Stage(name):
                if name in kept:
                    answer = Kept(name, kept[name])
                else:
                    played.computed.append(name)
                    stage = played.inside.setdefault(name, ([], []))
                    answer, resume = resume, None
            case Kept(name, result):
                written = serialization.msgpack_serialize({"result": result})
                played.kept[name] = serialization.msgpack_restore(written)["result"]
                stage = None
            case Checkpoint(state):
                stage[1].append(on_the_host(state))
            case Artifact(name, value):
                played.artifacts[name] = value
            case dict():
                played.rows.append(output)
                if stage is not None:
                    stage[0].append(output)


def first_stages(played, count):
    """What the first stages of a run returned."""
    return dict(list(played.kept.items())[:count])


def stopped_inside(played, name, count):
    """What is left of a stage that was interrupted after some of its rows."""
    rows, states = played.inside[name]
    return Resume(rows[:count], lambda like: restored(like, states[count - 1]))


def restored(like, saved):
    """The saved leaves in the form that is asked for, as `run.py` has it."""
    import jax
    import jax.numpy as jnp

    return jax.tree.map(lambda wanted, leaf: jnp.asarray(leaf), like, saved)
