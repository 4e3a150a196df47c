"""Stopping: between two writes, and where nobody reads any more."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], contextlib.AbstractContextManager]]:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt, but never in the middle of a write.

    Yields:
      A context for a write. A signal takes effect at its end; a second one at once.
    """
    asked = writing = False

    def stop(signum: int, frame: Any) -> None:
        nonlocal asked
        again, asked = asked, True
        if again or not writing:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def undisturbed() -> Iterator[None]:
        nonlocal writing
        writing = True
        try:
            yield
        finally:
            writing = False
        if asked:
            raise KeyboardInterrupt

    earlier = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield undisturbed
    finally:
        for each, handler in earlier.items():
            signal.signal(each, handler)


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
