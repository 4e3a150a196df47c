"""The end of a process that a signal stops, from its first line on; needs nothing but Python."""

import contextlib
import os
import signal
import sys
import typing

SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = 128 + signal.SIGINT


def leave(words: str = "") -> typing.NoReturn:
    """Ends the process with the code of an interruption, and nothing after it runs.

    Args:
        words: a line that is written before.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if words:
        with contextlib.suppress(OSError):
            os.write(2, f"{words}\n".encode())
    os._exit(INTERRUPTED)


def end_at_a_signal() -> None:
    """Lets SIGINT and SIGTERM end the process with one line, until a run has its own way to stop.

    To be called before the imports of a program. An exception would go through half-made modules,
    and some of them swallow it.
    """
    for each in SIGNALS:
        signal.signal(each, lambda signum, frame: leave("interrupted"))
