"""Errors of those who give a command, and values as they are written in one."""

from collections.abc import Mapping
from typing import Any

from lnl_jax.runner.arguments import close_names


class UsageError(Exception):
    """A command that cannot be carried out; its text is shown to the user, without a traceback."""


def look_up(table: Mapping[str, Any], name: str, what: str) -> Any:
    """Returns `table[name]`, or says which names are close."""
    if name not in table:
        raise UsageError(f"unknown {what} {name!r}; {close_names(name, table)}")
    return table[name]


def as_text(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(map(as_text, value))
    return str(value)
