"""What the pages of the project hold: blocks of code, what these print, and commands."""

import pathlib
import re
from typing import NamedTuple

import lnl_jax

ROOT = pathlib.Path(lnl_jax.__file__).parents[1]
# The first line of a block that is a file of its own, not part of what the page runs.
FILE = re.compile(r"# (\S+\.py)\n")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
# What stands before a program: variables, and the core it is bound to.
COMMAND = re.compile(r"((\w+=\S+|taskset -c \d+) )*\S*(python3?|pip|ruff) \S+")


class Block(NamedTuple):
    """A fenced block of Python and the block of text that follows it, what it prints."""

    line: int
    code: str
    printed: str


def pages() -> list[pathlib.Path]:
    """All pages in Markdown, with reStructuredText's."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    return sorted(found + [*(ROOT / "docs").rglob("*.rst")])


def python_blocks(page: pathlib.Path) -> list[Block]:
    """The blocks of Python of a page, in order."""
    text, blocks = page.read_text(), []
    fences = list(FENCE.finditer(text))
    for index, fence in enumerate(fences):
        if fence[1] != "python":
            continue
        after = fences[index + 1] if index + 1 < len(fences) else None
        follows = after is not None and not text[fence.end() : after.start()].strip()
        printed = after[2] if follows and after[1] == "text" else ""
        blocks.append(Block(text[: fence.start()].count("\n") + 2, fence[2], printed))
    return blocks


def files(page: pathlib.Path) -> dict[str, str]:
    """The files that a page shows: blocks whose first line is the name."""
    found = [(FILE.match(block.code), block.code) for block in python_blocks(page)]
    return {match[1]: code[match.end() :] for match, code in found if match}


def commands(page: pathlib.Path) -> list[str]:
    """All commands of a page, fenced or inline, each on one line."""
    text = page.read_text()
    lines = []
    for language, body in FENCE.findall(text):
        if language == "bash":
            lines += body.replace("\\\n", " ").splitlines()
    lines += re.findall(r"`([^`]+)`", FENCE.sub("", text))
    found = (" ".join(line.partition(" #")[0].split()) for line in lines)
    return [line for line in found if COMMAND.match(line) or line == ".ci/run"]
