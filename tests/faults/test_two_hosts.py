"""A sample of two processes against one, by a process that has not started JAX; the command has
more studies and faults."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def sample(studies, faults):
    alone = {k: v for k, v in os.environ.items() if k != "JAX_DISABLE_MOST_OPTIMIZATIONS"}
    command = [sys.executable, "-m", "tests.faults.two_hosts"]
    command += ["--studies", studies, "--faults", faults]
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_two_processes_find_what_one_does_and_the_first_alone_writes():
    out = sample("robust losses,lanes", "told otherwise,nobody comes")
    assert out.count("two processes against one") == 2


@pytest.mark.slow
def test_a_process_that_dies_ends_the_other_and_the_run_goes_on():
    assert "the other one ended" in sample("", "second dies")
