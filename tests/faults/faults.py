"""Faults one by one: what is done to a run, and whether it ends as it should."""

import contextlib
import ctypes
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from tests.faults.sessions import Ended, Session, checkpoints_of, differences, outcome, the_run

ROOT = pathlib.Path(__file__).parents[2]
# A study of a second: numbers that shrink, a row and a checkpoint an epoch.
DESCENT = "--exp descent --epochs 12 --pause 0.05 --checkpoint_every 0.1".split()
_CLONE_NEWNS = 0x00020000


class Found(NamedTuple):
    """What came of a fault.

    Attributes:
        right: how often the run did as it should.
        count: how often it was tried.
        wrong: the other times, a line each.
    """

    right: int
    count: int
    wrong: list[str]


def found(results: list[str]) -> Found:
    """Of what was wrong in each try, empty where nothing was."""
    wrong = [text for text in results if text]
    return Found(len(results) - len(wrong), len(results), wrong)


def with_toys() -> None:
    """Puts small studies among the others, of this process alone."""
    from experiments import EXPERIMENTS
    from tests.runner import toys

    EXPERIMENTS["descent"] = toys.descent
    EXPERIMENTS["compiling"] = compiling


def compiling(*, size: int = 300):
    """Compiles a long program."""
    import jax
    import jax.numpy as jnp

    def long(x):
        for index in range(size):
            x = jnp.sin(x) @ jnp.cos(x + index)
        return x

    yield {"epoch": 1, "loss": float(jax.jit(long)(jnp.ones((3, 3))).sum())}


def start(folder: pathlib.Path, *words: str, results: pathlib.Path | None = None) -> Session:
    """A session with the toys."""
    where = ["--results_dir", str(results or folder / "results"), "--compilation_cache", "none"]
    return Session([*words, *where], folder, with_toys)


def run(folder: pathlib.Path, *words: str, results: pathlib.Path | None = None) -> Ended:
    """A session to its end."""
    return start(folder, *words, results=results).wait()


def one_line(ended: Ended, code: int, *texts: str) -> str:
    """What is wrong with an end that should be one line of error."""
    if ended.code != code:
        return f"exit code {ended.code}, not {code}: {ended.err[-300:]}"
    if ended.err.count("\n") != 1:
        return f"{ended.err.count(chr(10))} lines: {ended.err[:300]}"
    return "" if any(text in ended.err for text in texts) else f"says {ended.err!r}"


def killed(folder: pathlib.Path, epochs: int) -> pathlib.Path:
    """A run that was killed after some epochs were saved; its folder."""
    shutil.rmtree(folder / "results", ignore_errors=True)
    session = start(folder, *DESCENT)
    metrics = "results/descent/*/metrics.jsonl"
    while True:
        files = list(folder.glob(metrics))
        if files and files[0].read_bytes().count(b"\n") >= epochs:
            if len(checkpoints_of(files[0].parent)) >= 2:
                break
        time.sleep(0.01)
    session.send(signal.SIGKILL)
    session.wait()
    return the_run(folder / "results")


def expected_of(folder: pathlib.Path) -> dict:
    """What the uninterrupted run leaves behind."""
    ended = run(folder, *DESCENT, results=folder / "whole")
    if ended.code:
        raise RuntimeError(ended.err)
    return outcome(the_run(folder / "whole"))


def equal(folder: pathlib.Path, expected: dict) -> str:
    """What is wrong with the run after its command was given once more."""
    ended = run(folder, *DESCENT)
    if ended.code:
        return f"exit code {ended.code}: {ended.err[-300:]}"
    return ", ".join(differences(outcome(the_run(folder / "results")), expected))


def flipped_bits(folder: pathlib.Path, rng: random.Random, repeat: int) -> Found:
    """A bit of the newest checkpoint, in any of its files."""
    expected, results = expected_of(folder), []
    for _ in range(4 * repeat):
        newest = checkpoints_of(killed(folder, 6))[-1]
        files = [file for file in sorted(newest.rglob("*")) if file.is_file()]
        file = rng.choice(files)
        data = bytearray(file.read_bytes())
        place = rng.randrange(len(data))
        data[place] ^= 1 << rng.randrange(8)
        file.write_bytes(data)
        text = equal(folder, expected)
        results.append(text and f"{file.name} byte {place}: {text}")
    return found(results)


def cut_files(folder: pathlib.Path, rng: random.Random, repeat: int) -> Found:
    """A file of the newest checkpoint that ends too soon, or is not there."""
    expected, results = expected_of(folder), []
    for number in range(2 * repeat):
        newest = checkpoints_of(killed(folder, 6))[-1]
        file = rng.choice([file for file in sorted(newest.rglob("*")) if file.is_file()])
        if number % 2:
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        text = equal(folder, expected)
        results.append(text and f"{file.name}: {text}")
    return found(results)


def changed_rows(folder: pathlib.Path, rng: random.Random, repeat: int) -> Found:
    """Rows cut in the middle of a line, doubled or edited: named, and the outcome is the same."""
    del rng, repeat
    expected, results = expected_of(folder), []
    changes: dict[str, Callable[[list[bytes]], list[bytes]]] = {
        "cut": lambda rows: [*rows[:-1], rows[-1][:9]],
        "doubled": lambda rows: [*rows[:-1], rows[-2], rows[-1]],
        "edited": lambda rows: [*rows[:-1], rows[-1].replace(b"0.", b"1.")],
    }
    for name, change in changes.items():
        path = killed(folder, 6)
        file = path / "metrics.jsonl"
        saved = min(_rows_saved(path))
        lines = file.read_bytes().splitlines(keepends=True)
        # Beyond the rows of the older checkpoint, within those of the newer one.
        newer = max(_rows_saved(path))
        file.write_bytes(b"".join([*change(lines[: max(newer, saved + 1)])]))
        results.append((text := equal(folder, expected)) and f"{name}: {text}")
    return found(results)


def _rows_saved(path: pathlib.Path) -> list[int]:
    files = [step / "metadata/metadata" for step in checkpoints_of(path)]
    return [json.loads(file.read_text())["user"]["rows"] for file in files]


def empty_files(folder: pathlib.Path, rng: random.Random, repeat: int) -> Found:
    """`summary.json` or `config.json` empty, cut or of something else: one line."""
    del rng, repeat
    results = []
    expected_of(folder)
    for name in ("summary.json", "config.json"):
        for content in (b"", b"{", b"[]", b"\0\xff"):
            shutil.rmtree(folder / "results", ignore_errors=True)
            shutil.copytree(folder / "whole", folder / "results")
            (the_run(folder / "results") / name).write_bytes(content)
            results.append(one_line(run(folder, *DESCENT), 2, name))
    return found(results)


def two_runs(folder: pathlib.Path, rng: random.Random, repeat: int) -> Found:
    """Two runs on one folder: the second refuses; a dead process's lock does not hold."""
    del rng, repeat
    expected = expected_of(folder)
    first = start(folder, *DESCENT)
    while not list(folder.glob("results/descent/*/metrics.jsonl")):
        time.sleep(0.01)
    second = run(_made(folder / "second"), *DESCENT, results=folder / "results")
    results = [one_line(second, 2, "another process is writing")]
    results.append("" if first.wait().code == 0 else "the first one failed")
    killed(folder, 4)
    results.append(equal(folder, expected))
    return found(results)


def _made(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir(exist_ok=True)
    return folder


def clock_backwards(folder: pathlib.Path, rng: random.Random, repeat: int) -> Found:
    """A clock that goes back by a day within a run and between its sessions."""
    del rng, repeat
    expected = expected_of(folder)

    def jumping() -> None:
        with_toys()
        now, calls = time.time, [0]

        def jump() -> float:
            calls[0] += 1
            return now() + 86_400 - 3_600 * calls[0]

        time.time = jump

    where = ["--results_dir", str(folder / "results"), "--compilation_cache", "none"]
    session = Session([*DESCENT, *where], folder, jumping)
    while not list(folder.glob("results/descent/*/checkpoints/[0-9]*/commit_success.txt")):
        time.sleep(0.01)
    session.send(signal.SIGKILL)
    session.wait()
    return found([equal(folder, expected)])


def signals_while_compiling(folder: pathlib.Path, rng: random.Random, repeat: int) -> Found:
    """SIGTERM and SIGINT while XLA compiles: exit code 130, one line."""
    results = []
    for number in range(2 * repeat):
        shutil.rmtree(folder / "results", ignore_errors=True)
        session = start(folder, "--exp", "compiling")
        while not list(folder.glob("results/compiling/*/metrics.jsonl")):
            time.sleep(0.01)
        time.sleep(rng.uniform(0.3, 1.5))
        session.send((signal.SIGTERM, signal.SIGINT)[number % 2])
        results.append(one_line(session.wait(), 130, "interrupted"))
    return found(results)


def two_signals(folder: pathlib.Path, rng: random.Random, repeat: int) -> Found:
    """Two signals 50 ms apart: exit code 130, no traceback, and the run goes on later."""
    expected, results = expected_of(folder), []
    for _ in range(repeat):
        shutil.rmtree(folder / "results", ignore_errors=True)
        session = start(folder, *DESCENT)
        while not list(folder.glob("results/descent/*/metrics.jsonl")):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        session.send(signal.SIGINT)
        time.sleep(0.05)
        session.send(signal.SIGTERM)
        ended = session.wait()
        wrong = "" if ended.err.count("\n") <= 2 else f"{ended.err[:300]}"
        wrong = wrong if ended.code in (0, 130) else f"exit code {ended.code}"
        results.append(wrong or equal(folder, expected))
    return found(results)


def signals_during_imports(folder: pathlib.Path, rng: random.Random, repeat: int) -> Found:
    """A signal while the real command imports: exit code 130 and at most a line."""
    results = []
    for number in range(repeat):
        words = [sys.executable, "experiments/run.py", "--list"]
        with open(folder / "imports", "wb+") as err:
            process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=err)
            time.sleep(rng.uniform(0.4, 3))
            process.send_signal((signal.SIGTERM, signal.SIGINT)[number % 2])
            code = process.wait()
            err.seek(0)
            text = err.read().decode()
        right = code in (0, 130) and text.count("\n") <= 1  # it may have ended before
        results.append("" if right else f"exit code {code}: {text[:300]}")
    return found(results)


def full_disk(folder: pathlib.Path, rng: random.Random, repeat: int) -> Found:
    """A disk that becomes full: one line, and with more space the run ends as it should."""
    del rng, repeat
    expected = expected_of(folder)

    def tries(disk: pathlib.Path) -> list[str]:
        results = []
        for spare in (4_000, 1_060_000, 1_200_000):
            shutil.rmtree(disk / "results", ignore_errors=True)
            filler = disk / "filler"
            filler.write_bytes(b"")
            free = shutil.disk_usage(disk).free
            filler.write_bytes(bytes(max(free - spare, 0)))
            ended = run(folder, *DESCENT, results=disk / "results")
            text = one_line(ended, 1, "the disk is full") if ended.code else ""
            filler.unlink()
            ended = run(folder, *DESCENT, results=disk / "results")
            text = text or f"{ended.err[-300:]}" * bool(ended.code)
            text = text or ", ".join(differences(outcome(the_run(disk / "results")), expected))
            results.append(text and f"{spare:,} bytes left: {text}")
        return results

    return found(on_a_disk(folder, "size=4m", tries))


def read_only(folder: pathlib.Path, rng: random.Random, repeat: int) -> Found:
    """A results folder that may not be written to, is a file, or has too long a name: one line."""
    del rng, repeat
    (folder / "file").write_text("")
    paths = [folder / "file", folder / "file/below", folder / ("x" * 300)]
    paths.append(pathlib.Path(folder, *["long"] * 1_000))
    results = [one_line(run(folder, *DESCENT, results=path), 2, "--results_dir") for path in paths]

    def tries(disk: pathlib.Path) -> list[str]:
        return [one_line(run(folder, *DESCENT, results=disk / "results"), 2, "--results_dir")]

    return found(results + on_a_disk(folder, "ro,size=4m", tries))


def on_a_disk(
    folder: pathlib.Path, options: str, tries: Callable[[pathlib.Path], list[str]]
) -> list[str]:
    """What came of something on a small disk of its own; nothing where none can be mounted.

    The disk is one of a process alone, in which the tries run.
    """
    answer, disk = folder / "answer", _made(folder / "disk")
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(_CLONE_NEWNS):
                raise OSError("no name space of its own")
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            command = ["mount", "-t", "tmpfs", "-o", options, "none", str(disk)]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            answer.write_text("null")
            answer.write_text(json.dumps(tries(disk)))
        os._exit(0)
    os.waitpid(pid, 0)
    if not answer.exists():
        print("  no disk can be mounted here: this part was not run")
        return []
    text = json.loads(answer.read_text())
    return ["the tries did not end"] if text is None else text


FAULTS: dict[str, Callable[[pathlib.Path, random.Random, int], Found]] = {
    "flipped bits": flipped_bits,
    "cut files": cut_files,
    "changed rows": changed_rows,
    "empty files": empty_files,
    "two runs": two_runs,
    "clock backwards": clock_backwards,
    "signals while compiling": signals_while_compiling,
    "two signals": two_signals,
    "signals during imports": signals_during_imports,
    "full disk": full_disk,
    "read-only": read_only,
}
