"""A sample of the faults, in a process that has not started JAX: `run_all` has the full counts."""

import os
import pathlib
import subprocess
import sys

import pytest

from tests.faults.sessions import STUDIES

ROOT = pathlib.Path(__file__).parents[2]


def sample(*words):
    # Optimised as those who use it have it, and with one device.
    alone = {k: v for k, v in os.environ.items() if k != "JAX_DISABLE_MOST_OPTIMIZATIONS"}
    # What goes wrong with input has tests of its own.
    others = [f"--{name}=0" for name in ("hosts", "files", "commands", "processes", "examples")]
    command = [sys.executable, "-m", "tests.faults.run_all", *others, *words]
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_what_is_damaged_cut_locked_full_or_stopped_ends_as_it_should():
    assert sample("--kills", "0", "--repeat", "1").splitlines()[-1].startswith("0 wrong")


@pytest.mark.slow
def test_a_killed_study_ends_like_one_that_was_not_killed():
    first = next(iter(STUDIES))
    out = sample("--kills", "2", "--pillars", first, "--faults")
    assert f"{first}: 2 of 2 killed runs equal to the uninterrupted one, 0 rows lost" in out
