"""The script for accelerators: whole at its tiny sizes, resumed where it was killed."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.compiled import cache_folder
from tests.documentation import ROOT

SCRIPT = ROOT / "benchmarks/accelerator.py"


@pytest.fixture
def part(monkeypatch):
    """A module of the script, by name, as the script itself imports it."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield lambda name: importlib.import_module(f"accelerator{name}")
    for name in [name for name in sys.modules if name.startswith("accelerator")]:
        del sys.modules[name]


def test_all_sections_with_their_processes_fit_into_one_start(part):
    sections = part("_sections")
    limits = sum(each.seconds + each.torch_seconds for each in sections.SECTIONS.values())
    processes = 3
    assert limits + 8 * processes <= sections.BUDGET == 540


def test_a_record_is_whole_after_every_row_and_forgets_what_was_running(part, tmp_path):
    record = part("_sections.record")
    first = record.Record(tmp_path / "found.json")
    first.begin("c", "jax", limit_seconds=1)
    first.add("c", "jax", {"share": float("nan"), "shape": (2, 3)})
    first.put("b", "jax", state=record.COMPLETE)
    again = record.Record(tmp_path / "found.json")
    assert again.rows("c", "jax") == [{"share": "nan", "shape": [2, 3]}]
    again.forget_running()
    assert again.side("c", "jax")["state"] == record.INTERRUPTED
    assert (again.is_done("b", "jax"), again.is_done("c", "jax")) == (True, False)
    assert [file.name for file in tmp_path.iterdir()] == ["found.json"]


def test_what_is_late_is_named_and_nothing_else(part, tmp_path):
    record = part("_sections.record").Record(tmp_path / "found.json")
    script = part("")
    record.begin("b", "jax", limit_seconds=5, end_by=time.time() - 1)
    record.begin("c", "jax", limit_seconds=5, end_by=time.time() + 99)
    assert script.overdue(record, [("c", "jax")]) is None
    assert "went on after its 5 s" in script.overdue(record, [("b", "jax"), ("c", "jax")])


def test_aims_are_reached_missed_or_not_measured(part, tmp_path):
    record = part("_sections.record").Record(tmp_path / "found.json")
    record.begin("b", "jax")
    large = {"shape": [4096, 50257], "dtype": "bfloat16"}
    record.add("b", "jax", {"loss": "ldr_kl", "memory_share": 0.75} | large)
    record.add("b", "jax", {"loss": "mean_absolute_error", "memory_share": 0.6} | large)
    found = {
        each["aim"].split(",")[0]: each["reached"]
        for each in part("_sections.summary").aims(record)
    }
    assert found["ldr_kl"] is True
    assert found["mean_absolute_error"] is False
    assert found["generalized_cross_entropy"] is None


def environment():
    """Programs are shared with other tests, on two devices."""
    compiled = {
        "JAX_COMPILATION_CACHE_DIR": str(cache_folder()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return os.environ | {"PYTHONPATH": str(ROOT)} | compiled


def start(folder, *words):
    """Begins the script."""
    command = [sys.executable, str(SCRIPT), "--tiny", "--out", str(folder), *words]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process):
    """What it printed, once it ended well."""
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    return printed


def sides(folder):
    """``{(section, side): what is known}`` of the file; none before it is there."""
    file = folder / "accelerator.json"
    data = json.loads(file.read_text()) if file.exists() else {"sections": {}}
    return {
        (section, side): found
        for section, of_section in data["sections"].items()
        for side, found in of_section.items()
    }


@pytest.mark.slow
def test_a_budget_that_is_used_up_is_said_and_the_next_start_goes_on(tmp_path):
    printed = finish(start(tmp_path, "--sections", "a", "--budget", "0.5"))
    assert "(the budget of this start was used" in printed
    assert sides(tmp_path)["a", "jax"]["state"] == "out of budget"
    finish(start(tmp_path, "--sections", "a"))
    assert sides(tmp_path)["a", "jax"]["state"] == "complete"
    assert "is in" in finish(start(tmp_path, "--sections", "a"))


@pytest.mark.slow
def test_killed_in_the_letter_table_it_goes_on_there_and_is_complete_in_the_end(tmp_path):
    process = start(tmp_path)
    while sides(tmp_path).get(("d", "jax"), {}).get("rows") in (None, []):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = sides(tmp_path)
    assert before["d", "jax"]["state"] == "running"
    printed = finish(start(tmp_path))
    found = sides(tmp_path)
    for section in "abc":
        assert found[section, "jax"] == before[section, "jax"]
        assert f"({section}) jax is in" in printed
    assert {section for section, _ in found} == set("abcdefghi")
    for (section, side), each in found.items():
        if side == "torch":
            assert each["state"] in ("complete", "not run"), (section, each)
        else:
            assert each["state"] == "complete", (section, each)
            assert each["held_against"]
            assert not [row for row in each["rows"] if "why" in row and "table" not in row]
    check_claims(
        {section: each["rows"] for (section, side), each in found.items() if side == "jax"}
    )


def check_claims(rows):
    """What holds at any size."""
    assert {"bfloat16", "float32", "copy", "dispatch"} <= {r.get("roof") for r in rows["a"]}
    of_losses = [row for row in rows["b"] if row["loss"] == "ldr_kl"]
    assert len(of_losses) == 4
    assert all(row["compiler_bytes_ratio"] >= 1 for row in of_losses)
    tiles = [row for row in rows["c"] if row.get("block") and "loss" in row]
    assert all(row["gradients_differ"] < 1e-3 and row["value_differs"] < 1e-3 for row in tiles)
    (whole,) = (row for row in rows["d"] if row.get("table") == "whole")
    assert min(whole["accuracy"].values()) > 100 / 26
    ways = {row["way"] for row in rows["e"] if "way" in row}
    assert ways == {"jit on a mesh", "pmap"}
    of_resnet8 = {row["parameters"] for row in rows["e"] if row.get("network") == "resnet8"}
    assert len(of_resnet8) == 1
    assert {row["network"] for row in rows["e"] if "network" in row} == {"resnet8", "resnet18"}
    assert {row["step"] for row in rows["f"]} == {"simclr", "isogclr", "views"}
    assert len([row for row in rows["g"] if "loop" in row]) == 3
    assert {row["method"] for row in rows["h"]} >= {"cross_entropy", "ldr_kl", "aldr_kl"}
    assert all(row["seconds_from"] < row["seconds_without"] for row in rows["i"])
