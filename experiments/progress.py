"""What the terminal shows: a progress bar, or sparse lines where there is none, and tables."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from experiments.outputs import Row


def make_console() -> Console:
    """A console on standard output; wide where that is a file, so that tables are not cut."""
    width = None if sys.stdout.isatty() else 200
    return Console(width=width, highlight=False, markup=False, emoji=False)


def number(value: Any) -> str:
    """A value as text; floats with four significant digits."""
    if not isinstance(value, float):
        return "" if value is None else str(value)
    text = f"{value:#.4g}".removesuffix(".")
    return f"{float(text):.0f}" if "e+" in text and abs(value) < 1e7 else text


@contextlib.contextmanager
def progress(
    console: Console, name: str, epochs: int | None, rows: Sequence[Row]
) -> Iterator[Callable[[Row], None]]:
    """Shows the progress of one run.

    Args:
      console: where to.
      name: of the experiment.
      epochs: how many there are in all, if known.
      rows: those of earlier sessions; the bar starts where they end.

    Yields:
      A function to call with every new row.
    """
    start = max((row.get("epoch") or 0 for row in rows), default=0)
    show = _bar if console.is_terminal else _lines
    with show(console, name, epochs, start) as update:
        describe = _describer(epochs)
        yield lambda row: update(row.get("epoch"), describe(row, time.perf_counter()))


def table(console: Console, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints rows as a table whose columns are their keys."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    shown = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for column in columns:
        is_text = any(isinstance(row.get(column), str) for row in rows)
        shown.add_column(column, justify="left" if is_text else "right")
    for row in rows:
        shown.add_row(*(number(row.get(column)) for column in columns))
    console.print(shown)


def numbers(row: Mapping[str, Any] | None, seconds: float) -> str:
    """One line with the entries of the last row and the time that the run took."""
    entries = [f"{key} {number(value)}" for key, value in (row or {}).items()]
    return "   ".join([*entries, f"{number(float(seconds))} s"])


def _describer(epochs: int | None) -> Callable[[Row, float], str]:
    """Makes a function that turns a row and the present time into the text beside the bar."""
    first: dict[str, float] = {}

    def describe(row: Row, now: float) -> str:
        epoch, examples = row.get("epoch") or 0, row.get("examples") or 0
        # The first epoch includes compilation, so speed counts from its end. The next method of a
        # study starts from epoch 1 again.
        if not first or epoch < first["epoch"] or examples < first["examples"]:
            first.update(time=now, epoch=epoch, examples=examples)
        elapsed = now - first["time"]
        # The most useful first: a narrow terminal cuts the end.
        words = []
        if epochs and epochs > epoch > first["epoch"]:
            left = elapsed / (epoch - first["epoch"]) * (epochs - epoch)
            words.append(f"{_clock(left)} left")
        words += [str(row["method"])] if "method" in row else []
        words += [f"{key} {number(row[key])}" for key in ("loss", "accuracy") if key in row]
        if examples > first["examples"] and elapsed > 0:
            words.append(f"{number((examples - first['examples']) / elapsed)} examples/s")
        return "  ".join(words)

    return describe


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


@contextlib.contextmanager
def _bar(
    console: Console, name: str, epochs: int | None, start: int
) -> Iterator[Callable[[int | None, str], None]]:
    # Rich would drop the bar on a narrow terminal; this shortens it and cuts the words instead.
    length = 30 if console.width >= 110 else 10
    room = max(console.width - len(name) - length - 5, 0)
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(length, complete_style="cyan", finished_style="green"),
        TextColumn("{task.fields[words]}", markup=False),
    )

    def text(epoch: int, words: str) -> str:
        place = f"epoch {epoch}/{epochs}" if epochs else f"epoch {epoch}"
        return f"{place}  {words}"[:room]

    with Progress(*columns, console=console, refresh_per_second=8) as shown:
        task = shown.add_task(name, total=epochs, completed=start, words=text(start, ""))
        reached = start

        def update(epoch: int | None, words: str) -> None:
            nonlocal reached
            reached = reached if epoch is None else epoch
            shown.update(task, completed=reached, words=text(reached, words))

        yield update


@contextlib.contextmanager
def _lines(
    console: Console, name: str, epochs: int | None, start: int
) -> Iterator[Callable[[int | None, str], None]]:
    """One line for the first epoch and for every tenth of them; without epochs, every ten rows."""
    count, shown = 0, -1

    def update(epoch: int | None, words: str) -> None:
        nonlocal count, shown
        count += 1
        tenth = epoch * 10 // epochs if epoch and epochs else count // 10
        if count > 1 and tenth == shown:
            return
        shown = tenth
        place = f"epoch {epoch}" + (f"/{epochs}" if epochs else "") if epoch else f"row {count}"
        console.print(f"{name}  {place}  {words}", soft_wrap=True)

    yield update
