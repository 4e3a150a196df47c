"""What the terminal shows: a progress bar, or sparse lines where there is none, and tables."""

import contextlib
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from lnl_jax.runner.compiling import watched
from lnl_jax.runner.outputs import Row

# Shorter compilations only flicker.
SECONDS_OF_COMPILING = 0.3


def make_console() -> Console:
    """A console on standard output; wide where that is a file of no known width."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200
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


def table(
    console: Console, title: str, rows: Sequence[Mapping[str, Any]], *, kept_in: str = ""
) -> None:
    """Prints rows as a table whose columns are their keys; a deviation stands beside its mean.

    Args:
        console: where to; the first columns that fit its width are shown.
        title: above the table.
        rows: of the table.
        kept_in: the file that has all columns.
    """
    columns = cells_of(rows)
    fitting, left_out = _fitting(columns, console.width)
    shown = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for column in fitting:
        is_text = any(isinstance(row.get(column), str) for row in rows)
        shown.add_column(column, justify="left" if is_text else "right", no_wrap=not left_out)
    for cells in zip(*(columns[column] for column in fitting), strict=True):
        shown.add_row(*cells)
    console.print(shown)
    if left_out:
        words = f"  not shown: {', '.join(left_out)}" + f"; see {kept_in}" * bool(kept_in)
        console.print(hanging(words, console.width), soft_wrap=True)


def hanging(text: str, width: int) -> str:
    """The text in lines of this width, those after the first one indented."""
    return textwrap.fill(text, width, subsequent_indent=" " * 6, break_long_words=False)


def cells_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The cells of each column; the deviation of a column joins it."""
    columns = dict.fromkeys(key for row in rows for key in row)
    found: dict[str, list[str]] = {}
    mean = None
    for column in columns:
        values = [row.get(column) for row in rows]
        if mean in found and (column == "std" or column.startswith("std of ")):
            found[mean] = [_with_spread(*of) for of in zip(found[mean], values, strict=True)]
        else:
            found[column], mean = [number(value) for value in values], column
    return found


def _with_spread(mean: str, spread: Any) -> str:
    """A mean with its deviation to as many decimals."""
    if not isinstance(spread, float) or not mean:
        return mean
    decimals = len(mean.partition(".")[2]) if "e" not in mean else -1
    return f"{mean} ± {number(spread) if decimals < 0 else f'{spread:.{decimals}f}'}"


def _fitting(columns: Mapping[str, Sequence[str]], width: int) -> tuple[list[str], list[str]]:
    """The first columns that fit a line, at least two, and the names of the others."""
    room, fitting, left_out = width - 1, [], []
    for column, cells in columns.items():
        # A cell has a space on either side and one between.
        room -= max(map(len, (column, *cells))) + 3
        # A column of text at the end is better folded than left out.
        (left_out if left_out or (room < 0 and len(fitting) > 1) else fitting).append(column)
    return fitting, left_out


def numbers(row: Mapping[str, Any] | None) -> str:
    """One line with the entries of the last row."""
    return "   ".join(f"{key} {number(value)}" for key, value in (row or {}).items())


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
    with watched() as seconds:
        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(length, complete_style="cyan", finished_style="green"),
            _Words(seconds, room),
        )
        with Progress(*columns, console=console, refresh_per_second=8) as shown:
            earlier = _named({"epoch": start} if epochs else {}, epochs)
            task = shown.add_task(name, total=epochs, completed=start, named=earlier, words="")
            reached = start

            def update(place: float | None, named: str, words: str) -> None:
                nonlocal reached
                reached = reached if place is None else place
                shown.update(task, completed=reached, named=named, words=words)

            yield update


class _Words(ProgressColumn):
    """What the last row said, or that the next program is being compiled."""

    def __init__(self, compiling: Callable[[], float], room: int):
        super().__init__()
        self._compiling, self._room = compiling, room

    def render(self, task: Task) -> Text:
        busy = self._compiling() > SECONDS_OF_COMPILING
        words = "compiling" if busy else task.fields["words"]
        entries = [*filter(None, (task.fields["named"], *words.split("  ")))]
        # Whole entries: half a number would be a wrong one.
        while len(text := "  ".join(entries)) > self._room:
            entries.pop()
        return Text(text)


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

    said = False

    def say() -> None:
        nonlocal said
        if not said:
            said = True
            console.print(f"{name}  compiling", soft_wrap=True)

    with watched(say):
        yield update
