"""What the files of a results folder must look like before a page is made of them."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

from lnl_jax.runner.usage import UsageError

LARGEST = 1 << 63


def check_config(file: pathlib.Path, config: Any) -> None:
    """Raises UsageError unless this is what a run writes as its `config.json`; names the key."""
    _check_object(file, config)
    for key in ("overrides", "arguments", "device", "versions"):
        if not isinstance(config.get(key) or {}, dict):
            _refuse(file, key, "a JSON object", config[key])
    for key in ("experiment", "program", "git", "data_dir"):
        if not isinstance(config.get(key) or "", str):
            _refuse(file, key, "text", config[key])


def check_summary(file: pathlib.Path, summary: Any) -> None:
    """Raises UsageError unless this is what a run writes as its `summary.json`; names the key."""
    _check_object(file, summary)
    seconds = summary.get("seconds")
    if seconds is not None and not _is_number(seconds):
        _refuse(file, "seconds", "a number", seconds)
    if not isinstance(summary.get("last") or {}, dict):
        _refuse(file, "last", "a JSON object", summary["last"])
    tables = summary.get("tables") or {}
    if not isinstance(tables, dict):
        _refuse(file, "tables", "a JSON object", tables)
    for name, rows in tables.items():
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            _refuse(file, f"tables.{name}", "a list of JSON objects", rows)


def check_row(file: pathlib.Path, line: int, row: Any) -> None:
    """Raises UsageError unless this is a line of `metrics.jsonl`; names the line."""
    if not isinstance(row, dict):
        raise UsageError(f"{file}, line {line} is not what a run writes: it is no JSON object")


def _check_object(file: pathlib.Path, value: Any) -> None:
    if not isinstance(value, dict):
        raise UsageError(f"{file} is not what a run writes: it holds no JSON object")


def _refuse(file: pathlib.Path, key: str, wanted: str, value: Any) -> None:
    raise UsageError(
        f"{file} is not what a run writes: {key} must be {wanted}, is {str(value)[:80]!r}"
    )


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and (isinstance(value, int) or not math.isnan(value))


def check_values(file: pathlib.Path, value: Any, depth: int = 0) -> None:
    """Raises UsageError for what no run writes: numbers beyond 64 bits, deep nesting."""
    if depth > 20:
        raise UsageError(f"{file} is not what a run writes: it is nested too deeply")
    if isinstance(value, int) and not -LARGEST <= value < LARGEST:
        raise UsageError(f"{file} is not what a run writes: it holds a number beyond 64 bits")
    inner = value.values() if isinstance(value, Mapping) else value
    for one in inner if isinstance(value, Mapping | list) else ():
        check_values(file, one, depth + 1)
