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

    Example:
        >>> Artifact("results", [{"method": "ldr_kl", "accuracy %": 95.2}]).name
        'results'
    """

    name: str
    value: Any


class Checkpoint(NamedTuple):
    """A pytree from which the experiment can go on; yield it after the rows it includes.

    Attributes:
      state: arrays, typed random keys and numbers in any containers.
      score: how good it is, such as an accuracy on validation data; the best one is kept beside the
        last ones.

    Example:
        >>> Checkpoint({"weights": [1.0, 2.0]}).state["weights"]
        [1.0, 2.0]
    """

    state: Any
    score: float | None = None


def _unchanged(state: Any) -> Any:
    return state


class Resume(NamedTuple):
    """What is already on disk; the default is a fresh start.

    Attributes:
      rows: the rows written before the saved state was yielded.
      restore: returns the last saved state in the form of the one it is given, or that one itself
        where nothing was saved.

    Example:
        >>> def counting(*, epochs: int = 3, resume: Resume = Resume()):
        ...     total = resume.restore(0)
        ...     for epoch in range(len(resume.rows) + 1, epochs + 1):
        ...         total += epoch
        ...         yield {"epoch": epoch, "total": total}
        ...         yield Checkpoint(total)
        >>> [output["total"] for output in counting() if isinstance(output, dict)]
        [1, 3, 6]
    """

    rows: Sequence[Row] = ()
    restore: Callable[[Any], Any] = _unchanged


class Stage(NamedTuple):
    """Asks what is kept of a stage: None, a `Kept`, or a `Resume` of its own; of `stages.stage`.

    Attributes:
      name: of the stage.
      resumable: whether its function takes `resume`.
    """

    name: str
    resumable: bool = False


class Kept(NamedTuple):
    """The result of a stage that has ended.

    Attributes:
      name: of the stage.
      result: what its function returned.
    """

    name: str
    result: Any


class Note(NamedTuple):
    """A line for the one who watches; nothing is written of it.

    Attributes:
      text: the line.

    Example:
        >>> Note("about 1.2 GB on the device").text
        'about 1.2 GB on the device'
    """

    text: str


Output = Row | Artifact | Checkpoint | Stage | Kept | Note
