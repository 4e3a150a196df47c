"""The files that `docs/add_a_study.md` shows work in a folder outside the project."""

import json
import os
import pathlib
import runpy
import subprocess
import sys
import sysconfig

import pytest

from tests.documentation import ROOT, commands, files

PAGE = ROOT / "docs/add_a_study.md"
# Runs the file of its first argument, and stops the process in the third epoch of the second loss.
STOPPED = """
import runpy, signal, sys
import noisy_digits

def stop(digits, method, *rest, train=noisy_digits.train, resume):
    outputs = train(digits, method, *rest, resume=resume)
    while True:
        try:
            output = next(outputs)
        except StopIteration as ended:
            return ended.value
        yield output
        if method == "ldr_kl" and isinstance(output, dict) and output["epoch"] == 3:
            signal.raise_signal(signal.SIGTERM)

noisy_digits.train = stop
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with the files of the page, and nothing else."""
    found = tmp_path / "my studies"
    found.mkdir()
    for name, code in files(PAGE).items():
        (found / name).write_text(code)
    return found


def call(file, words, monkeypatch):
    """Runs a file in this process; returns its exit code."""
    monkeypatch.setattr(sys, "argv", [str(file), *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(file), run_name="__main__")
    return ended.value.code


def table(path):
    return json.loads((path / "summary.json").read_text())["tables"]["results"]


def test_the_study_of_the_page_runs_and_finds_that_the_robust_loss_gains(
    folder, monkeypatch, optimised, capsys
):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    assert call("run.py", ["--exp", "noisy_digits"], monkeypatch) == 0
    cross_entropy, ldr_kl = table(folder / "results/noisy_digits/default")
    assert (cross_entropy["method"], ldr_kl["method"]) == ("cross_entropy", "ldr_kl")
    assert ldr_kl["accuracy %"] > cross_entropy["accuracy %"] + 3
    assert call("run.py", ["--exp", "noisy_digits", "--only", "ldr"], monkeypatch) == 2
    assert "only must name losses of" in capsys.readouterr().err
    assert call("run.py", ["--help"], monkeypatch) == 0
    assert "usage: python run.py --exp NAME" in capsys.readouterr().out
    words = ["results", "--out", "page.html"]
    assert call(folder / "report.py", words, monkeypatch) == 0
    assert "python run.py --exp noisy_digits" in (folder / "page.html").read_text()


def environment(folder):
    """An interpreter that has the wheel of this library, and all else that this one has."""
    wheels, place = folder / "wheels", folder / "venv"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", wheels, ROOT], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([*pip, "--python", place, "install", "--no-deps", wheel], check=True)
    # Of a folder that a `.pth` names no further `.pth` is read: not that of an editable install.
    (library,) = place.glob("lib/python*/site-packages")
    paths = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    (library / "others.pth").write_text("\n".join(sorted(paths)) + "\n")
    return place / "bin/python"


@pytest.mark.slow
def test_with_the_wheel_a_stopped_study_goes_on_to_the_same_end(folder, tmp_path):
    python = environment(tmp_path)
    alone = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(*words, code=0):
        done = subprocess.run(
            [python, *words], cwd=folder, env=alone, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    where = (
        "import lnl_jax, importlib.util as u; print(lnl_jax.__file__, u.find_spec('experiments'))"
    )
    file, experiments = run("-c", where).split()
    assert pathlib.Path(file).is_relative_to(tmp_path / "venv")
    assert experiments == "None"
    (study, report) = (line.split()[1:] for line in commands(PAGE) if line.startswith("python "))
    run(*study)
    (path,) = (folder / "results/noisy_digits").iterdir()
    assert f"`results/noisy_digits/{path.name}/`" in PAGE.read_text()
    rows, expected = (path / "metrics.jsonl").read_bytes(), table(path)

    assert run("-c", STOPPED, *study, "--force", code=130)
    assert not (path / "summary.json").exists()
    assert len((path / "metrics.jsonl").read_text().splitlines()) == 203
    assert "resuming after epoch" in run(*study)
    assert (path / "metrics.jsonl").read_bytes() == rows
    assert table(path) == expected
    run(*report)
    assert "python run.py --exp noisy_digits" in (folder / "page.html").read_text()
