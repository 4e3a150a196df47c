"""The parts of a static HTML page that asks for nothing outside itself: tables, figures, frame."""

import base64
import html
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lnl_jax.runner.files import to_json
from lnl_jax.runner.progress import number

MIME_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
_WITH_SPREAD = re.compile(r"-?[\d.e+-]+ ± ")
MAX_ROWS = 1_000  # of a table; browsers, and readers, take no more

# What is sorted is the number a cell starts with, so that "79.43 ± 0.32" is one; cells without one
# come last, in either direction. A second click turns the order round.
_SCRIPT = """
function key(row, column) {
  const cell = row.cells[column];
  const text = (cell ? cell.dataset.value ?? cell.textContent : "").trim();
  return {text, number: parseFloat(text)};
}
function sort(header) {
  const body = header.closest("table").tBodies[0];
  const column = header.cellIndex;
  const up = header.getAttribute("aria-sort") !== "ascending";
  const rows = Array.from(body.rows, row => ({row, ...key(row, column)}));
  const filled = rows.filter(r => r.text !== "");
  const numeric = filled.filter(r => !isNaN(r.number)).length * 2 >= filled.length;
  const missing = r => numeric ? isNaN(r.number) : r.text === "";
  rows.sort((a, b) => missing(a) - missing(b) || (missing(a) ? 0 : (up ? 1 : -1) *
    (numeric ? a.number - b.number : a.text.localeCompare(b.text))));
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
  body.append(...rows.map(r => r.row));
}
for (const header of document.querySelectorAll("thead th")) {
  header.tabIndex = 0;
  header.addEventListener("click", () => sort(header));
  header.addEventListener("keydown", event => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(header); }
  });
}
document.documentElement.classList.add("sortable");
"""

_STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --paper: #fff; --soft: #5b626b;
  --line: #d9dde2; --tint: #f3f5f7; --link: #0b5cad; --warn: #9a4b00; }
@media (prefers-color-scheme: dark) { :root { --text: #e3e6ea; --paper: #15181c; --soft: #9aa3ad;
  --line: #363c44; --tint: #1f2429; --link: #7db7f5; --warn: #f0a860; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: var(--paper);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
h1, h2, h3, h4 { line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin-top: 3rem; border-bottom: 2px solid var(--line); }
h3 { margin-top: 2.5rem; }
h4 { margin: 1.75rem 0 .5rem; }
a { color: var(--link); }
code { overflow-wrap: anywhere; font-size: .9em; }
nav ul { padding-left: 1.25rem; }
details { margin-top: 1.5rem; }
summary { cursor: pointer; color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.warn { color: var(--warn); font-weight: 600; }
.note { color: var(--soft); font-size: .9rem; }
.scroll { overflow: auto; max-width: 100%; max-height: 36rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: left; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
thead th { background: var(--tint); position: sticky; top: 0; }
td.number { text-align: right; }
tbody tr:hover { background: var(--tint); }
.sortable thead th { cursor: pointer; user-select: none; }
.sortable thead th::after { content: " ↕"; color: var(--soft); opacity: .6; }
.sortable thead th[aria-sort=ascending]::after { content: " ↑"; opacity: 1; }
.sortable thead th[aria-sort=descending]::after { content: " ↓"; opacity: 1; }
figure { margin: 1rem 0; max-width: 100%; overflow-x: auto; }
figure img { max-width: 100%; height: auto; padding: .5rem; border-radius: 6px; background: #fff; }
figure svg { max-width: 100%; min-width: 32rem; height: auto; }
figure svg text { font-family: system-ui, sans-serif !important; }
@media (max-width: 36rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
@media print { .scroll { max-height: none; } .sortable thead th::after { content: ""; } }
"""

# The policy makes the browser refuse what the page should not ask for anyway.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def escape(value: Any) -> str:
    """A value as text that HTML takes for nothing but text."""
    return html.escape(str(value), quote=True)


def element(tag: str, content: str, **attributes: str) -> str:
    """An element around HTML; `class_` stands for `class` and `data_value` for `data-value`."""
    names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
    words = [f' {names[name]}="{escape(value)}"' for name, value in attributes.items()]
    return f"<{tag}{''.join(words)}>{content}</{tag}>"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table whose columns are the keys of all rows; scrolls sideways in a narrow window."""
    if not rows:
        return element("p", "empty", class_="note")
    if len(rows) > MAX_ROWS:
        return element("p", f"{len(rows):,} rows, too many to be shown here", class_="note")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = "".join(element("th", escape(column), scope="col") for column in columns)
    lines = "".join(
        element("tr", "".join(_cell(row.get(column)) for column in columns)) + "\n" for row in rows
    )
    return element(
        "div",
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{lines}</tbody></table>",
        class_="scroll",
    )


class Html(str):
    """Text that is HTML already, for a cell of a table."""


def _cell(value: Any) -> str:
    if isinstance(value, Html):
        return element("td", value)
    if value is None:
        return "<td></td>"
    if isinstance(value, str) and _WITH_SPREAD.match(value):
        return element("td", escape(value), class_="number")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return element("td", escape(value))
    finite = math.isfinite(value)
    text, key = (number(value), repr(value)) if finite else (to_json(value),) * 2
    return element("td", escape(text), class_="number", data_value=key)


def image(path: pathlib.Path, content: bytes) -> str:
    """A PNG or SVG file inside the page; as an image an SVG can neither run nor load anything."""
    data = base64.b64encode(content).decode()
    source = f"data:{MIME_TYPES[path.suffix]};base64,{data}"
    return f'<figure><img src="{source}" alt="{escape(path.stem)}"></figure>'


def page(title: str, body: str) -> str:
    """The whole document."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{body}
<script>{_SCRIPT}</script>
</body>
</html>
"""
