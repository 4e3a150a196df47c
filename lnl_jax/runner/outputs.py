"""What a study yields, and what it is handed to go on where an earlier run stopped.

A row is a dict of numbers and strings. The progress bar reads these keys, all optional: `epoch`
(from 1), `loss`, `accuracy`, `examples` (training examples seen so far in all) and `method` (a
string, where several rows share an epoch).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Row = dict[str, Any]


class Artifact(NamedTuple):
    """A result that is not a row; the runner writes it into the results folder.

    Attributes:
      name: the file name, without its ending unless the value is bytes.
      value: a matplotlib figure (becomes `name.png` and `name.svg`), a dict of arrays
        (`name.npz`), a table as a list of dicts (`name.csv`; also printed at the end and kept in
        `summary.json`), or bytes.
    """

    name: str
    value: Any


class Checkpoint(NamedTuple):
    """A pytree from which the experiment can go on; yield it after the rows it includes.

    Attributes:
      state: arrays, typed random keys and numbers in any containers.
    """

    state: Any


def _unchanged(state: Any) -> Any:
    return state


class Resume(NamedTuple):
    """What is already on disk; the default is a fresh start.

    Attributes:
      rows: the rows written before the saved state was yielded.
      restore: returns the last saved state in the form of the one it is given, or that one itself
        where nothing was saved.
    """

    rows: Sequence[Row] = ()
    restore: Callable[[Any], Any] = _unchanged


class Stage(NamedTuple):
    """Asks what is kept of a stage, of `stages.stage`: None, a `Kept`, or a `Resume` of its own."""

    name: str


class Kept(NamedTuple):
    """The result of a stage that has ended."""

    name: str
    result: Any


Output = Row | Artifact | Checkpoint | Stage | Kept
