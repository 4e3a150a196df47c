"""What the device and the host did in some epochs of a run, as JAX's profiler writes it."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

FOLDER = "profile"


@contextlib.contextmanager
def traced(
    folder: pathlib.Path,
    epochs: int | None,
    *,
    at_once: bool = False,
    say: Callable[[str], None] = print,
) -> Iterator[Callable[[Mapping], None]]:
    """Traces the epochs after the first one that this session runs, in which programs compile.

    A row is an epoch, or with others of its number a part of one.

    Args:
        folder: of the run; the trace is written into `FOLDER` there, for TensorBoard, XProf or
            Perfetto.
        epochs: how many; None traces nothing.
        at_once: whether this session runs a single epoch: the trace is of all that it does.
        say: is told where no epoch came after the first one.

    Yields:
        A function that is to be called with each row.
    """
    numbers: list[Any] = []
    running = False

    def stop() -> None:
        nonlocal running
        if running:
            running = False
            jax.profiler.stop_trace()

    def begin(**more: Any) -> None:
        nonlocal running
        jax.profiler.start_trace(folder / FOLDER, **more)
        running = True

    def look(row: Mapping) -> None:
        if at_once or epochs is None or len(numbers) > epochs:
            return
        number = row.get("epoch", len(numbers))
        if numbers and number == numbers[-1]:
            return
        numbers.append(number)
        if len(numbers) == 1:
            begin()
        elif len(numbers) > epochs:
            stop()

    if at_once and epochs is not None:
        options = jax.profiler.ProfileOptions()
        # What Python calls while programs compile would be more than a hundred megabytes.
        options.python_tracer_level = 0
        begin(profiler_options=options)
    try:
        yield look
    finally:
        stop()
    if len(numbers) == 1:
        say("no epoch came after the first one, so that the trace holds none")
