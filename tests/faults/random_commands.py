"""Command lines at random: each is refused in a few lines, or begins to compute; none hangs.

python -m tests.faults.random_commands [COUNT] [SEED]
"""

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

from experiments import EXPERIMENTS, SWEEPS, is_generated
from lnl_jax.runner import main as carry_out
from lnl_jax.runner.command_line import options_of
from lnl_jax.runner.signatures import keywords_of

ROOT = Path(__file__).parents[2]
# Without a program compiled in this time nothing happens any more: of the processor, of the clock.
BUSY, SECONDS = 10, 60
MOST_LINES = 12
VALUES = (
    "", "0", "1", "-1", "2", "0.5", "-0.5", "1e-30", "1e30", "1e999", "nan", "inf", "-inf", "none",
    "None", "true", "false", "x", "1,2", "1,,2", ",", "1,x", "0,1", "9" * 40, "1e9", "١", "\u202e",
    "../..", "/dev/null", "/dev/null/x", "/proc/self/mem", "no/such/place", "a b", "'", '"', "%s",
    "{}", "{0.__class__}", "$HOME", "$(touch marker)", "; touch marker", "__import__('os')", "=",
    "--seed", "-", "--", "\ud800", "a" * 3000, "[1]", "{'a': 1}", "lambda: 0", "\t", "\n",
)  # fmt: skip
OF_RUNNER = (
    "--help", "--list", "--version", "--force", "--debug", "--data_dir", "--results_dir", "--sweep",
    "--profile", "--compilation_cache", "--exp", "--seed", "--devices", "--device",
)  # fmt: skip
WORDS = ("--", "-", "-x", "--no_such", "--seed=", "--=", "=", "ldr_digits", "", "--exp=", "---seed")


class Outcome(NamedTuple):
    """What became of the command lines.

    Attributes:
        refused: how many ended with a message.
        done: how many ended well, such as with ``--list``.
        begun: how many began to compute, and were stopped then.
        faults: what else happened, a text for each.
        seconds: that the slowest took.
    """

    refused: int
    done: int
    begun: int
    faults: tuple[str, ...]
    seconds: float


class Stopped(BaseException):
    """By the clock; no study is meant to catch it."""


def arguments_of(rng: random.Random, folder: str) -> list[str]:
    """A command line, of which some parts are as they should be."""
    words = []
    names = []
    if rng.random() < 0.9:
        name = rng.choice(list(EXPERIMENTS))
        words += ["--exp", name if rng.random() < 0.95 else name[:-1]]
        names = _options(EXPERIMENTS[name])
    elif rng.random() < 0.5:
        words += ["--sweep", rng.choice([*SWEEPS, *VALUES])]
    for _ in range(rng.choice([0, 1, 1, 2, 2, 3, 6])):
        option = rng.choice([*names, *names, *OF_RUNNER]) if names else rng.choice(OF_RUNNER)
        kind = rng.random()
        if kind < 0.7:
            words += [option, rng.choice(VALUES)]
        elif kind < 0.8:
            words.append(f"{option}={rng.choice(VALUES)}")
        elif kind < 0.9:
            words.append(option)
        else:
            words.append(rng.choice(WORDS))
    if rng.random() < 0.1:
        rng.shuffle(words)
    return ["--results_dir", folder, "--compilation_cache", "none", *words]


def _options(experiment) -> list[str]:
    """Its own, and the keywords of what can be chosen for them."""
    found = []
    for name, (kind, default) in options_of(experiment).items():
        found.append(f"--{name}")
        if kind.choices is not None and isinstance(default, str) and default in kind.choices:
            found += [f"--{name}.{keyword}" for keyword in keywords_of(kind, default)]
    return found


def random_commands(count: int, seed: int, say: Callable[[str], None] = str) -> Outcome:
    """Carries out command lines in this process, one after another.

    Args:
        count: of the command lines.
        seed: of what they are made of.
        say: is told of each fault at once.

    Returns:
        The `Outcome`. It is a fault where an exception comes out, where more than a few lines are
        printed for a refusal, where the exit code is none of 0, 1 and 2, where an argument is
        executed, or where nothing happens for a minute.
    """
    rng = random.Random(seed)
    refused = done = begun = 0
    faults, slowest = [], 0.0
    with tempfile.TemporaryDirectory() as folder, _in_folder(folder), _watched() as watch:
        for number in range(count):
            words = arguments_of(rng, os.path.join(folder, "results"))
            start = time.perf_counter()
            code, printed, fault = _carried_out(words, watch)
            slowest = max(slowest, time.perf_counter() - start)
            debug = any(word.startswith("--debug") for word in words)
            if not fault and code == 2 and not debug and printed.count("\n") > MOST_LINES:
                fault = f"{printed.count(chr(10))} lines: {printed[:500]}"
            if os.path.exists("marker"):
                fault = "an argument was executed"
                os.unlink("marker")
            if fault:
                shown = [word if len(word) < 80 else f"{word[:20]}..." for word in words[4:]]
                faults.append(f"number {number}, {shown}: {fault}")
                say(faults[-1])
            elif code is None:
                begun += 1
            else:
                refused, done = refused + (code != 0), done + (code == 0)
    return Outcome(refused, done, begun, tuple(faults), slowest)


def _carried_out(words: list[str], watch: dict) -> tuple[int | None, str, str]:
    """Exit code, None where it began to compute; what was printed; what is wrong."""
    out = io.StringIO()
    watch.update(programs=0, start=time.perf_counter(), busy=time.process_time())
    watch.update(hangs=False, loops=False, stopped=False, over=False)
    signal.setitimer(signal.ITIMER_REAL, 1, 1)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = carry_out(EXPERIMENTS, SWEEPS, words, is_generated=is_generated)
        if watch["stopped"]:
            # What stops a run is passed on as a code by some.
            code = None
        fault = "" if code in (None, 0, 1, 2) else f"exit code {code}"
        if "Traceback" in out.getvalue() and "--debug" not in " ".join(words):
            fault = f"a traceback: {out.getvalue()[-1500:]}"
    except Stopped:
        watch["over"] = True
        loops = watch["loops"] and words[1] not in out.getvalue()
        code, fault = None, "nothing happens" * (watch["hangs"] or loops)
    except SystemExit as error:
        code, fault = error.code or 0, ""
    except BaseException:
        code, fault = None, traceback.format_exc()[-1500:]
    finally:
        watch["over"] = True
        signal.setitimer(signal.ITIMER_REAL, 0)
    return code, out.getvalue(), fault


@contextlib.contextmanager
def _watched():
    """Stops what computes, at the next second, and what does nothing, in the end."""
    watch = {
        "programs": 0,
        "start": 0.0,
        "busy": 0.0,
        "hangs": False,
        "loops": False,
        "stopped": False,
        "over": False,
    }

    def compiled(event, duration, **_):
        watch["programs"] += event.endswith("backend_compile_duration")

    def look(*_):
        waited = time.perf_counter() - watch["start"]
        busy = time.process_time() - watch["busy"]
        # What is stopped already, or has ended, is not stopped once more.
        if watch["over"]:
            return
        if watch["programs"] > 2 or waited > SECONDS or busy > BUSY:
            # A study may count for long before it compiles: it has its folder, and is busy.
            watch["hangs"] = not watch["programs"] and busy < BUSY / 5
            watch["loops"] = not watch["programs"]
            watch["stopped"] = True
            raise Stopped

    def ignored(unraisable):
        # Raised inside a finaliser it is lost, and comes again with the next second.
        if unraisable.exc_type is not Stopped:
            former_hook(unraisable)

    jax.monitoring.register_event_duration_secs_listener(compiled)
    former, former_hook = signal.signal(signal.SIGALRM, look), sys.unraisablehook
    sys.unraisablehook = ignored
    try:
        yield watch
    finally:
        sys.unraisablehook = former_hook
        signal.signal(signal.SIGALRM, former)


@contextlib.contextmanager
def _in_folder(folder: str):
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def random_processes(count: int, seed: int) -> Outcome:
    """The same through real processes, which are stopped after a minute."""
    rng = random.Random(seed)
    refused = done = begun = 0
    faults, slowest = [], 0.0
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            words = arguments_of(rng, os.path.join(folder, "results"))
            words = [word.replace("\ud800", "?").replace("\0", "?") for word in words]
            command = [sys.executable, str(ROOT / "experiments" / "run.py"), *words]
            start = time.perf_counter()
            with subprocess.Popen(
                command, cwd=folder, env=environment, text=True, errors="replace",
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            ) as process:  # fmt: skip
                try:
                    printed, code = process.communicate(timeout=SECONDS)[0], process.returncode
                except subprocess.TimeoutExpired:
                    process.kill()
                    printed, code = process.communicate()[0], None
            slowest = max(slowest, time.perf_counter() - start)
            asked = any(word.startswith("--debug") for word in words)
            if ("Traceback" in printed and not asked) or code not in (None, 0, 1, 2):
                faults.append(f"process {number}, {words[4:]}: code {code}, {printed[-1500:]}")
            elif code is None and not printed.strip():
                faults.append(f"process {number}, {words[4:]}: nothing happens; {printed[-300:]}")
            else:
                begun += code is None
                refused, done = refused + (code not in (0, None)), done + (code == 0)
    return Outcome(refused, done, begun, tuple(faults), slowest)


def main() -> int:
    """Prints what became of the command lines."""
    count, seed = (int(word) for word in (*sys.argv[1:], *("1000", "0")[len(sys.argv) - 1 :]))
    code = 0
    for what, run, times in (
        ("in one process", random_commands, count),
        ("in processes of their own", random_processes, max(count * 3 // 100, 1)),
    ):
        found = run(times, seed)
        for fault in found.faults:
            print(fault)
        print(
            f"{times} random command lines {what}: {found.refused} refused, {found.done} done, "
            f"{found.begun} begun, {len(found.faults)} faults; the slowest took "
            f"{found.seconds:.1f} s",
            flush=True,
        )
        code |= bool(found.faults)
    return code


if __name__ == "__main__":
    sys.exit(main())
