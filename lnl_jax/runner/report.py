"""From results folders to one static HTML page: what is compared, and every run."""

import argparse
import csv
import io
import json
import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from lnl_jax.runner.curves import MAX_PANELS, curves_svg, panels_of
from lnl_jax.runner.files import write_file
from lnl_jax.runner.outputs import Row
from lnl_jax.runner.page import MIME_TYPES, Html, element, escape, image, page, table
from lnl_jax.runner.progress import cells_of
from lnl_jax.runner.saved_runs import Run, find_runs, own_file
from lnl_jax.runner.side_by_side import headlines
from lnl_jax.runner.usage import UsageError, as_text


def carry_out(argv: Sequence[str]) -> int:
    """Carries out the command of `report.py`; returns the exit code."""
    try:
        options = _parse(argv)
        runs = find_runs(map(pathlib.Path, options.folders))
        out = pathlib.Path(options.out)
        if not out.parent.is_dir():
            raise UsageError(f"--out {out}: there is no folder {out.parent}")
        if out.is_dir():
            raise UsageError(f"--out {out} is a folder; give the name of a file, such as page.html")
        # A name may have bytes that are no characters.
        data = report(runs).encode(errors="backslashreplace")
        write_file(out, data)
    except UsageError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{out}: {len(runs)} run{'s' * (len(runs) > 1)}, {len(data) / 1e6:.1f} MB")
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise UsageError(message)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="python experiments/report.py",
        description="Puts tables, curves and figures of any runs into one HTML file.",
        allow_abbrev=False,
    )
    parser.add_argument("folders", metavar="FOLDER", nargs="+", help="of a run, or above runs")
    parser.add_argument("--out", metavar="FILE", required=True, help="the page, such as page.html")
    return parser.parse_args(argv)


def report(runs: Sequence[Run]) -> str:
    """The page: a part per experiment, its runs side by side, then a section per run."""
    experiments: dict[str, list[Run]] = {}
    for run in runs:
        experiments.setdefault(run.experiment, []).append(run)
    names = {id(run): f"run{index}" for index, run in enumerate(runs, 1)}
    body = _contents(experiments, names)
    for index, (experiment, group) in enumerate(experiments.items(), 1):
        body += element("h2", escape(experiment)) + "\n"
        if len(group) > 1:
            body += _side_by_side(group, names) + _over_seeds(group, f"seeds{index}")
        body += "".join(_section(run, names[id(run)]) for run in group)
    title = "Results: " + ", ".join(experiments)
    return page(title, body)


def _contents(experiments: dict[str, list[Run]], names: dict[int, str]) -> str:
    items = "".join(
        element("li", f"{escape(experiment)}: {_link(run, names)}")
        for experiment, group in experiments.items()
        for run in group
    )
    return element("nav", element("ul", items)) + "\n"


def _link(run: Run, names: dict[int, str]) -> Html:
    return Html(element("a", escape(run.title), href=f"#{names[id(run)]}"))


def _side_by_side(group: Sequence[Run], names: dict[int, str]) -> str:
    """A line per run: what was overridden in any of them, and its headline result by method."""
    varied = list(dict.fromkeys(key for run in group for key in run.overrides))
    what, found = headlines(group)
    rows = []
    for run, results in zip(group, found, strict=True):
        arguments = run.config.get("arguments") or {}
        row: dict[str, Any] = {"run": _link(run, names)}
        for key in varied:
            row[f"--{key}"] = _argument(run.overrides.get(key, arguments.get(key)))
        rows.append(row | results)
    title = f"Side by side: {what}" if what else "Side by side"
    return element("h3", escape(title)) + table(rows)


def _argument(value: Any) -> Any:
    """A number to be sorted by, anything else as it is written on the command line."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else as_text(value)


def _over_seeds(group: Sequence[Run], name: str) -> str:
    """Curves with bands, of runs that differ in nothing but their seed."""
    alike: dict[str, list[Run]] = {}
    for run in group:
        others = {k: as_text(v) for k, v in run.overrides.items() if k != "seed"}
        alike.setdefault(json.dumps(others, sort_keys=True), []).append(run)
    text = ""
    for index, runs in enumerate(alike.values(), 1):
        svg = curves_svg([run.rows for run in runs], f"{name}-{index}") if len(runs) > 1 else None
        if svg:
            others = {k: v for k, v in runs[0].overrides.items() if k != "seed"}
            title = ", ".join(f"{k} {as_text(v)}" for k, v in others.items()) or "default"
            words = f"{title}: mean ± standard deviation over {len(runs)} seeds"
            text += element("h3", escape(words)) + element("figure", svg)
    return text


def _section(run: Run, name: str) -> str:
    """All of one run."""
    parts = [element("h3", escape(f"{run.experiment}: {run.title}"), id=name), *_doubts(run)]
    for title, rows in _tables(run).items():
        parts += [element("h4", escape(title)), table(_with_spreads(rows))]
    if svg := curves_svg([run.rows], name):
        parts += [element("h4", "over the epochs"), element("figure", svg)]
        if left_out := panels_of([run.rows])[MAX_PANELS:]:
            words = f"not drawn: {', '.join(panel.title for panel in left_out)}"
            parts.append(element("p", escape(words), class_="note"))
    for file in _figures(run.path):
        parts += [element("h4", escape(file.stem)), image(file, own_file(file))]
    parts.append(element("details", element("summary", "how it was made") + _facts(run)))
    return element("section", "\n".join(parts)) + "\n"


def _with_spreads(rows: Sequence[Row]) -> list[Row]:
    """The rows with the deviation of a column beside its mean, as the terminal shows them."""
    columns = dict.fromkeys(key for row in rows for key in row)
    joined = cells_of(rows)
    return [
        {
            key: joined[key][at] if "±" in joined[key][at] else row.get(key)
            for key in columns
            if key in joined
        }
        for at, row in enumerate(rows)
    ]


def _doubts(run: Run) -> list[str]:
    """What must be known before the results are read."""
    doubts = ["generated data, not real"] * bool(run.config.get("generated_data"))
    doubts += ["not finished"] * (run.summary is None)
    return [element("p", doubt, class_="warn") for doubt in doubts]


def _command(run: Run) -> str:
    """The command that makes this run again, also where a sweep made it."""
    if "argv" not in run.config:
        return "not recorded"
    words = [*_split(run.config.get("program") or "python run.py"), "--exp", run.experiment]
    options = dict(run.overrides)
    if run.config.get("data_dir"):
        options["data_dir"] = run.config["data_dir"]
    for key, value in options.items():
        text = as_text(value)
        words += [f"--{key}={text}"] if text.startswith("-") else [f"--{key}", text]
    return shlex.join(words)


def _split(program: str) -> list[str]:
    try:
        return shlex.split(program)
    except ValueError:
        return [program]


def _facts(run: Run) -> str:
    config = run.config
    device = config.get("device") or {}
    versions = config.get("versions") or {}
    generated = config.get("generated_data")
    facts = {
        "experiment": run.experiment,
        "overrides": run.title,
        "command": _command(run),
        "git": config.get("git") or "not recorded",
        "device": f"{device.get('count')} × {device.get('kind')}" if device else "not recorded",
        "versions": ", ".join(f"{k} {v}" for k, v in versions.items() if v) or "not recorded",
        "generated data": {True: "yes, not real", False: "no"}.get(generated, "not recorded"),
        "finished": _finished(run),
        "folder": "/".join(run.path.parts[-2:]),
    }
    terms = [
        element("dt", escape(key)) + element("dd", escape(value)) for key, value in facts.items()
    ]
    return element("dl", "".join(terms))


def _finished(run: Run) -> str:
    if run.summary is None:
        return "no"
    seconds = run.summary.get("seconds")
    return "yes" if seconds is None else f"yes, after {seconds:,.1f} s"


def _tables(run: Run) -> dict[str, list[Row]]:
    """The tables of the summary, and the CSV files that are none of them."""
    tables = dict((run.summary or {}).get("tables") or {})
    for file in sorted(run.path.glob("*.csv")):
        if file.stem not in tables:
            tables[file.stem] = _rows_of(file)
    if not tables and run.last:
        tables["last row"] = [run.last]
    return tables


def _rows_of(file: pathlib.Path) -> list[Row]:
    """The lines of a CSV file."""
    try:
        text = own_file(file).decode()
        return [_numbers(row) for row in csv.DictReader(io.StringIO(text, newline=""))]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read as CSV ({error})") from None


def _numbers(row: dict[str, str]) -> dict[str, Any]:
    """A line of a CSV file with its numbers as numbers."""
    return {key: _number(value) for key, value in row.items() if key is not None}


def _number(text: str | None) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except (TypeError, ValueError):
            continue
    return text or None


def _figures(path: pathlib.Path) -> list[pathlib.Path]:
    """Each figure once, as SVG where it is there."""
    files: dict[str, pathlib.Path] = {}
    for ending in MIME_TYPES:
        for file in sorted(path.glob(f"*{ending}")):
            files.setdefault(file.stem, file)
    return [files[stem] for stem in sorted(files)]
