"""The folder of a run's finished stages: one file for each, in the order in which they ran."""

import json
import pathlib
import re
from typing import Any

from lnl_jax.runner.command_line import UsageError
from lnl_jax.runner.files import write_file
from lnl_jax.runner.outputs import Kept


class KeptStages:
    """Finished stages on disk, and how far this session has come among them.

    Attributes:
        asked: how many stages the study has come to in this session.
        running: the number of the one that is being computed, None between two stages.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        self.asked = 0
        self.running: int | None = None
        self._names: set[str] = set()

    @property
    def count(self) -> int:
        """How many stages have ended, the first ones."""
        count = 0
        while self._file(count) is not None:
            count += 1
        return count

    def last_metadata(self) -> dict[str, Any] | None:
        """What was kept beside the result of the last one; None where none has ended."""
        return self._read(self.count - 1)["metadata"] if self.count else None

    def ask(self, name: str) -> tuple[Kept, dict[str, Any]] | tuple[None, None]:
        """The result of a stage and the metadata beside it, or that it has not ended.

        Raises:
            RuntimeError: if the run has had a stage of this name, or is in the middle of one.
            UsageError: if another stage stands in its place.
        """
        if name in self._names:
            raise RuntimeError(f"two stages are called {name!r}; a name belongs to one stage.")
        if self.running is not None:
            raise RuntimeError(f"stage {name!r} began within another one; let it follow.")
        number, self.asked = self.asked, self.asked + 1
        self._names.add(name)
        if self._file(number) is None:
            self.running = number
            return None, None
        found = self._read(number)
        if found["name"] != name:
            raise UsageError(
                f"{self._file(number)} is of the stage {found['name']!r}, where this run has "
                f"{name!r}; --force starts over"
            )
        return Kept(name, found["result"]), found["metadata"]

    def keep(self, kept: Kept, metadata: dict[str, Any]) -> None:
        """Writes the result of the stage that was asked for last."""
        from flax import serialization

        self._path.mkdir(exist_ok=True)
        written = {"name": kept.name, "metadata": json.dumps(metadata), "result": kept.result}
        words = re.sub(r"[^A-Za-z0-9]+", "_", kept.name).strip("_")
        file = self._path / f"{self.asked - 1:03d}_{words[:60]}.msgpack"
        write_file(file, serialization.msgpack_serialize(written))
        self.running = None

    def _file(self, number: int) -> pathlib.Path | None:
        return next(iter(self._path.glob(f"{number:03d}_*.msgpack")), None)

    def _read(self, number: int) -> dict[str, Any]:
        from flax import serialization

        found = serialization.msgpack_restore(self._file(number).read_bytes())
        return found | {"metadata": json.loads(found["metadata"])}
