"""Kills at random moments of a study, and whether the run then ends as if there had been none."""

import pathlib
import random
import shutil
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from tests.faults.sessions import (
    STUDIES,
    Session,
    differences,
    moments,
    outcome,
    rows_lost_or_doubled,
    the_run,
    words_of,
)


class Kills(NamedTuple):
    """What came of them.

    Attributes:
        equal: how many runs ended like the uninterrupted one.
        count: how many there were.
        rows: lost, doubled or changed in all of them.
        resumed: how many went on from a checkpoint or a stage.
        wrong: what was not as expected, a line each.
    """

    equal: int
    count: int
    rows: int
    resumed: int
    wrong: list[str]


def kill_and_compare(
    pillar: str,
    count: int,
    folder: pathlib.Path,
    rng: random.Random,
    say: Callable[[str], None] = print,
) -> Kills:
    """Kills a study of a pillar at random moments, one a run, and lets each run end.

    The first quarter of the runs has no compiled programs kept, so that compilation is killed too.
    """
    study = STUDIES[pillar]
    cold, warm = ("--compilation_cache", "none"), ("--compilation_cache", str(folder / "programs"))
    seconds = {}
    for name, cache in (("cold", cold), ("fill", warm), ("whole", warm)):
        ended = Session(words_of(study, folder / name, *cache), folder).wait()
        if ended.code:
            raise RuntimeError(f"{pillar}: {ended.err}")
        seconds[name] = ended.seconds
    whole = the_run(folder / "whole")
    expected = outcome(whole)
    wrong = [f"cold: {name}" for name in differences(outcome(the_run(folder / "cold")), expected)]
    first = count // 4
    chosen = [(moment, cold) for moment in moments(first, seconds["cold"], rng)] if first else []
    chosen += [(moment, warm) for moment in moments(count - first, seconds["whole"], rng)]
    equal = rows = resumed = 0
    for number, (moment, cache) in enumerate(chosen, 1):
        results = folder / "killed"
        shutil.rmtree(results, ignore_errors=True)
        words = words_of(study, results, *cache)
        session = Session(words, folder)
        time.sleep(moment)
        session.send(signal.SIGKILL)
        code = session.wait().code
        ended = Session(words_of(study, results, *warm), folder).wait()
        found = ["exit code"] if ended.code else []
        if not found:
            found = differences(outcome(the_run(results)), expected)
            rows += rows_lost_or_doubled(the_run(results), whole)
        equal += not found
        resumed += "resuming after" in ended.out or "stages" in ended.out
        if found:
            text = f"{pillar}, killed after {moment:.1f} s: {', '.join(found)} {ended.err[-300:]}"
            wrong.append(text)
        say(f"  {pillar} {number}/{count}: after {moment:.1f} s ({code}), {equal} equal")
    return Kills(equal, len(chosen), rows, resumed, wrong)
