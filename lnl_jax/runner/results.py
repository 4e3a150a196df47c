"""One folder per run: what is in it, how it is written, and where an interrupted run goes on.

`config.json` is written first, `metrics.jsonl` grows by a row at a time, `summary.json` is written
last: where it exists, the run has finished. `files.py` says how NaN is written.
"""

import contextlib
import errno
import fcntl
import hashlib
import importlib.metadata
import io
import json
import math
import os
import pathlib
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from lnl_jax.runner.command_line import UsageError, as_text
from lnl_jax.runner.files import from_json, to_json, write_artifact, write_file, write_json
from lnl_jax.runner.interrupts import stoppable
from lnl_jax.runner.kept_stages import KeptStages
from lnl_jax.runner.outputs import Artifact, Checkpoint, Kept, Output, Resume, Row, Stage
from lnl_jax.train import checkpoint

# A save costs some 50 ms of processor time, as much as an epoch of a small study. States that come
# faster than this are kept in memory and saved when one is due or when the run stops.
SECONDS_BETWEEN_SAVES = 0.25

PACKAGES = ("jax", "jaxlib", "numpy", "optax", "flax", "orbax-checkpoint", "lnl-jax")
_OWN_FILES = ("config.json", "metrics.jsonl", "summary.json", "checkpoints", "stages")


def folder(results_dir: str, experiment: str, overrides: Mapping[str, Any]) -> pathlib.Path:
    """The folder of a run: `results_dir/experiment/`, then its overrides or a hash of them."""
    name = ",".join(f"{k}={as_text(v)}" for k, v in sorted(overrides.items())) or "default"
    if len(name) > 100 or "/" in name:
        name = hashlib.sha256(name.encode()).hexdigest()[:12]
    return pathlib.Path(results_dir) / experiment / name


@contextlib.contextmanager
def open_results(path: pathlib.Path, config: dict[str, Any], *, force: bool) -> Iterator["Results"]:
    """Opens the folder of one run for this process alone.

    While it is open, SIGINT and SIGTERM raise KeyboardInterrupt, though never within a write.

    Args:
      path: from `folder`.
      config: what is run; its `arguments` must be those of an earlier run in the same folder.
      force: delete what is there.

    Yields:
      The open folder.

    Raises:
      UsageError: if the folder belongs to another configuration or to a running process.
    """
    _make_folder(path)
    with stoppable() as undisturbed, _locked(path):
        if force:
            _clear(path)
        _record_config(path, to_json(config))
        results = Results(path, undisturbed)
        try:
            yield results
        finally:
            results.close()


class Results:
    """An open results folder.

    Attributes:
      path: the folder.
      summary: what `summary.json` holds; None while the run has not finished.
    """

    def __init__(self, path: pathlib.Path, undisturbed: Callable[[], Any]):
        self.path = path
        self._undisturbed = undisturbed
        self.summary = read_summary(path)
        self._tables: dict[str, list[Row]] = {}
        self._stages = KeptStages(path / "stages")
        # The rows of earlier sessions, and how many rows the study has yielded or was spared.
        self._rows: list[Row] = []
        self._count, self._last_row = 0, None
        self._stage_of_checkpoint: int | None = None
        self._metrics = self._manager = self._pending = None
        self._started, self._last_save = time.perf_counter(), -math.inf
        self._earlier_seconds = 0.0

    def start(self, *, resumable: bool) -> Resume:
        """Goes back to the last checkpoint or finished stage and opens the folder for writing.

        Args:
          resumable: whether the study itself can go on from a checkpoint. If not, it is run from
            its start, and only its stages are not.
        """
        saved = self._saved(resumable)
        self._tables, self._earlier_seconds = saved["tables"], saved["seconds"]
        self._rows = _truncate_rows(self.path / "metrics.jsonl", saved["rows"])
        self._count = len(self._rows) if resumable else 0
        self._last_row = to_json(self._rows[-1]) if self._rows else None
        # Unbuffered, so that a row is on disk before the next epoch starts.
        self._metrics = open(self.path / "metrics.jsonl", "ab", buffering=0)
        return Resume(self._rows, self._restore)

    def _saved(self, resumable: bool) -> dict[str, Any]:
        """What was written until the last point from which this session can go on."""
        saved = {"rows": 0, "seconds": 0.0, "tables": {}}
        saved = self._stages.last_metadata() or saved
        checkpoints = self.path / "checkpoints"
        if not checkpoints.exists():
            return saved
        found = checkpoint.latest_metadata(self._checkpoints()) or {}
        if found and (resumable or found.get("stage") == self._stages.count):
            self._stage_of_checkpoint = found.get("stage")
            return found
        # Nothing can go on from it: it belongs to a stage that has ended, or to no stage.
        self._manager.close()
        self._manager = None
        shutil.rmtree(checkpoints)
        return saved

    def write_all(self, outputs: Iterator[Output], show: Callable[[Row], None]) -> None:
        """Writes all that a study yields, shows its new rows, and answers where a stage asks."""
        # A study that has no stages may be any iterator.
        answer_to = getattr(outputs, "send", lambda answer: next(outputs))
        answer = None
        while True:
            try:
                output = answer_to(answer)
            except StopIteration:
                return
            answer = self.write(output)
            if isinstance(answer, dict):
                show(answer)
                answer = None

    def write(self, output: Output) -> Row | Kept | Resume | None:
        """Writes what a study yielded.

        Args:
          output: a row, an `Artifact`, a `Checkpoint`, or what `stages.stage` yields.

        Returns:
          A new row as it can be read back; the answer to a `Stage`; else None, also for a row that
          an earlier session wrote.
        """
        with self._undisturbed():
            match output:
                case Stage(name):
                    return self._ask(name)
                case Kept():
                    self._stages.keep(output, self._metadata())
                case Checkpoint(state):
                    self._offer(state)
                case Artifact(name, value):
                    self._write_artifact(name, value)
                case dict():
                    return self._write_row(output)
                case _:
                    raise TypeError(
                        "a study yields rows (dicts), Artifact(name, value), Checkpoint(state) and "
                        f"what stage(...) yields, not {type(output).__name__}."
                    )
        return None

    def _ask(self, name: str) -> Kept | Resume | None:
        number = self._stages.asked
        kept, metadata = self._stages.ask(name)
        if kept is not None:
            self._count = metadata["rows"]
            return kept
        if self._stage_of_checkpoint != number:
            return None
        rows = self._rows[self._count :]
        self._count = len(self._rows)
        return Resume(rows, self._restore)

    def finish(self) -> dict[str, Any]:
        """Waits for the last checkpoint, then writes and returns the summary."""
        with self._undisturbed():
            self.close()
            summary = {"last": self._last_row, "tables": self._tables, "seconds": self._seconds()}
            write_json(self.path / "summary.json", summary)
            self.summary = from_json(summary)
        return self.summary

    def discard_if_empty(self) -> None:
        """Removes a folder without a row or an artifact, such as that of a call refused at once."""
        self.close()
        names = {entry.name for entry in self.path.iterdir()} - {"config.json"}
        rows = self.path / "metrics.jsonl"
        if names <= {rows.name} and not (rows.exists() and rows.stat().st_size):
            shutil.rmtree(self.path)
            with contextlib.suppress(OSError):  # other runs are in it
                self.path.parent.rmdir()

    def close(self) -> None:
        """Saves the newest state that was yielded and waits until it is on disk."""
        metrics, self._metrics = self._metrics, None
        if metrics is not None:
            metrics.close()
        try:
            self._save_pending()
        finally:
            manager, self._manager = self._manager, None
            if manager is not None:
                with _full_disk_as_os_error():
                    manager.close()

    def _write_row(self, row: Row) -> Row | None:
        if self._count < len(self._rows):
            self._count += 1
            return None
        self._last_row = to_json(row)
        _append_line(self._metrics, json.dumps(self._last_row, allow_nan=False))
        self._count += 1
        return from_json(self._last_row)

    def _write_artifact(self, name: str, value: Any) -> None:
        if name in _OWN_FILES:
            raise ValueError(f"{name!r} cannot be the name of an artifact.")
        table = write_artifact(self.path, name, value)
        if table is not None:
            self._tables[name] = table

    def _seconds(self) -> float:
        """Of this session and of earlier ones up to the checkpoint that this one started from."""
        return self._earlier_seconds + time.perf_counter() - self._started

    def _checkpoints(self) -> Any:
        if self._manager is None:
            self._manager = checkpoint.open_checkpoints(self.path / "checkpoints")
        return self._manager

    def _restore(self, state: Any) -> Any:
        if not (self.path / "checkpoints").exists():
            return state
        try:
            restored = checkpoint.restore_latest(self._checkpoints(), state)
        except ValueError as error:
            words = "is not of this version of the experiment; --force starts over"
            raise UsageError(f"the checkpoint in {self.path} {words} ({error})") from error
        return state if restored is None else restored[1]

    def _offer(self, state: Any) -> None:
        due = time.perf_counter() - self._last_save >= SECONDS_BETWEEN_SAVES
        metadata = self._metadata() | {"stage": self._stages.running}
        # The study may donate or overwrite the arrays while they wait.
        self._pending = (state if due else _copy(state)), metadata
        if due:
            self._save_pending()
            self._last_save = time.perf_counter()

    def _metadata(self) -> dict[str, Any]:
        return {"rows": self._count, "seconds": self._seconds(), "tables": dict(self._tables)}

    def _save_pending(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            with _full_disk_as_os_error():
                manager = self._checkpoints()
                checkpoint.save(manager, (manager.latest_step() or 0) + 1, *pending)


def read_summary(path: pathlib.Path) -> dict[str, Any] | None:
    """The summary of a finished run, None of an unfinished one."""
    file = path / "summary.json"
    return from_json(_read_json(file)) if file.exists() else None


def _read_json(file: pathlib.Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except ValueError as error:
        raise UsageError(f"{file} is not JSON ({error}); --force starts over") from None
    if not isinstance(value, dict):
        raise UsageError(f"{file} is not what a run writes; --force starts over")
    return value


def _make_folder(path: pathlib.Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise UsageError(f"--results_dir: no folder can be made at {path} ({error})") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise UsageError(f"--results_dir: {path} may not be written to")


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UsageError(f"another process is writing {path}") from None
    finally:
        os.close(descriptor)


def _clear(path: pathlib.Path) -> None:
    for entry in path.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _record_config(path: pathlib.Path, config: dict[str, Any]) -> None:
    file = path / "config.json"
    if not file.exists():
        write_json(file, config | _environment())
        return
    earlier = _read_json(file)
    _check_same(path, earlier.get("arguments", {}), config["arguments"])
    if not (path / "summary.json").exists():
        session = {"argv": config["argv"]} | _environment()
        sessions = [*earlier.get("resumed", []), session]
        write_json(file, earlier | {"resumed": sessions})


def _check_same(path: pathlib.Path, earlier: dict[str, Any], present: dict[str, Any]) -> None:
    different = [
        f"{name} {as_text(earlier.get(name, 'absent'))} there and "
        f"{as_text(present.get(name, 'absent'))} here"
        for name in sorted({*earlier, *present})
        if earlier.get(name, "absent") != present.get(name, "absent")
    ]
    if different:
        raise UsageError(
            f"{path} holds another configuration: {'; '.join(different)}; --force starts over"
        )


def _environment() -> dict[str, Any]:
    versions = {package: _version(package) for package in PACKAGES}
    device = jax.devices()[0]
    return {
        "git": _git_version(),
        "versions": {"python": platform.python_version()} | versions,
        "device": {
            "kind": device.device_kind,
            "count": jax.device_count(),
            "platform": device.platform,
        },
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_version() -> str | None:
    command = ["git", "describe", "--always", "--dirty"]
    here = pathlib.Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


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


@contextlib.contextmanager
def _full_disk_as_os_error() -> Iterator[None]:
    """TensorStore reports a full disk as a ValueError."""
    try:
        yield
    except ValueError as error:
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def _copy(state: Any) -> Any:
    return jax.tree.map(lambda x: x.copy() if isinstance(x, jax.Array | np.ndarray) else x, state)
