"""A sample of the files that `tests/faults/run_all.py` changes by the hundred."""

import pytest

from tests.faults.mutated_files import mutated_files


@pytest.mark.slow
def test_changed_files_are_read_or_refused_in_a_line():
    found = mutated_files(140, seed=7)
    assert found.faults == ()
    assert found.refused > 90
    assert found.seconds < 60
    assert found.megabytes < 1000
