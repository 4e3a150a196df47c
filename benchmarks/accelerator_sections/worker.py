"""The process that measures: one side of some sections, one after the other."""

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from accelerator_sections import FEWEST, JAX, LAST, SECTIONS, TORCH
from accelerator_sections.bench import Bench, CannotRun, reason
from accelerator_sections.record import (
    COMPLETE,
    FAILED,
    NOT_RUN,
    OUT_OF_BUDGET,
    PARTIAL,
    Record,
)

# Less than that is not worth beginning a section.
LEAST_SECONDS = 3
# A section that waits for nothing ends by itself; one that hangs is ended by who waits for it. What
# was begun in time may still compile, in PyTorch for the better part of a minute.
GRACE, OF_THE_WHOLE = 40, 20
# The code with which a process ends whose device is not that of the file.
OTHER_MACHINE = 3


def work(options: Any, record: Record, jobs: list[tuple[str, str, float, float]]) -> None:
    """Measures `(section, side, seconds, seconds of all that comes later)`, in this order."""
    stop_with_parent()
    for section, side, seconds, later in jobs:
        left = options.until - time.time()
        allowed = min(seconds, left)
        least = FEWEST if section == LAST and not options.tiny else LEAST_SECONDS
        if allowed < least:
            why = f"the budget of this start was used but for {max(left, 0):.0f} s"
            record.put(section, side, state=OUT_OF_BUDGET, why=why)
            continue
        one(options, record, section, side, allowed, max(left - allowed - later, 0))


def one(
    options: Any, record: Record, section: str, side: str, seconds: float, spare: float
) -> None:
    """One side of one section, whatever becomes of it."""
    print(f"({section}) {SECTIONS[section].title}, {side}, up to {seconds:.0f} s", flush=True)
    start = time.monotonic()
    record.begin(
        section,
        side,
        title=SECTIONS[section].title,
        limit_seconds=seconds,
        end_by=min(
            time.time() + seconds + spare * (section == "d") + GRACE, options.until + OF_THE_WHOLE
        ),
    )
    bench = Bench(record, section, side, seconds, spare, options)
    try:
        held_against, run = function_of(section, side, record)
        bench.note(held_against=held_against)
        run(bench)
        state = {"state": PARTIAL if bench.left_out else COMPLETE}
    except CannotRun as error:
        state = {"state": NOT_RUN, "why": str(error)}
    except Exception as error:  # noqa: BLE001
        state = {"state": FAILED, "why": reason(error)}
    record.put(section, side, **state, seconds_taken=time.monotonic() - start)
    print(f"({section}) {state['state']}, {time.monotonic() - start:.0f} s", flush=True)


def function_of(section: str, side: str, record: Record) -> tuple[str, Callable[[Bench], None]]:
    """What to call, and what its numbers are held against."""
    module = importlib.import_module(f"accelerator_sections.{SECTIONS[section].module}")
    # The last section may leave the device to a command of its own.
    if side == JAX and section != LAST:
        check_machine(record)
    if side == JAX:
        return module.HELD_AGAINST, module.run
    why = no_torch(record)
    if why:
        raise CannotRun(why)
    from accelerator_sections import torch_peers

    return "the same work on JAX's side of this section", torch_peers.SIDES[section]


def check_machine(record: Record) -> None:
    """Notes what the numbers belong to; those of another device do not go into the same file."""
    from accelerator_sections.roofs import machine

    here = machine()
    began = record.data.setdefault("machine", here)
    for name in ("device", "devices", "jax"):
        if began[name] != here[name]:
            print(
                f"the file began with {name} {began[name]}, here it is {here[name]}: choose --out"
            )
            sys.exit(OTHER_MACHINE)


def no_torch(record: Record) -> str | None:
    """Why PyTorch cannot be asked, or None."""
    backend = record.data.get("machine", {}).get("backend")
    if backend == "tpu":
        return "PyTorch is left out on a TPU"
    try:
        import torch
    except ImportError as error:
        return f"PyTorch is not installed ({error})"
    if backend == "gpu" and not torch.cuda.is_available():
        return "PyTorch sees no GPU: JAX's numbers would be held against a CPU"
    return None


def stop_with_parent() -> None:
    """Ends this process and what it started when the one that waits for it is gone."""

    def watch() -> None:
        # Nothing is ever written there; the end comes when the other side closes.
        os.read(sys.stdin.fileno(), 1)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def sides() -> list[list[tuple[str, str]]]:
    """Sections and sides by process: each gives the device's memory back before the next begins."""
    return [
        [(section, JAX) for section in SECTIONS if section != LAST],
        [(section, TORCH) for section, each in SECTIONS.items() if each.torch_seconds],
        [(LAST, JAX)],
    ]
