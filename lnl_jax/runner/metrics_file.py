"""The file of a run's rows, and which rows of a study are in it already."""

import hashlib
import io
import json
import os
import pathlib
from typing import Any

from lnl_jax.runner.files import from_json, read_file, to_json, write_file
from lnl_jax.runner.outputs import Row
from lnl_jax.runner.usage import UsageError


class MetricsFile:
    """`metrics.jsonl`, which grows by a row at a time.

    After an interruption a study is run again, and yields rows that an earlier session has written.
    They are told by their number alone: the n-th row of a run is the n-th line of its file. So a
    row that comes while `count` is below the number of earlier rows is dropped, and where a study
    is spared some rows (those of a stage that has ended, those before the state from which it goes
    on), `count` is moved beyond them. A running digest tells rows that somebody changed.

    Attributes:
        earlier: the rows of earlier sessions.
        count: how many rows the study has yielded, or was spared, in this session.
        last: the last row of all, as JSON; None before the first.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._file: Any = None
        self._running, self._digests = hashlib.sha256(), [hashlib.sha256().hexdigest()]
        self.earlier: list[Row] = []
        self.count = 0
        self.last: Row | None = None

    @property
    def digest(self) -> str:
        """The SHA-256 of the rows until now, as they stand in the file."""
        return self._digests[self.count]

    def damage(self, rows: int, digest: str | None) -> str:
        """What is wrong with the first rows on disk; empty where they are those of the digest."""
        lines = _lines(self._path)[:rows]
        if len(lines) < rows or not all(line.endswith(b"\n") for line in lines):
            return f"{self._path} lacks rows that its checkpoint includes"
        # Older versions wrote none.
        if digest is not None and hashlib.sha256(b"".join(lines)).hexdigest() != digest:
            return f"{self._path} was changed: its first {rows} rows are not those of the run"
        return ""

    def open(self, keep: int) -> None:
        """Cuts the file after its first rows, and opens it for those that follow."""
        lines = _lines(self._path)
        if len(lines) > keep:
            write_file(self._path, b"".join(lines[:keep]))
        try:
            self.earlier = [from_json(json.loads(line)) for line in lines[:keep]]
        except ValueError as error:
            text = f"{self._path} is not JSON ({error}); --force starts over"
            raise UsageError(text) from None
        for line in lines[:keep]:
            self._count_in(line)
        self.last = to_json(self.earlier[-1]) if self.earlier else None
        # Unbuffered, so that a row is on disk before the next epoch starts; a link is no file.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        self._file = open(os.open(self._path, flags, 0o666), "ab", buffering=0)

    def _count_in(self, line: bytes) -> None:
        self._running.update(line)
        self._digests.append(self._running.hexdigest())

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
        line = json.dumps(self.last, allow_nan=False)
        _append_line(self._file, line)
        self._count_in(f"{line}\n".encode())
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


def _lines(path: pathlib.Path) -> list[bytes]:
    return read_file(path).splitlines(keepends=True) if os.path.lexists(path) else []


def _append_line(file: io.FileIO, line: str) -> None:
    data, end = f"{line}\n".encode(), os.fstat(file.fileno()).st_size
    try:
        while data:
            data = data[file.write(data) :]
    except OSError:
        file.truncate(end)  # no half row stays behind on a full disk
        raise
