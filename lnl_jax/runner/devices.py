"""Over how many devices a run is spread: `--devices`."""

import contextlib
from collections.abc import Callable, Iterator

from lnl_jax import train
from lnl_jax.runner.arguments import StudyError


@contextlib.contextmanager
def over_devices(count: int | None, say: Callable[[str], object]) -> Iterator[None]:
    """`train.over_devices` around a study, whose errors become the study's: one line.

    Args:
        count: how many; None takes all where that is of use.
        say: is told what is split, a line each.

    Yields:
        Nothing.

    Raises:
        StudyError: if there are fewer devices, or a batch does not split over them.

    Example:
        >>> with over_devices(1, print):
        ...     train.lanes_mesh(5).size
        1
    """
    try:
        with train.over_devices(count, say=say):
            yield
    except train.DevicesError as error:
        raise StudyError(str(error)) from error
