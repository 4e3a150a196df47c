"""Vocabularies in files, which the package tokenizers reads."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def refused(file: Path, *, what: str, repair: str) -> Iterator[None]:
    """Makes a ValueError of what the package says of a file, and of where it stops in the middle.

    Args:
        file: that is read, or was.
        what: it should be.
        repair: what to do.

    Yields:
        Nothing.
    """
    try:
        yield
    # The package raises nothing narrower, and a panic of its language is no Exception.
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{file} is not {what} ({reason}); {repair}") from None
