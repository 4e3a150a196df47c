"""Runs as their results folders hold them."""

import difflib
import os
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from lnl_jax._files import parse_json, read_bytes
from lnl_jax.runner.files import from_json
from lnl_jax.runner.outputs import Row
from lnl_jax.runner.saved_values import check_config, check_row, check_summary, check_values
from lnl_jax.runner.usage import UsageError, as_text


class Run(NamedTuple):
    """What a results folder holds.

    Attributes:
        path: the folder.
        config: of `config.json`; what older versions did not write is absent.
        rows: of `metrics.jsonl`; none where that was not kept.
        summary: of `summary.json`; None while the run has not finished.
    """

    path: pathlib.Path
    config: dict[str, Any]
    rows: list[Row]
    summary: dict[str, Any] | None

    @property
    def experiment(self) -> str:
        """Its name."""
        return str(self.config.get("experiment", self.path.parent.name))

    @property
    def overrides(self) -> dict[str, Any]:
        """What was given on the command line."""
        return self.config.get("overrides") or {}

    @property
    def title(self) -> str:
        """Its overrides as text."""
        return ", ".join(f"{k} {as_text(v)}" for k, v in self.overrides.items()) or "default"

    @property
    def last(self) -> Row:
        """The last row."""
        last = (self.summary or {}).get("last")
        return last or (self.rows[-1] if self.rows else {})


def find_runs(folders: Iterable[pathlib.Path]) -> list[Run]:
    """The runs in the folders and below them, in the order of their paths, each once.

    Raises:
        UsageError: if a folder is not there, or has no results.
    """
    found: dict[pathlib.Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
            names = [entry.name for entry in beside if entry.is_dir()]
            close = difflib.get_close_matches(folder.name, names, n=3)
            where = f"; did you mean {' or '.join(close)}?" if close else ""
            raise UsageError(f"there is no folder {folder}{where}")
        below = sorted(file.parent for file in folder.rglob("config.json"))
        if not below:
            raise UsageError(
                f"{folder} has no results: neither in it nor below it is there a config.json, "
                "which a run writes into its folder"
            )
        found |= dict.fromkeys(path.resolve() for path in below)
    return [_read(path) for path in found]


def _read(path: pathlib.Path) -> Run:
    rows, summary = [], None
    config = _values(path / "config.json", own_file(path / "config.json"))
    check_config(path / "config.json", config)
    metrics = path / "metrics.jsonl"
    if os.path.lexists(metrics):
        # A line without its end is still being written.
        lines = own_file(metrics).split(b"\n")[:-1]
        rows = [from_json(_values(metrics, line)) for line in lines]
        for number, row in enumerate(rows, 1):
            check_row(metrics, number, row)
    if os.path.lexists(path / "summary.json"):
        summary = from_json(_values(path / "summary.json", own_file(path / "summary.json")))
        check_summary(path / "summary.json", summary)
    return Run(path, config, rows, summary)


def own_file(file: pathlib.Path) -> bytes:
    """The bytes of a file of a run: no link, which may lead to anything, pipe or device.

    Raises:
        UsageError: if it is none, or cannot be read; names it.
    """
    if file.is_symlink():
        raise UsageError(f"{file} is a link, which is not followed; put the file there")
    try:
        return read_bytes(file)
    except (OSError, ValueError) as error:
        reason = (
            f"{file} cannot be read ({error.strerror})" if isinstance(error, OSError) else error
        )
        raise UsageError(str(reason)) from None


def _values(file: pathlib.Path, text: bytes) -> Any:
    try:
        values = parse_json(text)
    except ValueError as error:
        raise UsageError(f"{file} is not JSON: {error}") from None
    check_values(file, values)
    return values
