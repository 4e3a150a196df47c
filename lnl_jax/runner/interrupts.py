"""Stopping: between two writes, before anything runs, and where nobody reads any more."""

import _thread
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from lnl_jax._signals import INTERRUPTED, SIGNALS, leave

# Of two signals nearer than this the second one is an echo: of a terminal that sends it to a group,
# of a scheduler that sends SIGTERM to all and then to each.
SECONDS_OF_ONE_STOP = 1.0


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], contextlib.AbstractContextManager]]:
    """Turns SIGINT and SIGTERM into one KeyboardInterrupt, but never in the middle of a write.

    What follows it, saving the last state, is not interrupted again. A signal that comes a second
    or more after it ends the process at once: what is on disk is whole at any time.

    Yields:
      A context for a write. A signal takes effect at its end.
    """
    asked: float | None = None
    writing = told = ended = repeated = False

    def stop(signum: int, frame: Any) -> None:
        nonlocal asked, told, repeated
        once_more, repeated = repeated, False
        if asked is None:
            asked = time.monotonic()
        elif not once_more and time.monotonic() - asked >= SECONDS_OF_ONE_STOP:
            leave("stopped at once; the same command goes on from the last checkpoint")
        if not writing and not told:
            told = True
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def undisturbed() -> Iterator[None]:
        nonlocal writing, told
        outer, writing = writing, True
        try:
            yield
        finally:
            writing = outer
        if asked is not None and not writing:
            told = True
            raise KeyboardInterrupt

    def again() -> None:
        nonlocal repeated
        time.sleep(0.05)
        if not ended:
            repeated = True
            _thread.interrupt_main()

    def ignored(unraisable: Any) -> None:
        """Python drops what is raised in a callback of its garbage collector, of which JAX has one.

        So the signal comes once more, from a thread, a moment later and then elsewhere.
        """
        nonlocal told
        if unraisable.exc_type is KeyboardInterrupt and told:
            told = False
            _thread.start_new_thread(again, ())
        else:
            earlier_hook(unraisable)

    earlier = {each: signal.signal(each, stop) for each in SIGNALS}
    earlier_hook, sys.unraisablehook = sys.unraisablehook, ignored
    try:
        yield undisturbed
    finally:
        sys.unraisablehook = earlier_hook
        ended = True
        for each, handler in earlier.items():
            signal.signal(each, handler)


def end_process(code: int) -> int:
    """Ends the process where a signal stopped it; returns the code otherwise.

    What is left to do then is to take down threads of XLA, some of which may be compiling: that
    crashes. All files are closed by now.
    """
    if code == INTERRUPTED:
        leave()
    return code


@contextlib.contextmanager
def readers_may_leave() -> Iterator[None]:
    """Ends quietly where standard output is a pipe that nobody reads any more: ``| head``."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still in the buffer has to go somewhere when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
