"""What a page of the documentation links to is there, and Sphinx builds it where it is a page."""

import ast
import re

import pytest

from tests.documentation import ROOT, pages

DOCS = ROOT / "docs"
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)")


def linked(page):
    """The files that a page links to, as paths."""
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
    return [(page.parent / target).resolve() for target in LINK.findall(text)]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page):
    assert [str(target) for target in linked(page) if not target.exists()] == []


def test_pages_that_built_pages_link_to_are_built():
    text = (DOCS / "conf.py").read_text()
    left_out = ast.literal_eval(re.search(r"^exclude_patterns = (.*)$", text, re.MULTILINE)[1])
    built = [page for page in pages() if page.is_relative_to(DOCS) and page.suffix == ".md"]
    dead = {
        str(target.relative_to(DOCS))
        for page in built
        for target in linked(page)
        if target.suffix == ".md" and target.is_relative_to(DOCS)
        if {target.relative_to(DOCS).parts[0], str(target.relative_to(DOCS))} & {*left_out}
    }
    assert dead == set()
