"""The file of a run's rows, and which rows of a study are in it already."""

import io
import json
import os
import pathlib
from typing import Any

from lnl_jax.runner.files import from_json, to_json, write_file
from lnl_jax.runner.outputs import Row
from lnl_jax.runner.usage import UsageError


class MetricsFile:
    """`metrics.jsonl`, which grows by a row at a time.

    After an interruption a study is run again, and yields rows that an earlier session has written.
    They are told by their number alone: the n-th row of a run is the n-th line of its file. So a
    row that comes while `count` is below the number of earlier rows is dropped, and where a study
    is spared some rows (those of a stage that has ended, those before the state from which it goes
    on), `count` is moved beyond them.

    Attributes:
        earlier: the rows of earlier sessions.
        count: how many rows the study has yielded, or was spared, in this session.
        last: the last row of all, as JSON; None before the first.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._file: Any = None
        self.earlier: list[Row] = []
        self.count = 0
        self.last: Row | None = None

    def open(self, keep: int) -> None:
        """Cuts the file after its first rows, and opens it for those that follow."""
        self.earlier = _truncate_rows(self._path, keep)
        self.last = to_json(self.earlier[-1]) if self.earlier else None
        # Unbuffered, so that a row is on disk before the next epoch starts.
        self._file = open(self._path, "ab", buffering=0)

    def spare_the_rest(self) -> list[Row]:
        """Moves `count` to the end of the earlier rows, and returns those that it passed."""
        rows, self.count = self.earlier[self.count :], len(self.earlier)
        return rows

    def add(self, row: Row) -> Row | None:
        """Writes a row and returns it as it can be read back; None of one that is there already."""
        if self.count < len(self.earlier):
            self.count += 1
            return None
        self.last = to_json(row)
        _append_line(self._file, json.dumps(self.last, allow_nan=False))
        self.count += 1
        return from_json(self.last)

    def is_empty(self) -> bool:
        """Whether nothing is on disk."""
        return not self._path.exists() or not self._path.stat().st_size

    def close(self) -> None:
        """Ends writing."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _truncate_rows(path: pathlib.Path, count: int) -> list[Row]:
    """Keeps the first `count` lines of a file of rows, and returns them."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    kept = lines[:count]
    if len(kept) < count or (kept and not kept[-1].endswith(b"\n")):
        raise UsageError(f"{path} lacks rows that its checkpoint includes; --force starts over")
    if len(lines) > count:
        write_file(path, b"".join(kept))
    try:
        return [from_json(json.loads(line)) for line in kept]
    except ValueError as error:
        raise UsageError(f"{path} is not JSON ({error}); --force starts over") from None


def _append_line(file: io.FileIO, line: str) -> None:
    data, end = f"{line}\n".encode(), os.fstat(file.fileno()).st_size
    try:
        while data:
            data = data[file.write(data) :]
    except OSError:
        file.truncate(end)  # no half row stays behind on a full disk
        raise
