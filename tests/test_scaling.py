"""What the benchmark of many simulated devices says of a step."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
def test_split_tables_take_a_share_on_each_device_and_move_no_more_than_a_batch(tmp_path):
    command = [sys.executable, "benchmarks/scaling.py", "--tiny", "--devices", "4"]
    command += ["--sets", "imagenet", "--per_device", "8", "--json", str(tmp_path / "rows.json")]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    whole, split = json.loads((tmp_path / "rows.json").read_text())["rows"]
    # Three numbers in float32 for each of ImageNet's images, and some rows to make it even.
    assert whole["table_bytes"] == pytest.approx(12 * whole["examples"], rel=1e-5)
    assert split["table_bytes"] == pytest.approx(whole["table_bytes"] / 4, rel=1e-5)
    assert whole["parameters"] == split["parameters"] > 0
    # Both reduce the gradients; a table of any size would be a thousand times as much.
    moved = sum(split["collective_bytes"].values())
    assert 4 * split["parameters"] <= moved < split["table_bytes"] / 2
