"""The JSON of a benchmark that may be stopped at any time and started again."""

import json
import os
import pathlib
import tempfile
from typing import Any

# States of one side of a section. The first three are done again by the next start.
RUNNING, INTERRUPTED, OUT_OF_BUDGET = "running", "interrupted", "out of budget"
COMPLETE, PARTIAL, FAILED, NOT_RUN = "complete", "partial", "failed", "not run"


class Record:
    """Sections by letter and side in one file, which is whole at any time.

    One process writes at a time: the one that measures, or the one that waits for it.
    """

    def __init__(self, file: pathlib.Path):
        self.file = file
        self.data: dict[str, Any] = {"sections": {}}
        self.read()

    def read(self) -> None:
        """What is on disk, where there is something."""
        if self.file.exists():
            self.data = json.loads(self.file.read_text(encoding="utf-8"))

    def write(self) -> None:
        """Replaces the file in one step."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.file.parent, prefix=".writing-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(plain(self.data), indent=1, allow_nan=False) + "\n")
        os.chmod(name, 0o644)
        os.replace(name, self.file)

    def side(self, section: str, side: str) -> dict[str, Any]:
        """What is known of one side of a section; empty before it began."""
        return self.data["sections"].get(section, {}).get(side, {})

    def put(self, section: str, side: str, **values: Any) -> None:
        """Adds to it and writes."""
        of_section = self.data["sections"].setdefault(section, {})
        of_section.setdefault(side, {}).update(values)
        self.write()

    def begin(self, section: str, side: str, **values: Any) -> None:
        """Forgets what an earlier start left of this side."""
        self.data["sections"].setdefault(section, {})[side] = {}
        self.put(section, side, state=RUNNING, rows=[], **values)

    def add(self, section: str, side: str, row: dict[str, Any]) -> None:
        """A further row of the section, on disk when this returns."""
        self.side(section, side)["rows"].append(row)
        self.write()

    def rows(self, section: str, side: str) -> list[dict[str, Any]]:
        """The rows so far."""
        return self.side(section, side).get("rows", [])

    def forget_running(self) -> None:
        """What an earlier start was at when it was stopped is at nothing now."""
        for section, of_section in self.data["sections"].items():
            for side, found in of_section.items():
                if found.get("state") == RUNNING:
                    self.put(section, side, state=INTERRUPTED)

    def is_done(self, section: str, side: str) -> bool:
        """Whether the next start leaves it as it is."""
        return self.side(section, side).get("state") in (COMPLETE, PARTIAL, FAILED, NOT_RUN)


def plain(value: Any) -> Any:
    """Numbers that JSON has: those that are not finite become text, those of NumPy Python's."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not (value - value == 0):
        return str(value)
    return value
