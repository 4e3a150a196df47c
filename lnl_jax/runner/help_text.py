"""The help of an experiment: its docstring as a terminal shows it, its arguments, their choices."""

import argparse
import functools
import inspect
import itertools
import re
import shutil
import textwrap
from collections.abc import Callable
from typing import Any

from lnl_jax.runner.signatures import (
    REQUIRED,
    SUPPLIED,
    Kind,
    groups_of,
    keywords_of,
    name_of,
    options_of,
)
from lnl_jax.runner.usage import as_text


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Breaks lines after commas too: a default with many values has no blanks."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        wrapper = textwrap.TextWrapper(width, break_on_hyphens=False)
        wrapper.wordsep_simple_re = re.compile(r"(\s+|(?<=,)(?=\S))")
        return wrapper.wrap(" ".join(text.split()))


def describe(name: str, experiment: Callable, program: str = "python run.py") -> str:
    """The help of one experiment: its docstring, then every argument and choice."""
    text, described = _section(inspect.getdoc(experiment) or "", "Args")
    for group, fields in groups_of(experiment).items():
        own = _section(inspect.getdoc(fields) or "", "Attributes")[1]
        described |= {f"{group}.{field}": words for field, words in own.items()}
    options = options_of(experiment)
    chosen = {option: kind for option, (kind, _) in options.items() if kind.choices}
    width = max(shutil.get_terminal_size().columns - 2, 40)
    parser = argparse.ArgumentParser(
        prog=f"{program} --exp {name}",
        usage="%(prog)s [--argument VALUE ...]",
        description=_filled(text, width),
        epilog="\n\n".join(_described(option, kind, width) for option, kind in chosen.items()),
        formatter_class=functools.partial(_Formatter, max_help_position=30, width=width),
        add_help=False,
    )
    group = parser.add_argument_group("arguments")
    for option, (kind, default) in options.items():
        default = name_of(default, option, kind) if kind.choices else default
        words = f"{described.get(option, '')} ({_default_text(default)})".strip()
        group.add_argument(
            f"--{option}",
            metavar="NAME" if kind.choices else str(kind),
            help=words.replace("%", "%%"),
        )
    return parser.format_help().rstrip()


def summary(function: Callable) -> str:
    """The first sentence of a docstring, as a terminal shows it."""
    return " ".join(plain(inspect.getdoc(function) or "").partition("\n\n")[0].split())


def time_taken(experiment: Callable) -> str:
    """How long an experiment takes, and on what: ``Time:`` of its docstring."""
    match = re.search(r"^Time: (.+?)\.?$", inspect.getdoc(experiment) or "", flags=re.MULTILINE)
    return match[1] if match else ""


def plain(text: str) -> str:
    """Text without the marks of reStructuredText and TeX."""
    text = re.sub(r":\w+:`~?([^`]*)`", r"\1", text).replace("``", "`")
    text = re.sub(r"\\(?:mathrm|mathbb|text|operatorname)\{([^}]*)\}", r"\1", text)
    return re.sub(r"\\([a-zA-Z]+)", r"\1", text)


def _described(option: str, kind: Kind, width: int) -> str:
    """The choices of an argument, with what may be set of each."""
    lines = [f"choices of --{option}:"]
    for choice, function in kind.choices.items():
        text = f"{choice}: {summary(function) if function else f'see --{option} above.'}"
        lines.append(textwrap.fill(text, width, initial_indent="  ", subsequent_indent="      "))
        for keyword, (of, default) in keywords_of(kind, choice).items():
            lines.append(f"    --{option}.{keyword} {of} ({_default_text(default)})")
    return "\n".join(lines)


def _default_text(default: Any) -> str:
    if default is SUPPLIED:
        return "the study's own unless given"
    return "required" if default is REQUIRED else f"default: {as_text(default)}"


def _filled(text: str, width: int) -> str:
    """Prose in lines of this width; commands, which are indented, as they are."""
    blocks = []
    for block in plain(text).split("\n\n"):
        heading, _, body = block.partition("\n")
        if re.fullmatch(r"\w+:", heading):  # a section such as Yields
            indent = " " * 4
            filled = textwrap.fill(
                " ".join(body.split()), width, initial_indent=indent, subsequent_indent=indent
            )
            blocks.append(f"{heading}\n{filled}")
            continue
        lines: list[str] = []
        for is_command, group in itertools.groupby(block.split("\n"), lambda x: x[:1] == " "):
            together = list(group)
            if is_command:
                lines += [line for command in together for line in _command(command, width)]
            else:
                lines += textwrap.wrap(" ".join(together), width)
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _section(text: str, name: str) -> tuple[str, dict[str, str]]:
    """A docstring without one of its sections, and that section as a dict."""
    match = re.search(rf"^{name}:\n((?:[ \t]+.*\n?|\n)*)", text, flags=re.MULTILINE)
    if match is None:
        return text.strip(), {}
    section = inspect.cleandoc("\n" + match[1])
    entries = re.findall(r"^(\w+)[^:\n]*: *((?:.*)(?:\n[ \t]+.*)*)", section, flags=re.MULTILINE)
    described = {name: plain(" ".join(words.split())) for name, words in entries}
    return (text[: match.start()] + text[match.end() :]).strip(), described


def _command(line: str, width: int) -> list[str]:
    """A command in lines that a shell takes for one."""
    parts = textwrap.wrap(
        " ".join(line.split()), width - 10, break_long_words=False, break_on_hyphens=False
    )
    return textwrap.indent(" \\\n    ".join(parts), "    ").split("\n")
