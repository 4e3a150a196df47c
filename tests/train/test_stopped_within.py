"""Runs that are stopped within an epoch go on over other devices and processes, with all numbers.

Their batches leave out what is not finite, and their tables are split.
"""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

from lnl_jax import runner
from tests.train import stopped_within

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).parents[2]
WORDS = ("--exp", "stopped_within", "--on_nan", "skip", "--checkpoint_every", "0")


def rows(results):
    (file,) = results.rglob("metrics.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def alone(results, devices, stop=None):
    """The exit code of a run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        if stop is not None:
            patch.setattr(stopped_within, "interrupted", stopped_within.stop)
        words = [*WORDS, "--devices", str(devices), "--results_dir", str(results)]
        return runner.main({"stopped_within": stopped_within.stopped_within}, argv=words)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The rows of a run on one device that nothing stops."""
    results = tmp_path_factory.mktemp("whole")
    assert alone(results, 1) == 0
    return rows(results)


def check(results, whole):
    found = rows(results)
    assert [row.keys() for row in found] == [row.keys() for row in whole]
    for row, expected in zip(found, whole, strict=True):
        for name, value in expected.items():
            np.testing.assert_allclose(row[name], value, rtol=1e-4, err_msg=name)


def test_what_is_left_out_and_what_is_padding_is_counted_once(whole):
    # Of 24 examples 16 and 8 are in a batch, and that of the NaN is left out.
    assert len(whole) == 2
    for row in whole:
        assert all(np.isfinite(value) for value in row.values())
        for kind in ("turn", "lanes"):
            skipped = [row[f"{kind} examples_skipped {seed}"] for seed in stopped_within.SEEDS]
            assert set(skipped) <= {8, 16}
            assert row[f"{kind} examples 0"] + sum(skipped) == 24 * len(skipped)


@pytest.mark.parametrize("numbers", [(4, 1), (1, 4)])
def test_over_another_number_of_devices(numbers, whole, tmp_path, capsys):
    before, after = numbers
    assert alone(tmp_path, before, stop=True) == 130
    assert rows(tmp_path) == []
    assert "resuming" not in capsys.readouterr().out
    assert alone(tmp_path, after) == 0
    assert "resuming before the first row" in capsys.readouterr().out
    check(tmp_path, whole)


def pair(results, word, *of_second, **environment):
    """The exit codes and errors of two processes of two devices each."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = found.getsockname()[1]
    env = dict(os.environ, JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES="2")
    env.pop("XLA_FLAGS", None)
    command = [sys.executable, "-m", "tests.train.stopped_within", word, *WORDS, "--devices", "4"]
    command += ["--distributed", "--coordinator", f"localhost:{port}", "--num_processes", "2"]
    command += ["--results_dir"]
    processes = [
        subprocess.Popen(
            [*command, str(results), "--process_id", str(index), *(of_second if index else ())],
            cwd=ROOT,
            env=env | (environment if index else {}),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for index in range(2)
    ]
    try:
        ended = [process.communicate(timeout=600)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], ended


def test_in_two_processes_and_by_one_alone(whole, tmp_path):
    codes, errors = pair(tmp_path / "pair", "stop")
    assert codes == [130, 130], errors
    assert rows(tmp_path / "pair") == []
    shutil.copytree(tmp_path / "pair", tmp_path / "alone")
    codes, errors = pair(tmp_path / "pair", "go on")
    assert codes == [0, 0], errors
    check(tmp_path / "pair", whole)
    assert alone(tmp_path / "alone", 1) == 0
    check(tmp_path / "alone", whole)


def test_by_two_processes_after_one_alone(whole, tmp_path):
    assert alone(tmp_path, 4, stop=True) == 130
    codes, errors = pair(tmp_path, "go on")
    assert codes == [0, 0], errors
    check(tmp_path, whole)


@pytest.mark.parametrize(
    ("words", "environment", "what"),
    [
        (["--devices", "1"], {}, "another --devices"),
        (["--on_nan", "stop"], {}, "another --on_nan"),
        ([], {"JAX_ENABLE_X64": "1"}, "another precision, JAX_ENABLE_X64,"),
    ],
)
def test_processes_that_are_not_split_alike_end_at_once(words, environment, what, tmp_path):
    codes, errors = pair(tmp_path, "go on", *words, **environment)
    assert codes == [2, 2]
    assert all(f"process 1 has {what} than process 0" in text for text in errors)
    assert not list(tmp_path.iterdir())


def test_processes_of_unlike_devices_end_at_once(tmp_path):
    codes, errors = pair(tmp_path, "go on", JAX_NUM_CPU_DEVICES="3")
    assert codes == [2, 2]
    assert all("all processes must have as many devices, got [2, 3]" in text for text in errors)
    assert not list(tmp_path.iterdir())
