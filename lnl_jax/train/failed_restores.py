"""What a failed restore of Orbax leaves half done complains where nobody can catch it."""

import inspect
from collections.abc import Callable
from typing import Any


class _WithoutLeftovers:
    """See `without_leftovers`."""

    def __init__(self, earlier: Callable[[Any], object]):
        self._earlier = earlier

    def __call__(self, unraisable: Any) -> None:
        dropped, error = unraisable.object, unraisable.exc_value
        of_orbax = inspect.iscoroutine(dropped) and "orbax" in dropped.cr_code.co_filename
        late = isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
        if not (of_orbax or late):
            self._earlier(unraisable)


def without_leftovers(hook: Callable[[Any], object]) -> Callable[[Any], object]:
    """A hook for what Python cannot raise that passes over what a failed restore leaves.

    Readers of Orbax that were half-way are dropped, and threads of TensorStore that end their reads
    later, whenever that is, still call the event loop that was closed. So the hook stays in place.

    Args:
        hook: takes everything else; where it is such a hook already, it is returned.
    """
    return hook if isinstance(hook, _WithoutLeftovers) else _WithoutLeftovers(hook)
