"""What a run writes into its folder, and where it goes on after an interruption.

`config.json` is written first, `metrics.jsonl` grows by a row at a time, `summary.json` is written
last: where it exists, the run has finished. `files.py` says how NaN is written.

A run goes on from the last of these points: its start; a `Checkpoint` of a study that takes
`resume`; the end of a stage; a `Checkpoint` within the stage under way, which takes `resume`. With
each point stand the number of rows until then and their digest, the seconds and the tables. What
came after it is computed again, and so is what is damaged. A study either has stages or takes
`resume` itself.
"""

import contextlib
import errno
import os
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from lnl_jax.runner.files import TEMPORARY, from_json, remove, to_json, write_artifact, write_json
from lnl_jax.runner.interrupts import stoppable
from lnl_jax.runner.kept_stages import KeptStages
from lnl_jax.runner.metrics_file import MetricsFile
from lnl_jax.runner.outputs import Artifact, Checkpoint, Kept, Note, Output, Resume, Row, Stage
from lnl_jax.runner.profiling import FOLDER as PROFILE
from lnl_jax.runner.run_folder import clear, locked, make_folder, read_json, record_config
from lnl_jax.runner.saved_states import Every, SavedStates
from lnl_jax.runner.usage import UsageError

PAGE = "page.html"
_OWN_FILES = ("config.json", "metrics.jsonl", "summary.json", "checkpoints", "stages", PAGE)
_OWN_FILES += (PROFILE,)
_WITHOUT_SUMMARY = "without it the same command goes on from the last checkpoint"
_START = {"rows": 0, "seconds": 0.0, "tables": {}}


@contextlib.contextmanager
def open_results(
    path: pathlib.Path,
    config: dict[str, Any],
    *,
    force: bool,
    code: pathlib.Path = pathlib.Path(__file__).parent,  # noqa: B008
    every: Every = Every(),  # noqa: B008
) -> Iterator["Results"]:
    """Opens the folder of one run for this process alone.

    While it is open, SIGINT and SIGTERM raise KeyboardInterrupt, though never within a write.

    Args:
      path: from `run_folder.folder`.
      config: what is run; its `arguments` must be those of an earlier run in the same folder.
      force: delete what is there.
      code: a folder of the code that runs, whose version is written down.
      every: how often states are saved.

    Yields:
      The open folder.

    Raises:
      UsageError: if the folder belongs to another configuration or to a running process.
    """
    make_folder(path)
    with stoppable() as undisturbed, locked(path):
        with _own_files(path):
            clear(path) if force else _clear_temporary(path)
            record_config(path, to_json(config), code)
            results = Results(path, undisturbed, every)
        try:
            yield results
        finally:
            results.close()


@contextlib.contextmanager
def _own_files(path: pathlib.Path) -> Iterator[None]:
    """Where nothing runs but what the runner does with a folder: its errors are the user's."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UsageError(f"--results_dir: {path} cannot be used ({error})") from error


def _clear_temporary(path: pathlib.Path) -> None:
    """Deletes what a kill left in the middle of a write."""
    for file in path.glob(f".*{TEMPORARY}"):
        remove(file)


class Results:
    """An open results folder.

    Attributes:
      path: the folder.
      summary: what `summary.json` holds; None while the run has not finished.
    """

    def __init__(self, path: pathlib.Path, undisturbed: Callable[[], Any], every: Every):
        self.path = path
        self._undisturbed = undisturbed
        self.summary = read_summary(path)
        self._tables: dict[str, list[Row]] = {}
        self._rows = MetricsFile(path / "metrics.jsonl")
        self._stages = KeptStages(path / "stages")
        self._states = SavedStates(path / "checkpoints", every)
        # Whether the study itself takes `resume`, and the point from which this session goes on.
        self._resumable, self._point = False, dict(_START)
        self._started = time.perf_counter()

    def start(self, *, resumable: bool, say: Callable[[str], None] = print) -> Resume:
        """Goes back to the last checkpoint or finished stage and opens the folder for writing.

        Args:
          resumable: whether the study itself can go on from a checkpoint. If not, it is run from
            its start, and only its stages are not.
          say: is told what is damaged, and that there is something to go on from but no row yet.

        Raises:
          UsageError: if rows are not as they were written, and no checkpoint is of those before.
        """
        self._resumable = resumable
        with _own_files(self.path):
            self._point = self._last_point(say)
            self._tables = dict(self._point["tables"])
            self._rows.open(self._point["rows"])
        if resumable:
            self._rows.spare_the_rest()
        if self._point.keys() > _START.keys() and not self._rows.earlier:
            say("resuming before the first row, from what was kept")
        return Resume(self._rows.earlier, self._states.restore)

    def _last_point(self, say: Callable[[str], None]) -> dict[str, Any]:
        """What was written until the last point from which this session can go on."""
        if not self._resumable and (damage := self._stages.drop_damaged()):
            say(damage)
        stage = None if self._resumable else self._stages.count
        damaged_rows: list[str] = []

        def is_usable(saved: dict[str, Any]) -> str:
            if saved.get("stage") != stage:
                return ""  # none before it is of this stage either
            damage = self._rows.damage(saved["rows"], saved.get("digest"))
            damaged_rows.extend([damage] * bool(damage))
            return damage

        saved = self._states.choose(say, is_usable)
        if saved is not None and saved.get("stage") == stage:
            return saved
        ended = None if self._resumable else self._stages.last_metadata()
        point = ended or dict(_START)
        damage = self._rows.damage(point["rows"], point.get("digest"))
        if damage or damaged_rows:
            raise UsageError(f"{damage or damaged_rows[0]}; --force starts over")
        # Nothing can go on from them: they belong to a stage that has ended, or to no stage.
        self._states.drop()
        return point

    def write_all(
        self,
        outputs: Iterator[Output],
        show: Callable[[Row], None],
        say: Callable[[str], None] = print,
    ) -> None:
        """Writes all that a study yields, shows rows and notes, and answers where a stage asks."""
        write_each(outputs, self.write, show, say)

    def write(self, output: Output) -> Row | Kept | Resume | None:
        """Writes what a study yielded.

        Args:
          output: a row, an `Artifact`, a `Checkpoint`, or what `stages.stage` yields.

        Returns:
          A new row as it can be read back; the answer to a `Stage`; else None, also for a row that
          an earlier session wrote.
        """
        with self._undisturbed(), _own_files(self.path):
            match output:
                case Stage():
                    return self._ask(output)
                case Kept():
                    self._stages.keep(output, self._here())
                case Checkpoint(state, score):
                    self._offer(state, score)
                case Artifact(name, value):
                    self._write_artifact(name, value)
                case dict():
                    return self._rows.add(output)
                case _:
                    raise TypeError(
                        "a study yields rows (dicts), Artifact(name, value), Checkpoint(state) and "
                        f"what stage(...) yields, not {type(output).__name__}."
                    )
        return None

    def _ask(self, stage: Stage) -> Kept | Resume | None:
        """What an earlier session left of a stage: its result, a state within it, or nothing."""
        if self._resumable:
            raise TypeError(
                f"stage {stage.name!r} is of a study that takes resume; one with stages does not, "
                "its stages may."
            )
        number = self._stages.asked
        kept, metadata = self._stages.ask(stage)
        if kept is not None:
            self._rows.count = metadata["rows"]
            return kept
        if self._point.get("stage") != number:
            return None
        # What older versions wrote has no name.
        if not stage.resumable or self._point.get("stage_name", stage.name) != stage.name:
            raise UsageError(
                f"the checkpoint in {self.path} is not of the stage {stage.name!r}; "
                "--force starts over"
            )
        return Resume(self._rows.spare_the_rest(), self._states.restore)

    def _offer(self, state: Any, score: float | None) -> None:
        running = self._stages.running
        if not (running.resumable if running else self._resumable):
            of = f"stage {running.name!r}" if running else "a study"
            raise TypeError(f"{of} yields a Checkpoint, so it must take the keyword resume.")
        here = self._here()
        if running:
            here |= {"stage": self._stages.asked - 1, "stage_name": running.name}
        self._states.offer(state, here, score)

    def _here(self) -> dict[str, Any]:
        """The metadata of a point from which a later session may go on."""
        return {
            "rows": self._rows.count,
            "digest": self._rows.digest,
            "seconds": self._seconds(),
            "tables": dict(self._tables),
        }

    def _seconds(self) -> float:
        """Of this session and of earlier ones up to the point that this one started from."""
        return self._point["seconds"] + time.perf_counter() - self._started

    def _write_artifact(self, name: str, value: Any) -> None:
        if name in _OWN_FILES:
            raise ValueError(f"{name!r} cannot be the name of an artifact.")
        table = write_artifact(self.path, name, value)
        if table is not None:
            self._tables[name] = table

    def finish(self) -> dict[str, Any]:
        """Waits for the last checkpoint, then writes and returns the summary."""
        self._stages.check_all_were_asked()
        with self._undisturbed(), _own_files(self.path):
            self.close()
            summary = {"last": self._rows.last, "tables": self._tables, "seconds": self._seconds()}
            summary["rows"] = {"count": self._rows.count, "sha256": self._rows.digest}
            write_json(self.path / "summary.json", summary)
            self.summary = from_json(summary)
        return self.summary

    def discard_if_empty(self) -> None:
        """Removes a folder without a row or an artifact, such as that of a call refused at once."""
        self.close()
        names = {entry.name for entry in self.path.iterdir()} - {"config.json", "metrics.jsonl"}
        if not names and self._rows.is_empty():
            remove(self.path)
            with contextlib.suppress(OSError):  # other runs are in it
                self.path.parent.rmdir()

    def rows_were_changed(self) -> bool:
        """Whether the rows of a finished run are not those of its summary."""
        expected = (self.summary or {}).get("rows") or {}
        lines = self._rows.damage(expected.get("count", 0), expected.get("sha256"))
        return bool(lines)

    def close(self) -> None:
        """Saves the newest state that was yielded and waits until it is on disk."""
        self._rows.close()
        self._states.close()


def write_each(
    outputs: Iterator[Output],
    write: Callable[[Output], Row | Kept | Resume | None],
    show: Callable[[Row], None],
    say: Callable[[str], None],
) -> None:
    """Hands all that a study yields to `write`, and the answers to its stages back to it."""
    # A study that has no stages may be any iterator.
    answer_to = getattr(outputs, "send", lambda answer: next(outputs))
    answer = None
    while True:
        try:
            output = answer_to(answer)
        except StopIteration:
            return
        if isinstance(output, Note):
            say(output.text)
            answer = None
            continue
        answer = write(output)
        if isinstance(answer, dict):
            show(answer)
            answer = None


def read_summary(path: pathlib.Path) -> dict[str, Any] | None:
    """The summary of a finished run, None of an unfinished one."""
    file = path / "summary.json"
    if not os.path.lexists(file):
        return None
    summary = from_json(read_json(file, _WITHOUT_SUMMARY))
    if not {"last", "tables", "seconds"} <= summary.keys():
        raise UsageError(f"{file} is not what a run writes; {_WITHOUT_SUMMARY}")
    return summary
