"""The two commands of a folder of studies: running them, and a page of their results."""

import os
import pathlib
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lnl_jax._extras import MissingExtra, require

# name -> a keyword-only generator function
Experiments = Mapping[str, Callable[..., Iterator[Any]]]
# name -> (name of the experiment, function that yields dicts of arguments)
Sweeps = Mapping[str, tuple[str, Callable[[], Iterator[dict[str, Any]]]]]


def _is_measured(choice: Any) -> bool:
    """For studies none of whose data sets are generated."""
    del choice
    return False


def main(
    experiments: Experiments,
    sweeps: Sweeps | None = None,
    argv: Sequence[str] | None = None,
    *,
    is_generated: Callable[[Any], bool] = _is_measured,
) -> int:
    """Carries out a command line: ``--exp NAME``, ``--sweep NAME``, ``--list`` or ``--help``.

    A ``run.py`` of three lines makes this the command of a folder of studies:
    ``sys.exit(main({"my_study": my_study}))``. A run writes
    ``results/my_study/<what differs from the defaults>/``; the same command goes on with a run that
    was stopped, and shows one that has finished. What a study raises, other than `StudyError`,
    comes out of it with its traceback. Where a signal stopped the run, and the words are those of
    the process, it ends the process itself.

    Args:
        experiments: by name, keyword-only generator functions. They yield rows (dicts), `Artifact`,
            `Checkpoint` and what `stage` yields; their signature is their configuration. They are
            handed `resume` (a `Resume`) and `data_dir` where they have these keywords.
        sweeps: by name, an experiment's name and a function that yields dicts of its arguments.
        argv: the words of the command line; None takes those of the process.
        is_generated: of what was chosen from a dict of functions: whether it is a data set that
            nobody measured; a run on one says so.

    Returns:
        The exit code: 0, or 2 where the user erred, 130 where a signal stopped the run, 1 where
        something else did.

    Example:
        >>> import tempfile
        >>> def halving(*, epochs: int = 2):
        ...     for epoch in range(1, epochs + 1):
        ...         yield {"epoch": epoch, "loss": 0.5**epoch}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     words = ["--exp", "halving", "--epochs", "1", "--results_dir", folder]
        ...     code = main({"halving": halving}, argv=words)  # doctest: +ELLIPSIS
        /...
        halving  epoch 1/1  loss 0.5000
        epoch 1   loss 0.5000
        results: ...
        >>> code
        0
    """
    try:
        # Asked for before the first training, not when its figures are drawn.
        require("flax", "orbax", "matplotlib", "rich")
    except MissingExtra as error:
        return _refused(error)
    from lnl_jax.runner import hosts
    from lnl_jax.runner.interrupts import end_process, readers_may_leave
    from lnl_jax.runner.run import Studies, carry_out

    studies = Studies(experiments, sweeps or {}, is_generated, _program(argv))
    with readers_may_leave():
        if argv is not None:
            return carry_out(studies, list(argv))
        code = hosts.carried_out(lambda: carry_out(studies, sys.argv[1:]))
        return hosts.end_process(end_process(code))


def write_report(argv: Sequence[str] | None = None) -> int:
    """Carries out ``FOLDER... --out PAGE``: one HTML page of all runs below some folders.

    Args:
        argv: the words of the command line; None takes those of the process.

    Returns:
        The exit code: 0, or 2 where the user erred.

    Example:
        >>> write_report(["nowhere", "--out", "page.html"])
        2
    """
    try:
        require("flax", "matplotlib", "rich")
    except MissingExtra as error:
        return _refused(error)
    from lnl_jax.runner.interrupts import readers_may_leave
    from lnl_jax.runner.report import carry_out

    with readers_may_leave():
        return carry_out(sys.argv[1:] if argv is None else list(argv))


def _program(argv: Sequence[str] | None) -> str:
    """How the program is called, for help and for the command that a page gives."""
    if argv is not None:  # the words are not the process's, so its name is not theirs
        return "python run.py"
    path = pathlib.Path(sys.argv[0])
    return shlex.join(["python", os.path.relpath(path) if path.is_absolute() else str(path)])


def _refused(error: MissingExtra) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2
