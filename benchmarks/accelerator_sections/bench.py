"""What a section is given: its time, its sizes, the roofs, and where its rows go."""

import json
import time
from typing import Any, NamedTuple

from accelerator_sections import JAX
from accelerator_sections.record import Record, plain


class CannotRun(Exception):
    """Why a section, or one side of it, cannot run on this machine."""


class Bench:
    """One side of one section while it runs.

    Attributes:
        tiny: whether all sizes are the smallest ones, which check the script and measure nothing.
        data_dir: a folder with letter.npz or cifar10.npz, or None.
        spare: seconds that nobody after this section needs.
    """

    def __init__(
        self, record: Record, section: str, side: str, seconds: float, spare: float, options: Any
    ):
        self.record, self.section, self.of_side = record, section, side
        self.tiny, self.data_dir, self.spare = options.tiny, options.data_dir, spare
        self.left_out: list[str] = []
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until nothing more is to be begun."""
        return self._end - time.monotonic()

    def extend(self, seconds: float) -> None:
        """Takes some of `spare`."""
        self._end += seconds
        self.spare -= seconds

    def row(self, **values: Any) -> None:
        """Prints a row and writes it."""
        print(f"  {self.section} {json.dumps(plain(rounded(values)))}", flush=True)
        self.record.add(self.section, self.of_side, values)

    def note(self, **values: Any) -> None:
        """Something of the whole section."""
        self.record.put(self.section, self.of_side, **values)

    def leave_out(self, what: str) -> None:
        """What the time was too short for; the section counts as partial then."""
        self.left_out.append(what)
        self.note(left_out=self.left_out)

    def has_time(self, seconds: float, what: str, *, borrows: bool = False) -> bool:
        """Whether so much is left, or to be had from `spare`; else it is noted as left out."""
        if borrows and self.left() < seconds <= self.spare:
            self.extend(seconds)
        if self.left() >= seconds:
            return True
        self.leave_out(what)
        return False

    def roofs(self) -> "Roofs":
        """Those that section (a) measured on this machine."""
        found = {row["roof"]: row for row in self.record.rows("a", JAX) if "roof" in row}
        return Roofs(
            found.get("copy", {}).get("bytes_per_second"),
            {name: row["flops"] for name, row in found.items() if "flops" in row},
            found.get("dispatch", {}).get("seconds"),
        )


class Roofs(NamedTuple):
    """Measured limits of the device; None or no entry where section (a) has not run."""

    bytes_per_second: float | None
    flops: dict[str, float]
    dispatch_seconds: float | None

    def memory_share(self, num_bytes: float, seconds: float) -> float | None:
        """How much of the time the memory alone would need for these bytes."""
        if not self.bytes_per_second:
            return None
        return num_bytes / self.bytes_per_second / seconds

    def product_share(self, flops: float | None, seconds: float, dtype: str) -> float | None:
        """How much of the time a large product of this dtype would need for so many flops."""
        if not flops or dtype not in self.flops:
            return None
        return flops / self.flops[dtype] / seconds


def rounded(value: Any) -> Any:
    """Four digits, for a person's eyes."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def reason(error: BaseException) -> str:
    """One line of an error, with its kind."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300] if text else ''}"
