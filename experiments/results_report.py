"""From results folders to one static HTML page: what is compared, and every run."""

import argparse
import csv
import difflib
import json
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from experiments.command_line import UsageError, as_text
from experiments.files import from_json, write_file
from experiments.outputs import Row
from experiments.page import MIME_TYPES, Html, element, escape, image, page, table
from experiments.report_curves import MAX_PANELS, columns_of, curves_svg

_OWN_FILES = ("config.json", "metrics.jsonl", "summary.json")


class Run(NamedTuple):
    """What a results folder holds.

    Attributes:
        path: the folder.
        config: of `config.json`; what older versions did not write is absent.
        rows: of `metrics.jsonl`; none where that was not kept.
        summary: of `summary.json`; None while the run has not finished.
    """

    path: pathlib.Path
    config: dict[str, Any]
    rows: list[Row]
    summary: dict[str, Any] | None

    @property
    def experiment(self) -> str:
        """Its name."""
        return str(self.config.get("experiment", self.path.parent.name))

    @property
    def overrides(self) -> dict[str, Any]:
        """What was given on the command line."""
        return self.config.get("overrides") or {}

    @property
    def title(self) -> str:
        """Its overrides as text."""
        return ", ".join(f"{k} {as_text(v)}" for k, v in self.overrides.items()) or "default"

    @property
    def last(self) -> Row:
        """The last row."""
        last = (self.summary or {}).get("last")
        return last or (self.rows[-1] if self.rows else {})


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
        data = report(runs).encode()
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


def find_runs(folders: Iterable[pathlib.Path]) -> list[Run]:
    """The runs in the folders and below them, in the order of their paths, each once.

    Raises:
        UsageError: if a folder is not there, or has no results.
    """
    found: dict[pathlib.Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
            names = [entry.name for entry in beside if entry.is_dir()]
            close = difflib.get_close_matches(folder.name, names, n=3)
            where = f"; did you mean {' or '.join(close)}?" if close else ""
            raise UsageError(f"there is no folder {folder}{where}")
        below = sorted(file.parent for file in folder.rglob("config.json"))
        if not below:
            raise UsageError(
                f"{folder} has no results: neither in it nor below it is there a config.json, "
                "which experiments/run.py writes into the folder of each run"
            )
        found |= dict.fromkeys(path.resolve() for path in below)
    return [_read(path) for path in found]


def _read(path: pathlib.Path) -> Run:
    rows, summary = [], None
    config = _json(path / "config.json")
    metrics = path / "metrics.jsonl"
    if metrics.exists():
        # A line without its end is still being written.
        lines = metrics.read_bytes().split(b"\n")[:-1]
        rows = [from_json(_parsed(metrics, line)) for line in lines]
    if (path / "summary.json").exists():
        summary = from_json(_json(path / "summary.json"))
    return Run(path, config, rows, summary)


def _json(file: pathlib.Path) -> dict[str, Any]:
    value = _parsed(file, file.read_bytes())
    if not isinstance(value, dict):
        raise UsageError(f"{file} is not what a run writes: it holds no JSON object")
    return value


def _parsed(file: pathlib.Path, text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"{file} is not JSON: {error}") from None


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
    """A line per run: what was overridden in any of them, and how each ended."""
    varied = list(dict.fromkeys(key for run in group for key in run.overrides))
    rows = []
    for run in group:
        arguments = run.config.get("arguments") or {}
        row: dict[str, Any] = {"run": _link(run, names)}
        for key in varied:
            row[f"--{key}"] = _argument(run.overrides.get(key, arguments.get(key)))
        rows.append(row | run.last)
    return element("h3", "Side by side") + table(rows)


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
    parts = [element("h3", escape(f"{run.experiment}: {run.title}"), id=name), _facts(run)]
    for title, rows in _tables(run).items():
        parts += [element("h4", escape(title)), table(rows)]
    if svg := curves_svg([run.rows], name):
        parts += [element("h4", "over the epochs"), element("figure", svg)]
        if left_out := columns_of(run.rows)[MAX_PANELS:]:
            words = f"not drawn: {', '.join(left_out)}"
            parts.append(element("p", escape(words), class_="note"))
    for file in _figures(run.path):
        parts += [element("h4", escape(file.stem)), image(file)]
    return element("section", "\n".join(parts)) + "\n"


def _facts(run: Run) -> str:
    config = run.config
    device = config.get("device") or {}
    versions = config.get("versions") or {}
    generated = config.get("generated_data")
    facts = {
        "experiment": run.experiment,
        "overrides": run.title,
        "command": " ".join(map(str, config.get("argv") or [])) or "not recorded",
        "git": config.get("git") or "not recorded",
        "device": f"{device.get('count')} × {device.get('kind')}" if device else "not recorded",
        "versions": ", ".join(f"{k} {v}" for k, v in versions.items() if v) or "not recorded",
        "generated data": {True: "yes, not real", False: "no"}.get(generated, "not recorded"),
        "finished": _finished(run),
        "folder": "/".join(run.path.parts[-2:]),
    }
    doubtful = {"generated data": bool(generated), "finished": run.summary is None}
    terms = [
        element("dt", escape(key))
        + element("dd", escape(value), **({"class_": "warn"} if doubtful.get(key) else {}))
        for key, value in facts.items()
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
            with open(file, newline="", encoding="utf-8") as opened:
                tables[file.stem] = [_numbers(row) for row in csv.DictReader(opened)]
    if not tables and run.last:
        tables["last row"] = [run.last]
    return tables


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
