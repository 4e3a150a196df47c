"""Studies in two processes over loopback, as on two hosts, against one process: equal, and faults.

python -m tests.faults.two_hosts [--studies NAME,...] [--faults NAME,...]

Each process has two devices of the CPU, as the one that they are compared with has four; sums over
them have another order, so that numbers are equal up to rounding.
"""

import argparse
import functools
import json
import pathlib
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np

from tests.faults.sessions import Ended, Session, import_everything, the_run

SMALL = "--dataset shapes32 --dataset.num_train 160 --dataset.num_test 40 "
SMALL += "--batch_size 128 "
LOSSES = "--epochs 2 --model convnet --model.width 2 --folds 5 --first_folds 1 --loss ldr_kl "
LOSSES += "--learning_rates 0.1 --temperatures 1.0"
# Images in batches that are split, from the memory of the devices and from the hosts', with tables
# and without; and trainings at once.
STUDIES = {
    "robust losses": f"--exp ldr_cifar {SMALL} {LOSSES}",
    "streamed": f"--exp ldr_cifar {SMALL} {LOSSES} --streamed true",
    "contrastive": f"--exp isogclr_cifar {SMALL} --model resnet8 --model.width 2 "
    "--projector_width 8 --epochs 1 --lars.warmup_epochs 0 --imbalance 1 --num_neighbours 5",
    "lanes": "--exp ldr_digits --epochs 6 --seeds 4 --learning_rates 0.1 --temperatures 1.0 "
    "--qs 0.7",
    "tables in lanes": "--exp isogclr_digits --seeds 4 --epochs 2 --starts 0.1",
}
RELATIVE = 1e-4
# Gloo, that connects CPUs, says so on standard output, several threads at once.
GLOO = re.compile(
    r"\[Gloo\]|Rank|is connected to|peer ranks\.?|Expected number of connected|is :|\d|\s"
)
# A probe is fitted on what was trained, and one example of 2,000 falls on the other side of it.
COUNTED = {"tables in lanes": "results"}


def with_devices(count: int, words: Sequence[str]) -> None:
    """In a process that has not started JAX."""
    import jax

    # Of networks of images compiling is most of the time.
    jax.config.update("jax_disable_most_optimizations", "shapes32" in words)

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", count)


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


class Pair:
    """The two processes of a run, each with its own folder of output.

    Args:
        words: of the command line.
        folder: for the results of both, which the first one writes, and their output.
        options: further ones of `--distributed`.
        of_second: further words of the second one.
    """

    def __init__(
        self,
        words: Sequence[str],
        folder: pathlib.Path,
        *options: str,
        of_second: Sequence[str] = (),
    ):
        address = f"localhost:{free_port()}"
        self.sessions = []
        for index in range(2):
            own = folder / f"process {index}"
            own.mkdir(parents=True, exist_ok=True)
            more = ["--distributed", "--coordinator", address, "--num_processes", "2"]
            more += ["--process_id", str(index), *options, "--results_dir", str(own / "results")]
            more += of_second if index else []
            prepare = functools.partial(with_devices, 2, words)
            self.sessions.append(Session([*words, *more], own, prepare))

    def wait(self, seconds: float = 600) -> list[Ended]:
        """How both ended."""
        return [session.wait(seconds) for session in self.sessions]


def alone(words: Sequence[str], folder: pathlib.Path, devices: int) -> Ended:
    """One process."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [*words, "--results_dir", str(folder / "results")]
    return Session(words, folder, functools.partial(with_devices, devices, words)).wait(600)


def numbers_of(run: pathlib.Path, without: str | None = None) -> dict[str, np.ndarray]:
    """All numbers that a run wrote, but for a table."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = {
        f"row {place} {name}": np.float64(value)
        for place, row in enumerate(rows)
        for name, value in row.items()
        if isinstance(value, float | int)
    }
    for file in run.glob("*.npz"):
        with np.load(file) as arrays:
            found |= {f"{file.stem} {name}": arrays[name].astype(float) for name in arrays}
    tables = json.loads((run / "summary.json").read_text())["tables"]
    for title, lines in tables.items():
        for place, line in enumerate(lines if title != without else ()):
            found |= {
                f"{title} {place} {name}": np.float64(value)
                for name, value in line.items()
                if isinstance(value, float | int)
            }
    return found


def furthest(
    run: pathlib.Path, other: pathlib.Path, without: str | None = None
) -> tuple[float, str]:
    """The largest difference between the numbers of two runs, relative to the larger, and where."""
    found, expected = numbers_of(run, without), numbers_of(other, without)
    if found.keys() != expected.keys():
        return float("inf"), f"only in one: {sorted(found.keys() ^ expected.keys())[:3]}"
    worst = (0.0, "nowhere")
    for name, values in found.items():
        wanted = expected[name]
        if values.shape != wanted.shape or (np.isnan(values) != np.isnan(wanted)).any():
            return float("inf"), name
        if values.size:
            apart = np.nanmax(np.abs(values - wanted)) / max(np.nanmax(np.abs(wanted)), 1e-6)
            worst = max(worst, (float(apart), name))
    return worst


def equal(study: str, folder: pathlib.Path) -> list[str]:
    """Faults of a study in two processes against one."""
    words = STUDIES[study].split()
    before = time.perf_counter()
    first, second = Pair(words, folder / "two").wait()
    one = alone(words, folder / "one", 4)
    wrong = [f"process {i}: {e.code}, {e.err}" for i, e in enumerate((first, second)) if e.code]
    wrong += [f"alone: {one.code}, {one.err}"] if one.code else []
    if wrong:
        return wrong
    nothing = not (folder / "two/process 1/results").exists()
    run, other = (the_run(folder / path) for path in ("two/process 0/results", "one/results"))
    apart, where = furthest(run, other, without=COUNTED.get(study))
    print(
        f"{study}: two processes against one, {apart:.1e} apart at most ({where}); "
        f"{time.perf_counter() - before:.0f} s",
        flush=True,
    )
    wrong = [] if apart <= RELATIVE else [f"{apart} apart at {where}"]
    said = GLOO.sub("", second.out)
    wrong += [] if nothing and not said else [f"the second process wrote {second.out[-500:]!r}"]
    return wrong


HEARTBEAT, LONG = 10, ["--epochs", "20", "--loss", "ldr_kl", "--checkpoint_every", "0.2"]


def shorter() -> list[str]:
    """The command that is stopped."""
    words = STUDIES["lanes"].split()
    place = words.index("--epochs")
    return words[:place] + words[place + 2 :] + LONG


def dies(folder: pathlib.Path, who: int) -> list[str]:
    """Faults of a run one of whose processes is killed; the run goes on after it.

    After the second one by two processes again, after the first one by one alone.
    """
    words = shorter()
    pair = Pair(words, folder, "--heartbeat_timeout", str(HEARTBEAT))
    results = folder / "process 0/results"
    wait_for_rows(pair, results, 6)
    pair.sessions[who].send(signal.SIGKILL)
    began = time.monotonic()
    ended = pair.wait()[1 - who]
    took = time.monotonic() - began
    rows = len(rows_file(results).read_bytes().splitlines())
    lines = [line for line in ended.err.splitlines() if "error" in line.lower()]
    print(
        f"process {who} killed after {rows} rows: the other one ended {took:.1f} s later, "
        f"code {ended.code}: {lines[0][:200] if lines else 'nothing said'}",
        flush=True,
    )
    wrong = (
        [] if ended.code and lines and took < HEARTBEAT + 10 else ["it did not end as it should"]
    )
    wrong += ["it had finished"] if (the_run(results) / "summary.json").exists() else []
    if who:
        again = Pair(words, folder).wait()
    else:
        again = [alone(words, folder / "process 0", 4)]
    wrong += [f"{ended.code}, {ended.err}" for ended in again if ended.code]
    wrong += [] if "resuming after epoch" in again[0].out else ["it began at its start"]
    whole = alone(words, folder / "whole", 1)
    wrong += [whole.err] if whole.code else []
    if not wrong:
        apart, where = furthest(the_run(results), the_run(folder / "whole/results"))
        print(f"resumed by {len(again)}: {apart:.1e} apart from one that went through", flush=True)
        wrong += [] if apart <= RELATIVE else [f"{apart} apart at {where}"]
    return wrong


def preempted(folder: pathlib.Path) -> list[str]:
    """Faults where all processes are told to stop, as by a scheduler: the last state is kept.

    One process alone goes on from it.
    """
    pair = Pair(shorter(), folder)
    results = folder / "process 0/results"
    wait_for_rows(pair, results, 6)
    for session in pair.sessions:
        session.send(signal.SIGTERM)
    began = time.monotonic()
    both = pair.wait()
    took, rows = time.monotonic() - began, len(rows_file(results).read_bytes().splitlines())
    again = [alone(shorter(), folder / "process 0", 4)]
    place = again[0].out.find("resuming after epoch ")
    line = again[0].out[place:].partition("\n")[0]
    codes = [ended.code for ended in both]
    print(f"preempted after {rows} rows: codes {codes} after {took:.1f} s; {line}", flush=True)
    wrong = [] if both[0].code == 130 and both[1].code else [f"{codes}: {both[0].err}"]
    wrong += [] if place >= 0 else ["it began at its start"]
    return wrong + [f"{ended.code}, {ended.err}" for ended in again if ended.code]


def rows_file(results: pathlib.Path) -> pathlib.Path:
    """Of the only run there; a file that is not there yet."""
    return next(iter(results.glob("*/*/metrics.jsonl")), results / "metrics.jsonl")


def wait_for_rows(pair: Pair, results: pathlib.Path, count: int, seconds: float = 600) -> None:
    """Until a run has written so many; ends it where it does not."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        file = rows_file(results)
        if file.exists() and len(file.read_bytes().splitlines()) >= count:
            return
        time.sleep(0.02)
    for session in pair.sessions:
        session.send(signal.SIGKILL)
    raise TimeoutError(f"no {count} rows in {results}.")


def told_otherwise(folder: pathlib.Path) -> list[str]:
    """Faults where two processes are not given the same command."""
    both = Pair(STUDIES["lanes"].split(), folder, of_second=["--noise_rate", "0.3"]).wait()
    said = "process 1 has other arguments than process 0"
    wrong = [f"{ended.code}, {ended.err}" for ended in both if ended.code != 2]
    wrong += [ended.err for ended in both if said not in ended.err or "Traceback" in ended.err]
    wrong += ["a folder was made"] if (folder / "process 0/results").exists() else []
    print(f"told otherwise: {both[0].err.strip()}", flush=True)
    return wrong


def nobody_comes(folder: pathlib.Path) -> list[str]:
    """Faults where a first process waits for others in vain, or knows of none."""
    wrong = []
    address = f"--coordinator localhost:{free_port()} --num_processes 2 --process_id 0"
    for words, said in (
        (f"{address} --initialization_timeout 2", "the other processes did not come in 2 s"),
        ("", "give --coordinator HOST:PORT"),
    ):
        ended = alone([*STUDIES["lanes"].split(), "--distributed", *words.split()], folder, 1)
        if ended.code != 2 or said not in ended.err or ended.err.count("\n") != 1:
            wrong.append(f"{ended.code}, {ended.err}")
        print(f"nobody comes: {ended.err.strip()}", flush=True)
    return wrong + (["a folder was made"] if (folder / "results").exists() else [])


FAULTS = {
    "nobody comes": nobody_comes,
    "told otherwise": told_otherwise,
    "second dies": functools.partial(dies, who=1),
    "preempted": preempted,
    "first dies": functools.partial(dies, who=0),
}


def two_hosts(studies: Sequence[str], faults: Sequence[str], folder: pathlib.Path) -> list[str]:
    """Everything that was wrong in these."""
    import_everything()
    wrong = []
    for study in studies:
        wrong += [f"{study}: {each}" for each in equal(study, folder / study)]
    for name in faults:
        wrong += [f"{name}: {each}" for each in FAULTS[name](folder / name)]
    return wrong


def names(text: str) -> list[str]:
    """``"a,b"`` to words, of which there may be none."""
    return [word for word in text.split(",") if word]


def main() -> int:
    """Does what was asked for; the exit code is 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=names, default=list(STUDIES))
    parser.add_argument("--faults", type=names, default=list(FAULTS))
    parser.add_argument("--keep", type=pathlib.Path, help="a folder for what is written")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        wrong = two_hosts(options.studies, options.faults, options.keep or pathlib.Path(temporary))
    print("\n".join(wrong))
    print(f"{len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
