"""Everything that an accelerator is asked, in one start of at most nine minutes.

python benchmarks/accelerator.py [--sections a,b] [--out DIR] [--tiny] [--data_dir DIR]
    [--budget 540]

(a) the device and its measured roofs; (b) every loss, forward and backward; (c) contrastive losses,
dense and blocked; (d) the letter table; (e) training steps of ResNets; (f) iSogCLR over SimCLR; (g)
soft labels of a projector; (i) compile times; (h) `ldr_cifar` at the end, with the time that is
left, up to four minutes; less than one is left to the next start. It needs jax, flax, optax and
numpy; where PyTorch is installed and sees the same device, its side of (b) to (e) is measured as
well, in a process that begins when JAX's has given the device back. DIR/accelerator.json is
rewritten after every row. Started again with the same DIR, it goes on at the section in which it
was stopped. `--data_dir` may hold letter.npz and cifar10.npz; without, such data are generated, and
marked so.

`--tiny` runs every section at sizes that measure nothing, as a check of this script: some minutes
on two cores of a CPU.
"""

import argparse
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

from accelerator_sections import AT_MOST, BUDGET, JAX, LAST, SECTIONS
from accelerator_sections.record import FAILED, NOT_RUN, OUT_OF_BUDGET, RUNNING, Record
from accelerator_sections.summary import aims, beside_torch, print_aims
from accelerator_sections.worker import OTHER_MACHINE, sides, work

FILE = "accelerator.json"
# A process of its own, with its imports and the start of the device, takes about so long.
START_SECONDS = 10
TINY_SCALE = 5


def main() -> None:
    """Reads the options; measures, or has others measure and waits."""
    options = parsed()
    record = Record(options.out / FILE)
    if options.jobs:
        work(options, record, [read_job(word) for word in options.jobs.split()])
        return
    check_same(record, options)
    record.data["command"] = "python benchmarks/accelerator.py " + shlex.join(sys.argv[1:])
    record.data["tiny"] = options.tiny
    record.write()
    record.forget_running()
    until = time.time() + options.budget
    for group in sides():
        wanted = [(section, side) for section, side in group if section in options.sections]
        attempts(options, record, wanted, until)
        record.read()
    record.data |= {"aims": aims(record), "beside_torch": beside_torch(record)}
    record.write()
    print_aims(record.data["aims"])
    print(f"{options.out / FILE}: {states(record, options.sections)}")


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sections", default=",".join(SECTIONS), help="letters, default all")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("results/accelerator"))
    parser.add_argument("--tiny", action="store_true", help="smallest sizes, as a check")
    parser.add_argument("--data_dir", help="folder with letter.npz and cifar10.npz")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds of this start")
    # What a process that measures is told by the one that waits for it.
    parser.add_argument("--jobs", help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.sections = [word.strip() for word in options.sections.split(",") if word.strip()]
    unknown = sorted(set(options.sections) - set(SECTIONS))
    if unknown:
        parser.error(f"--sections must be some of {','.join(SECTIONS)}; got {','.join(unknown)}")
    if options.budget <= 0:
        parser.error(f"--budget must be above 0, got {options.budget}")
    return options


def check_same(record: Record, options: argparse.Namespace) -> None:
    """A file goes on with the sizes that it began with."""
    if record.data.get("tiny", options.tiny) != options.tiny:
        began = "with" if record.data["tiny"] else "without"
        raise SystemExit(f"{record.file} began {began} --tiny; choose another --out.")


def limit(section: str, side: str, options: argparse.Namespace) -> float:
    """Seconds of one side of a section."""
    found = SECTIONS[section]
    # The tiny form is bounded by its sizes: what a slow machine takes longer for is complete too.
    scale = TINY_SCALE if options.tiny else options.budget / BUDGET
    return scale * (found.seconds if side == JAX else found.torch_seconds)


def attempts(
    options: argparse.Namespace, record: Record, group: list[tuple[str, str]], until: float
) -> None:
    """Processes for the sides of a group, until all of them have come to an end."""
    record.read()
    for section, side in group:
        if record.is_done(section, side):
            print(f"({section}) {side} is in {record.file} already", flush=True)
    while jobs := [job for job in group if not record.is_done(*job)]:
        stopped = measured_by_process(options, record, jobs, until)
        record.read()
        # Of a process that could not even begin, the first one is blamed; the next is tried.
        blamed = [job for job in jobs if record.side(*job).get("state") == RUNNING] or [
            job for job in jobs if not record.side(*job).get("state")
        ]
        if not blamed:
            return
        record.put(*blamed[0], state=FAILED, why=stopped)


def measured_by_process(
    options: argparse.Namespace, record: Record, jobs: list[tuple[str, str]], until: float
) -> str:
    """Starts a process for some sides, waits, ends it if one takes too long; how it ended."""
    words = []
    for at, (section, side) in enumerate(jobs):
        seconds = limit(section, side, options)
        if section == LAST:
            seconds = min(max(until - time.time() - START_SECONDS, seconds), AT_MOST)
        later = sum(limit(*job, options) for job in jobs[at + 1 :]) + of_later(options, jobs)
        words.append(f"{section}:{side}:{seconds:.1f}:{later:.1f}")
    command = [sys.executable, __file__, "--jobs", " ".join(words), "--until", str(until)]
    command += ["--out", str(options.out), "--sections", ",".join(options.sections)]
    command += ["--budget", str(options.budget)]
    command += ["--tiny"] * options.tiny
    command += ["--data_dir", options.data_dir] if options.data_dir else []
    environment = dict(os.environ)
    # Nothing else is on the device; what the largest batch is depends on it.
    environment.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")
    if options.tiny:
        # Programs that run a few times need not be fast, and several devices are to be seen.
        environment.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        environment.setdefault("JAX_NUM_CPU_DEVICES", "2")
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, env=environment, start_new_session=True
    )
    try:
        while process.poll() is None:
            time.sleep(0.5)
            late = overdue(record, jobs)
            if late:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return late
        if process.returncode == OTHER_MACHINE:
            raise SystemExit(1)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return f"its process ended with code {process.returncode}"


def of_later(options: argparse.Namespace, jobs: list[tuple[str, str]]) -> float:
    """Seconds of the sides that later processes will measure."""
    every = [job for group in sides() for job in group if job[0] in options.sections]
    after = every[every.index(jobs[-1]) + 1 :]
    processes = sum(jobs[-1] not in group and group[0] in after for group in sides())
    return sum(limit(*job, options) for job in after) + START_SECONDS * processes


def overdue(record: Record, jobs: list[tuple[str, str]]) -> str | None:
    """Whether the side that is running should have come to an end."""
    seen = Record(record.file)
    for job in jobs:
        side = seen.side(*job)
        if side.get("state") == RUNNING and time.time() > side.get("end_by", float("inf")):
            return f"it was stopped: it went on after its {side['limit_seconds']:.0f} s"
    return None


def read_job(word: str) -> tuple[str, str, float, float]:
    """Of `measured_by_process`."""
    section, side, seconds, later = word.split(":")
    return section, side, float(seconds), float(later)


def states(record: Record, sections: list[str]) -> str:
    """A word for every side."""
    words = []
    for section in sections:
        for side, found in record.data["sections"].get(section, {}).items():
            state = found.get("state")
            words.append(f"{section} {side} {state}")
            if state in (FAILED, NOT_RUN, OUT_OF_BUDGET):
                words[-1] += f" ({found.get('why')})"
    return "; ".join(words)


if __name__ == "__main__":
    main()
