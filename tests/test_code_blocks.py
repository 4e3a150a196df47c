"""Every block of code of the pages and docstrings runs, and prints what stands below it."""

import ast
import contextlib
import io
import re

import pytest

from tests.documentation import FILE, ROOT, files, pages, python_blocks

NUMBER = re.compile(r"-?\d+\.\d+|-?\d+")
WITH_CODE = [page for page in pages() if python_blocks(page)]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run_in_order_and_print_what_it_says(page, optimised):
    names = {"__name__": "__main__"}
    for block in python_blocks(page):
        if FILE.match(block.code):
            continue
        # Line numbers of a failure are those of the page.
        tree = ast.increment_lineno(ast.parse(block.code), block.line - 1)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(tree, page.name, "exec"), names)
        agrees(output.getvalue(), block.printed, f"{page.name}, line {block.line}")


def agrees(printed, promised, where):
    """Words are the same; numbers to one unit of the last digit that the page gives."""
    assert NUMBER.sub("#", printed).split() == NUMBER.sub("#", promised).split(), where
    for found, given in zip(NUMBER.findall(printed), NUMBER.findall(promised), strict=True):
        unit = 10.0 ** -len(given.partition(".")[2])
        assert float(found) == pytest.approx(float(given), abs=1.01 * unit), where


def test_a_number_that_is_not_promised_is_found():
    agrees("accuracy 0.912\n", "accuracy 0.91\n", "")
    for other in ("accuracy 0.893\n", "loss 0.912\n", ""):
        with pytest.raises(AssertionError):
            agrees(other, "accuracy 0.91\n", "")


def test_the_first_example_of_the_readme_learns_and_says_so():
    first, *_ = python_blocks(ROOT / "README.md")
    (accuracy,) = NUMBER.findall(first.printed)
    assert float(accuracy) > 0.8


def test_the_files_that_pages_show_are_those_of_the_study_that_runs_elsewhere():
    """`tests/runner/test_own_repository.py` writes and runs them."""
    found = {page.name: set(files(page)) for page in WITH_CODE if files(page)}
    assert found == {"add_a_study.md": {"noisy_digits.py", "run.py", "report.py"}}


def test_every_code_in_docstrings_is_a_doctest_of_the_suite():
    """Those of the library run with `--doctest-modules`; elsewhere nothing would run them."""
    for folder in ("experiments", "benchmarks", "tests"):
        for file in (ROOT / folder).rglob("*.py"):
            assert ">>>" not in "".join(docstrings(file)), file
    for file in (ROOT / "lnl_jax").rglob("*.py"):
        for text in docstrings(file):
            assert "```" not in text, file
            assert ".. code" not in text, file
            # A section of examples holds a prompt; a literal block would not be run.
            for section in re.findall(r"^ *Examples?:\n((?:\s+.*\n?|\n)*)", text, re.MULTILINE):
                assert ">>>" in section, file
            # `.. math::` is the one directive; a colon doubled elsewhere is code that nobody runs.
            assert not re.search(r"(?<!\.\. math)::$", text, re.MULTILINE), file


def docstrings(file):
    """Those of a module and of all that is defined in it."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, kinds)]
    return [ast.get_docstring(node) or "" for node in nodes]
