"""What runs of one experiment are compared by: the same result of the same methods."""

from collections.abc import Sequence
from typing import Any

from lnl_jax.runner.outputs import Row
from lnl_jax.runner.saved_runs import Run


def headlines(runs: Sequence[Run]) -> tuple[str, list[dict[str, Any]]]:
    """The name of what runs are judged by, and the value of each method for each of them.

    That is the first column of numbers of the table `results`, or of the first one that there is:
    one in percent where there is such. Where the runs do not share it, it is the accuracy or loss
    of the last row of each method.
    """
    for of in (_of_tables, _of_rows):
        found = [of(run) for run in runs]
        if len({name for name, _ in found}) == 1:
            return found[0][0], [results for _, results in found]
    return "", [dict(run.last) for run in runs]


def _of_tables(run: Run) -> tuple[str, dict[str, Any]]:
    tables = (run.summary or {}).get("tables") or {}
    rows = tables.get("results") or next(iter(tables.values()), None)
    columns = [key for key, value in (rows or [{}])[0].items() if isinstance(value, float)]
    if not columns:
        return f"no table of {run.path}", {}
    name = next((key for key in columns if key.endswith("%")), columns[0])
    return name, {_label(row, name): _with_spread(row, name) for row in rows}


def _of_rows(run: Run) -> tuple[str, dict[str, Any]]:
    last = {str(row.get("method", "last row")): row for row in run.rows}
    for name in ("accuracy", "loss"):
        if found := {key: row[name] for key, row in last.items() if name in row}:
            return name, found
    return "", dict(run.last)


def _label(row: Row, until: str) -> str:
    """What a line of a table is about: what stands before its first result."""
    words = []
    for key, value in row.items():
        if key == until or isinstance(value, float):
            break
        words.append(str(value) if isinstance(value, str) else f"{key} {value}")
    return ", ".join(words) or until


def _with_spread(row: Row, name: str) -> Any:
    """A mean with the deviation that stands beside it."""
    keys = list(row)
    beside = keys[keys.index(name) + 1 :][:1] if name in row else []
    spread = row[beside[0]] if beside and beside[0].startswith("std") else None
    value = row.get(name)
    if not isinstance(value, float) or not isinstance(spread, float):
        return value
    return f"{value:.2f} ± {spread:.2f}"
