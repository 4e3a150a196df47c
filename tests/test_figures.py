"""A figure with a deviation on a page of results is one of the run that lies beside it."""

import csv
import json
import re

import numpy as np
import pytest

from tests.documentation import ROOT

FIGURE = re.compile(r"(-?\d+\.?\d*) ±\s(\d+\.?\d*)")
RESULTS = ROOT / "docs/results"
PAGES = sorted(p for p in RESULTS.glob("*/README.md") if FIGURE.search(p.read_text()))


def numbers(value):
    """All numbers of a JSON value or of the cells of a table."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from numbers(item)
    elif isinstance(value, str):
        for found in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", value):
            yield float(found)
    elif isinstance(value, int | float):
        yield float(value)


def recorded(folder):
    """The numbers of its tables and summaries, and the mean and deviation of lines over seeds."""
    found = []
    for file in folder.glob("*.json"):
        found += numbers(json.loads(file.read_text()))
    for file in [*folder.glob("*.csv"), *folder.glob("*.md")]:
        if file.name == "README.md":
            continue
        for line in csv.reader(file.read_text().splitlines()):
            found += numbers(line)
            if file.name == "seeds.csv" and line[2].replace(".", "").isdigit():
                seeds = np.float64(line[2:])
                found += [seeds.mean(), seeds.std(ddof=1)]
    return np.array([*found, *over_seeds(folder)])


def over_seeds(folder):
    """Mean and deviation of every cell of ``NAME_seed0.csv``, ``NAME_seed1.csv`` and so on."""
    groups = {}
    for file in sorted(folder.glob("*_seed[0-9]*.csv")):
        groups.setdefault(re.sub(r"_seed\d+$", "", file.stem), []).append(file)
    for files in groups.values():
        tables = [list(csv.reader(file.read_text().splitlines())) for file in files]
        for lines in zip(*tables, strict=True):
            for cells in zip(*lines, strict=True):
                if all(re.fullmatch(r"-?\d+\.?\d*(e-?\d+)?", cell) for cell in cells):
                    seeds = np.float64(cells)
                    yield from (seeds.mean(), seeds.std(ddof=1))


def rounded_to(found, text):
    """Whether a number of the run is written so, in percent or not."""
    unit = 10.0 ** -len(text.partition(".")[2])
    near = np.abs(np.concatenate([found, 100 * found]) - float(text)) <= 0.5001 * unit
    return near.any()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_figures_with_a_deviation_are_those_of_the_run(page):
    found = recorded(page.parent)
    for figure in FIGURE.finditer(page.read_text()):
        assert all(rounded_to(found, text) for text in figure.groups()), figure[0]


def test_the_table_of_the_readme_is_that_of_its_page():
    table = FIGURE.findall((ROOT / "README.md").read_text())
    assert table == FIGURE.findall((RESULTS / "ldr_digits/README.md").read_text())
