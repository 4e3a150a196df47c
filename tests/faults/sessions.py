"""Sessions of studies in processes of their own, which can be killed, and what they leave behind.

The imports, most of the time of a small study, are done once: each session is a fork of a process
that has imported everything and has started nothing.
"""

import functools
import json
import os
import pathlib
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

# Small forms of a study of each pillar: lanes with checkpoints, stages with checkpoints in them,
# and stages alone.
STUDIES = {
    "robust losses": "--exp ldr_digits --epochs 6 --seeds 2 --learning_rates 0.1 "
    "--temperatures 1.0 --qs 0.7",
    "contrastive": "--exp isogclr_digits --seeds 2 --epochs 3 --starts 0.1",
    "distillation": "--exp hello_digits --foundation_steps 1 --teacher_steps 9 "
    "--projector.steps 20 --students.epochs 4 --students.count 1 --rows hard,projector_kl "
    "--per_class 1 --students.learning_rates 0.1",
    "label quality": "--exp memorization_digits --trainings 6 --epochs 2",
}


class Ended(NamedTuple):
    """How a session ended.

    Attributes:
        code: the exit code, negative for a signal.
        out: what it printed.
        err: its errors.
        seconds: how long it took.
    """

    code: int
    out: str
    err: str
    seconds: float


@functools.cache
def import_everything() -> None:
    """What the command imports, and what its studies import later."""
    import flax  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import orbax.checkpoint  # noqa: F401
    import sklearn.datasets  # noqa: F401
    from jax._src import xla_bridge

    import experiments  # noqa: F401
    import lnl_jax.runner.report
    import lnl_jax.runner.run  # noqa: F401

    if xla_bridge.backends_are_initialized():
        raise RuntimeError("JAX has started here: its threads do not survive a fork.")


class Session:
    """A command that runs in a process of its own.

    Args:
        words: of the command line, without the program.
        folder: where its output is kept while it runs.
        prepare: called in it before the command.
    """

    def __init__(
        self, words: Sequence[str], folder: pathlib.Path, prepare: Callable[[], None] | None = None
    ):
        import_everything()
        self._out, self._err = folder / "stdout", folder / "stderr"
        self._began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of JAX, about threads: nothing has started
            self.pid = os.fork()
        if not self.pid:
            self._run(words, prepare)

    def _run(self, words: Sequence[str], prepare: Callable[[], None] | None) -> None:
        code = 70
        try:
            for number, file in ((1, self._out), (2, self._err)):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), number)
            sys.stdout, sys.stderr = open(1, "w", buffering=1), open(2, "w", buffering=1)
            from experiments import EXPERIMENTS, SWEEPS, is_generated
            from lnl_jax._signals import end_at_a_signal
            from lnl_jax.runner import main

            end_at_a_signal()
            if prepare is not None:
                prepare()
            sys.argv = ["experiments/run.py", *words]
            code = main(EXPERIMENTS, SWEEPS, is_generated=is_generated)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def send(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        os.kill(self.pid, number)  # nobody has waited for it, so that the number is its own

    def wait(self, seconds: float = 600) -> Ended:
        """Waits for the end; kills what takes longer."""
        code, until = None, time.monotonic() + seconds
        while code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > until:
                self.send(signal.SIGKILL)
            else:
                time.sleep(0.005)
        took = time.perf_counter() - self._began
        read = [file.read_text(errors="replace") for file in (self._out, self._err)]
        return Ended(code, *read, took)


def words_of(study: str, results: pathlib.Path, *more: str) -> list[str]:
    """The command line of a study."""
    often = ["--checkpoint_every", "0.2"]
    return [*study.split(), *often, "--results_dir", str(results), *more]


def the_run(results: pathlib.Path) -> pathlib.Path:
    """The folder of the only run there."""
    (config,) = results.glob("*/*/config.json")
    return config.parent


def outcome(run: pathlib.Path) -> dict[str, object]:
    """All that a run leaves behind, but for times and what tells its sessions apart."""
    found: dict[str, object] = {}
    for file in sorted(run.iterdir()):
        if file.name in ("config.json", "page.html", "checkpoints", "stages", "summary.json"):
            continue
        found[file.name] = file.read_bytes()
    summary = json.loads((run / "summary.json").read_text())
    found["summary.json"] = {key: summary[key] for key in ("last", "tables", "rows")}
    found["stages"] = sorted(file.name for file in (run / "stages").glob("*"))
    found["state"] = _newest_digests(run)
    return found


def checkpoints_of(run: pathlib.Path) -> list[pathlib.Path]:
    """Those that are neither being written nor being deleted, the oldest first."""
    steps = [file.parents[1] for file in (run / "checkpoints").glob("*/metadata/metadata")]
    return sorted((s for s in steps if s.name.isdecimal()), key=lambda path: int(path.name))


def _newest_digests(run: pathlib.Path) -> dict | None:
    """Of the arrays of the newest checkpoint."""
    steps = checkpoints_of(run)
    if not steps:
        return None
    return json.loads((steps[-1] / "metadata/metadata").read_text())["digests"]


def differences(found: dict, expected: dict) -> list[str]:
    """The names of what is not the same."""
    return sorted(
        name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
    )


def rows_lost_or_doubled(run: pathlib.Path, expected: pathlib.Path) -> int:
    """By how many lines the rows of a run differ from those of another one."""
    rows = (run / "metrics.jsonl").read_bytes().splitlines()
    whole = (expected / "metrics.jsonl").read_bytes().splitlines()
    wrong = sum(a != b for a, b in zip(rows, whole, strict=False))
    return wrong + abs(len(rows) - len(whole))


def moments(count: int, seconds: float, rng: random.Random) -> list[float]:
    """Random moments of a run, one in each of so many equal parts of its time."""
    width = seconds / count
    return [(index + rng.random()) * width for index in range(count)]
