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
    # A row that says what share of the run is done is as good as one with the number of an epoch.
    total = epochs or 1
    start = max((_place(row, total) or 0 for row in rows), default=0)
    show = _bar if console.is_terminal else _lines
    with show(console, name, epochs, start) as update:
        describe = _describer(total)

        def advance(row: Row) -> None:
            words = describe(row, time.perf_counter())
            update(_place(row, total), _named(row, epochs), words)

        yield advance


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


def _place(row: Row, total: int) -> float | None:
    """Where a row stands between 0 and `total`."""
    return row["done"] * total if "done" in row else row.get("epoch")


def _named(row: Row, epochs: int | None) -> str:
    """The place of a row in words; empty if it has none."""
    if "done" in row:
        return f"{row['done']:.0%}"
    if not row.get("epoch"):
        return ""
    return f"epoch {row['epoch']}" + (f"/{epochs}" if epochs else "")


def _describer(total: int) -> Callable[[Row, float], str]:
    """Makes a function that turns a row and the present time into the text beside the bar."""
    first: dict[str, float] = {}

    def describe(row: Row, now: float) -> str:
        place = _place(row, total) or 0
        unit = "run_steps" if "run_steps" in row else "examples"
        count = row.get(unit) or 0
        # The first epoch includes compilation, so speed counts from its end. The next method of a
        # study starts from epoch 1 again.
        if not first or place < first["place"] or count < first["count"]:
            first.update(time=now, place=place, count=count)
        elapsed = now - first["time"]
        # The most useful first: a narrow terminal cuts the end.
        words = []
        if total > place > first["place"]:
            left = elapsed / (place - first["place"]) * (total - place)
            words.append(f"{_clock(left)} left")
        words += [str(row["method"])] if "method" in row else []
        words += [f"{key} {number(row[key])}" for key in ("loss", "accuracy") if key in row]
        if count > first["count"] and elapsed > 0:
            speed = number((count - first["count"]) / elapsed)
            words.append(f"{speed} {unit.replace('_', '-')}/s")
        return "  ".join(words)

    return describe


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


@contextlib.contextmanager
def _bar(
    console: Console, name: str, epochs: int | None, start: int
) -> Iterator[Callable[[float | None, str, str], None]]:
    # Rich would drop the bar on a narrow terminal; this shortens it and cuts the words instead.
    length = 30 if console.width >= 110 else 10
    room = max(console.width - len(name) - length - 5, 0)
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(length, complete_style="cyan", finished_style="green"),
        TextColumn("{task.fields[words]}", markup=False),
    )

    with Progress(*columns, console=console, refresh_per_second=8) as shown:
        earlier = _named({"epoch": start} if epochs else {}, epochs)
        task = shown.add_task(name, total=epochs, completed=start, words=earlier[:room])
        reached = start

        def update(place: float | None, named: str, words: str) -> None:
            nonlocal reached
            reached = reached if place is None else place
            shown.update(task, completed=reached, words=f"{named}  {words}"[:room])

        yield update


@contextlib.contextmanager
def _lines(
    console: Console, name: str, epochs: int | None, start: int
) -> Iterator[Callable[[float | None, str, str], None]]:
    """One line for the first row and for every tenth of the run; of unknown length, every ten."""
    count, shown = 0, -1

    def update(place: float | None, named: str, words: str) -> None:
        nonlocal count, shown
        count += 1
        tenth = int(place * 10 / (epochs or 1)) if place and epochs else count // 10
        if count > 1 and tenth == shown:
            return
        shown = tenth
        console.print(f"{name}  {named or f'row {count}'}  {words}", soft_wrap=True)

    yield update
