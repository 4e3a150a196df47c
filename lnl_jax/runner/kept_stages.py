"""The folder of a run's finished stages: one file for each, in the order in which they ran.

A file begins with the digest of what follows it.
"""

import hashlib
import json
import pathlib
import re
from typing import Any

from lnl_jax.runner.files import read_file, remove, write_file
from lnl_jax.runner.outputs import Kept, Stage
from lnl_jax.runner.usage import UsageError

_ENDING = ".msgpack"


class KeptStages:
    """Finished stages on disk, and how far this session has come among them.

    A stage is known by its number, the order in which a study comes to its stages, and its name has
    to be the same as before.

    Attributes:
        asked: how many stages the study has come to in this session.
        running: the one that is being computed, None between two stages.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        self.asked = 0
        self.running: Stage | None = None
        self._names: set[str] = set()

    @property
    def count(self) -> int:
        """How many stages have ended, the first ones."""
        count = 0
        while self._file(count) is not None:
            count += 1
        return count

    def drop_damaged(self) -> str:
        """Deletes the first stage that is damaged and those after it: they are computed again.

        Returns:
            What was wrong with it, in a line; empty where all are whole.
        """
        files = sorted(self._path.glob(f"*{_ENDING}"))
        for number, file in enumerate(files):
            if self._file(number) != file:
                damage = f"{self._path} lacks its stage {number:03d}"
            elif _payload(file) is None:
                damage = f"{file} is damaged"
            else:
                continue
            for later in files[number:]:
                remove(later)
            return f"{damage}; that stage and those after it are computed again"
        return ""

    def last_metadata(self) -> dict[str, Any] | None:
        """What was kept beside the result of the last one; None where none has ended.

        Raises:
            UsageError: if it cannot be read.
        """
        count = self.count
        return self._read(count - 1)["metadata"] if count else None

    def ask(self, stage: Stage) -> tuple[Kept, dict[str, Any]] | tuple[None, None]:
        """The result of a stage and the metadata beside it, or that it has not ended.

        Raises:
            RuntimeError: if the run has had a stage of this name, or is in the middle of one.
            UsageError: if another stage stands in its place.
        """
        name = stage.name
        if name in self._names:
            raise RuntimeError(f"two stages are called {name!r}; a name belongs to one stage.")
        if self.running is not None:
            raise RuntimeError(f"stage {name!r} began within another one; let it follow.")
        number, self.asked = self.asked, self.asked + 1
        self._names.add(name)
        if self._file(number) is None:
            self.running = stage
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
        file = self._path / f"{self.asked - 1:03d}_{words[:60]}{_ENDING}"
        payload = serialization.msgpack_serialize(written)
        write_file(file, _digest(payload) + payload)
        self.running = None

    def check_all_were_asked(self) -> None:
        """Raises UsageError where there are results that the study of today did not ask for."""
        if self.asked < self.count:
            raise UsageError(
                f"{self._file(self.asked)} is of a stage that this run has not; --force starts over"
            )

    def _file(self, number: int) -> pathlib.Path | None:
        return next(iter(self._path.glob(f"{number:03d}_*{_ENDING}")), None)

    def _read(self, number: int) -> dict[str, Any]:
        from flax import serialization

        file = self._file(number)
        try:
            found = serialization.msgpack_restore(_payload(file))
            return found | {"metadata": json.loads(found["metadata"])}
        # The reader has errors of its own, and whatever its parts raise.
        except Exception as error:
            raise UsageError(f"{file} cannot be read ({error}); --force starts over") from error


def _digest(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()


def _payload(file: pathlib.Path) -> bytes | None:
    """What a file holds behind its digest; None where it is another one's."""
    try:
        data = read_file(file)
    except OSError:
        return None
    size = hashlib.sha256().digest_size
    return data[size:] if _digest(data[size:]) == data[:size] else None
