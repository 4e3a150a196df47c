"""The studies: one function per experiment, one generator of overrides per sweep."""

from collections.abc import Callable, Iterator
from typing import Any

# name on the command line -> experiment: a keyword-only generator function.
EXPERIMENTS: dict[str, Callable[..., Iterator[Any]]] = {}

# name on the command line -> (name of the experiment, function that yields override dicts).
SWEEPS: dict[str, tuple[str, Callable[[], Iterator[dict[str, Any]]]]] = {}
