"""A sample of the command lines that `tests/faults/run_all.py` carries out by the thousand."""

import pytest

from tests.faults.random_commands import random_commands, random_processes


@pytest.mark.slow
def test_any_words_are_refused_in_a_few_lines_or_begin_to_compute():
    found = random_commands(60, seed=3)
    assert found.faults == ()
    assert found.refused > 20


@pytest.mark.slow
def test_in_processes_of_their_own_too():
    assert random_processes(2, seed=3).faults == ()
