"""Compiled programs, what their compiler says of them, and their times side by side."""

import concurrent.futures
import functools
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from accelerator_sections.bench import reason

# A round of calls is at least so long, so that neither the clock nor a single dispatch matters.
ROUND_SECONDS = 0.01
MOST_CALLS = 50


class Program(NamedTuple):
    """A compiled function.

    Attributes:
        call: it; its arguments are those that it was compiled for.
        compile_seconds: tracing, lowering and compiling, beside the others of its group.
        extra_bytes: what it needs besides arguments and results, from the compiler; None where the
            backend does not say.
        needed_bytes: arguments, results and these.
        bytes_accessed: read and written by its parts, as the compiler counts them.
        flops: of the program before it is optimised: library calls hide theirs afterwards.
    """

    call: Callable
    compile_seconds: float
    extra_bytes: int | None
    needed_bytes: int | None
    bytes_accessed: float | None
    flops: float | None


def compiled(function: Callable, arguments: Sequence[Any], **options: Any) -> Program:
    """Compiles a function for arguments, or for their shapes."""
    start = time.perf_counter()
    lowered = jax.jit(function, **options).lower(*arguments)
    program = lowered.compile()
    seconds = time.perf_counter() - start
    memory = analysis(program.memory_analysis)
    sizes = [
        getattr(memory, f"{part}_size_in_bytes", None) for part in ("temp", "argument", "output")
    ]
    known = all(size is not None for size in sizes)
    shared = getattr(memory, "alias_size_in_bytes", 0) or 0
    return Program(
        program,
        seconds,
        sizes[0],
        sum(sizes) - shared if known else None,
        cost(program, "bytes accessed"),
        cost(lowered, "flops"),
    )


def analysis(function: Callable) -> Any:
    """What a compiler says, or None: not every backend answers every question."""
    try:
        return function()
    except Exception:  # noqa: BLE001
        return None


def cost(stage: Any, name: str) -> float | None:
    """One of the counts of a lowered or compiled program."""
    found = analysis(stage.cost_analysis)
    found = found[0] if isinstance(found, list) and found else found
    return found.get(name) if isinstance(found, dict) else None


def compiled_together(jobs: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Carries out jobs that compile, in threads; by name the result, or the error as text."""

    def attempt(job: Callable[[], Any]) -> Any:
        try:
            return job()
        except Exception as error:  # noqa: BLE001
            return reason(error)

    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        return dict(zip(jobs, threads.map(attempt, jobs.values()), strict=True))


class Time(NamedTuple):
    """Of one call, in rounds of several.

    Attributes:
        median: over the rounds, in seconds.
        fastest: of the rounds, in seconds.
        rounds: how many.
        calls: of a round.
    """

    median: float
    fastest: float
    rounds: int
    calls: int

    def row(self) -> dict[str, Any]:
        """For the JSON."""
        return {"seconds": self.median, "fastest": self.fastest, "rounds": self.rounds}


def interleaved(
    calls: Mapping[str, Callable[[], Any]],
    seconds: float,
) -> dict[str, Time | str]:
    """Medians of calls that take turns, round by round; of one that fails, the error as text.

    Args:
        calls: functions that begin some work on the device and return what becomes of it.
        seconds: about how long all rounds may take.

    Returns:
        By name `Time`; the first calls, which warm up, are not among the rounds.
    """
    found: dict[str, Time | str] = {}
    once: dict[str, float] = {}
    for name, call in calls.items():
        try:
            jax.block_until_ready(call())
            start = time.perf_counter()
            jax.block_until_ready(call())
            once[name] = max(time.perf_counter() - start, 1e-7)
        except Exception as error:  # noqa: BLE001
            found[name] = reason(error)
    many = {
        name: min(max(round(ROUND_SECONDS / each), 1), MOST_CALLS) for name, each in once.items()
    }
    of_a_round = sum(many[name] * each for name, each in once.items())
    rounds = min(max(int(seconds / of_a_round), 3), 25) if once else 0
    taken: dict[str, list[float]] = {name: [] for name in once}
    for _, name in itertools.product(range(rounds), once):
        if name in found:
            continue
        try:
            start = time.perf_counter()
            for _ in range(many[name]):
                last = calls[name]()
            jax.block_until_ready(last)
            taken[name].append((time.perf_counter() - start) / many[name])
        except Exception as error:  # noqa: BLE001
            found[name] = reason(error)
    found |= {
        name: Time(statistics.median(each), min(each), rounds, many[name])
        for name, each in taken.items()
        if name not in found
    }
    return {name: found[name] for name in calls}


def in_turn(program: Callable, sets: Iterable[Sequence[Any]]) -> Callable[[], Any]:
    """Calls with one set of arguments after the other, so that no cache holds them all."""
    forever = itertools.cycle(list(sets))
    return lambda: program(*next(forever))


def carried(program: Callable, state: Any, *arguments: Any) -> Callable[[], Any]:
    """Calls ``(state, ...) -> (state, found)`` that go on with a state which is donated."""
    held = [state]

    def call() -> Any:
        held[0], found = program(held[0], *arguments)
        return found

    return call


@functools.cache
def memory_limit() -> int:
    """Bytes that programs may take on a device; without an answer, a quarter of the host's."""
    stats = analysis(jax.local_devices()[0].memory_stats) or {}
    if stats.get("bytes_limit"):
        return int(stats["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


def memory_peak() -> int | None:
    """The most bytes of the device that this process ever held."""
    stats = analysis(jax.local_devices()[0].memory_stats) or {}
    return stats.get("peak_bytes_in_use")


def fits(program: Program) -> bool:
    """Whether the compiler's count of bytes is below the limit; unknown counts as yes."""
    return program.needed_bytes is None or program.needed_bytes < 0.95 * memory_limit()
