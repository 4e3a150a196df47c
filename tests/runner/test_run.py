import errno
import functools
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

import lnl_jax
from experiments import EXPERIMENTS, SWEEPS
from lnl_jax import train
from lnl_jax.runner import (
    compiling,
    data_fingerprint,
    interrupts,
    metrics_file,
    progress,
    results,
    run_folder,
    saved_states,
)
from lnl_jax.runner.arguments import StudyError
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume
from lnl_jax.train import checkpoint
from tests.experiments import commands
from tests.runner import toys


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs a command line on the toys: (exit code, standard output, standard error)."""
    monkeypatch.setitem(EXPERIMENTS, "descent", toys.descent)
    monkeypatch.setitem(SWEEPS, "seeds", ("descent", toys.seeds))
    monkeypatch.setattr(toys, "wait", lambda seconds: None)

    def run_command(line):
        code = commands.main([*line.split(), "--results_dir", str(tmp_path)])
        return code, *capsys.readouterr()

    return run_command


def rows(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def final_state(path):
    manager = checkpoint.open_checkpoints(path / "checkpoints")
    like = {"x": jnp.zeros(4), "key": jax.random.key(0)}
    _, state, metadata = checkpoint.restore_latest(manager, like)
    manager.close()
    return np.asarray(state["x"]), np.asarray(jax.random.key_data(state["key"])), metadata["rows"]


def test_a_run_writes_its_folder_and_says_its_numbers(command, tmp_path):
    code, out, err = command("--exp descent --epochs 3 --loss absolute --loss.power 2")
    path = tmp_path / "descent/epochs=3,loss=absolute,loss.power=2"
    assert (code, err) == (0, "")
    names = {"config.json", "metrics.jsonl", "summary.json", "checkpoints", "curve.npz"}
    names |= {"first.csv", "final.csv", "page.html"}
    assert {file.name for file in path.iterdir()} == names
    # The same loss by another name, and the same numbers without run.py.
    direct = [row for row in toys.descent(epochs=3) if isinstance(row, dict)]
    assert [row["loss"] for row in rows(path)] == [float(row["loss"]) for row in direct]
    assert progress.number(rows(path)[-1]["loss"]) in out.split("final")[1]
    assert "method" in out
    assert "epoch 3/3" in out


def test_a_finished_run_is_shown_and_not_repeated(command, tmp_path):
    command("--exp descent --epochs 2")
    before = (tmp_path / "descent/epochs=2/summary.json").stat().st_mtime_ns
    code, out, err = command("--exp descent --epochs 2")
    summary = tmp_path / "descent/epochs=2/summary.json"
    assert (code, err) == (0, "")
    assert "finished earlier" in out
    last = json.loads(summary.read_text())["last"]["loss"]
    assert progress.number(last) in out
    assert summary.stat().st_mtime_ns == before
    code, out, _ = command("--exp descent --epochs 2 --force")
    assert code == 0
    assert "finished earlier" not in out
    assert summary.stat().st_mtime_ns > before


@pytest.mark.parametrize(
    "how",
    [
        signal.SIGKILL,
        *(pytest.param(s, marks=pytest.mark.slow) for s in (signal.SIGINT, signal.SIGTERM)),
    ],
)
def test_an_interrupted_run_resumes_to_the_same_end(command, tmp_path, how):
    line = "--exp descent --epochs 40 --pause 0.05"
    assert command(line)[0] == 0
    whole, parts = tmp_path / "whole", tmp_path / "descent/epochs=40,pause=0.05"
    parts.rename(whole)
    process = subprocess.Popen(
        [sys.executable, toys.__file__, *line.split(), "--results_dir", str(tmp_path)],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # After ten rows it stands still; what was saved last has been committed or has not.
    while not (parts / "metrics.jsonl").exists() or len(rows(parts)) < 10:
        assert process.poll() is None
        time.sleep(0.01)
    while not list(parts.glob("checkpoints/*/commit_success.txt")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(how)
    _, err = process.communicate()
    finished, saved = len(rows(parts)), final_state(parts)[2]
    assert finished == 10
    assert not (parts / "summary.json").exists()
    if how == signal.SIGKILL:
        assert 1 <= saved <= finished
    else:
        assert process.returncode == 130
        assert err.startswith("interrupted")
        assert err.count("\n") == 1
        # A signal between the row of an epoch and its checkpoint costs that row, and no more.
        assert saved in (finished - 1, finished)

    code, out, err = command(line)
    assert (code, err) == (0, "")
    assert "resuming after epoch" in out
    restart = int(out.split("resuming after epoch ")[1].split()[0])
    assert restart == saved
    assert (parts / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    for actual, expected in zip(final_state(parts), final_state(whole), strict=True):
        np.testing.assert_array_equal(actual, expected)
    actual, expected = results.read_summary(parts), results.read_summary(whole)
    assert actual | {"seconds": 0} == expected | {"seconds": 0}
    for name in ("curve.npz", "first.csv", "final.csv"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()


def test_a_signal_before_a_checkpoint_costs_the_row_it_belongs_to(command, tmp_path, monkeypatch):
    @functools.wraps(toys.descent)
    def stopped(**arguments):
        for output in toys.descent(**arguments):
            yield output
            if isinstance(output, dict) and output["epoch"] == 3:
                signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setitem(EXPERIMENTS, "descent", stopped)
        assert command("--exp descent --epochs 5")[0] == 130
    parts = tmp_path / "descent/epochs=5"
    assert len(rows(parts)) == 3
    assert final_state(parts)[2] == 2
    assert "resuming after epoch 2" in command("--exp descent --epochs 5")[1]
    assert [row["epoch"] for row in rows(parts)] == [1, 2, 3, 4, 5]


def test_a_sweep_runs_its_points_and_goes_on_after_a_failure(command, tmp_path, monkeypatch):
    code, out, _ = command("--sweep seeds --epochs 2")
    assert code == 0
    names = {path.name for path in (tmp_path / "descent").iterdir()}
    assert names == {"epochs=2", "epochs=2,seed=1"}
    assert "[2/2]" in out

    def diverging(*, seed: int = 0, epochs: int = 1):
        if seed == 0:
            raise FloatingPointError("the loss is NaN")
        yield {"epoch": epochs}

    monkeypatch.setitem(EXPERIMENTS, "descent", diverging)
    code, out, err = command("--sweep seeds")
    assert code == 1
    assert err.startswith("Traceback")
    assert err.endswith("FloatingPointError: the loss is NaN\nerror: 1 of 2 runs failed\n")
    assert (tmp_path / "descent/epochs=3,seed=1/summary.json").exists()


def test_a_sweep_is_checked_before_its_first_run(command, tmp_path, monkeypatch):
    monkeypatch.setitem(SWEEPS, "bad", ("descent", lambda: iter([{"seed": 1}, {"sed": 2}])))
    code, _, err = command("--sweep bad")
    assert code == 2
    assert "did you mean seed" in err
    assert not (tmp_path / "descent").exists()


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("", "give --exp NAME"),
        ("--exp", "expected one argument"),
        ("--exp descend", "did you mean descent?"),
        ("--exp zzz", f"there is {next(iter(EXPERIMENTS))}, "),
        ("--sweep seed", "did you mean seeds?"),
        ("--exp descent --epohs 3", "did you mean epochs"),
        ("--exp descent --epochs 0.5", "--epochs takes int"),
        ("--exp descent --list", "not allowed with"),
        ("--exp descent --data_dir sets", "descent reads no data"),
        ("--exp descent 3", "expected --name value"),
        ("descent", "give --exp descent, not descent alone"),
        ("descend --epochs 3", "give --exp descent"),
        ("seeds", "give --sweep seeds"),
    ],
)
def test_a_usage_error_is_one_line(command, tmp_path, line, text):
    code, out, err = command(line)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert text in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def failing_with(error):
    def failing(*, epochs: int = 2):
        yield {"epoch": 1}
        raise error("no such\n  thing")

    return failing


@pytest.mark.parametrize("error", [ValueError, TypeError, FloatingPointError, FileNotFoundError])
def test_an_error_from_inside_a_training_shows_where_it_came_from(command, monkeypatch, error):
    monkeypatch.setitem(EXPERIMENTS, "failing", failing_with(error))
    with pytest.raises(error, match="thing") as raised:
        command("--exp failing")
    assert raised.traceback[-1].name == "failing"


def test_only_an_error_of_an_argument_check_is_one_line(command, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "failing", failing_with(StudyError))
    code, _, err = command("--exp failing")
    assert (code, err) == (2, "error: no such thing\n")
    code, _, err = command("--exp failing --debug")
    assert code == 2
    assert "Traceback" in err


def training(*, epochs: int = 3, resume: Resume = Resume()):
    """Descends; the second batch of the last epoch is NaN."""

    def batches(epoch):
        return {"x": np.float32([[1, 2], [1, np.nan if epoch == epochs - 1 else 3]])}

    def loss_fn(params, extra, rows, batch, key):
        return (params - batch["x"]) ** 2, (extra, rows, {})

    tx = optax.sgd(0.1)
    step = train.make_train_step(loss_fn, tx)
    state = train.init_state(jnp.zeros(()), tx, key=jax.random.key(0))
    state = resume.restore(state)
    run = train.scan_steps(step)
    fitted = train.fit(run, state, batches, epochs=epochs, steps_per_epoch=2)
    for row, trained in fitted:
        yield {name: float(value) for name, value in row.items()}
        yield Checkpoint(trained)


def test_a_loss_that_is_nan_stops_in_a_line_and_goes_on_without_that_batch(
    command, tmp_path, monkeypatch
):
    monkeypatch.setitem(EXPERIMENTS, "training", training)
    code, _, err = command("--exp training")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("error: the loss is nan at step 5 (epoch 3, batch 2)")
    assert err.endswith("with --on_nan skip the same command goes on\n")
    before = rows(tmp_path / "training/default")
    assert len(before) == 2
    code, out, err = command("--exp training --on_nan skip")
    assert (code, err) == (0, "")
    assert "resuming after epoch 2" in out
    after = rows(tmp_path / "training/default")
    assert after[:2] == before
    assert after[2]["steps_skipped"] == 1
    assert np.isfinite(after[2]["loss"])


def test_a_run_without_a_row_says_that_it_goes_on(command, monkeypatch):
    stops = [True, False]

    def slow(*, resume: Resume = Resume()):
        total = resume.restore(0)
        if not total:
            yield Checkpoint(7)
        if stops.pop(0):
            raise KeyboardInterrupt
        yield {"epoch": 1, "total": total}

    monkeypatch.setitem(EXPERIMENTS, "slow", slow)
    code, out, _ = command("--exp slow")
    assert code == 130
    assert "resuming" not in out
    code, out, _ = command("--exp slow")
    assert code == 0
    assert "resuming before the first row, from what was kept" in out
    assert "total 7" in out


def test_where_nothing_is_left_to_go_on_with_that_is_not_advised_again(command, monkeypatch):
    def hopeless():
        raise train.NotFiniteError("every batch of epoch 1 was left out as not finite.")
        yield

    monkeypatch.setitem(EXPERIMENTS, "hopeless", hopeless)
    for words, end in (("", "the same command goes on"), (" --on_nan skip", "before it is kept")):
        code, _, err = command(f"--exp hopeless{words}")
        assert code == 1
        assert err.endswith(f"{end}\n")


def test_a_results_folder_that_cannot_be_is_one_line(command, tmp_path):
    (tmp_path / "descent").write_text("a file")
    code, _, err = command("--exp descent")
    assert code == 2
    assert err.startswith(f"error: --results_dir: no folder can be made at {tmp_path}/descent")
    assert err.count("\n") == 1


def test_what_somebody_changed_in_a_results_folder_is_one_line(command, tmp_path):
    line = "--exp descent --epochs 2"
    files = [(name, text) for name in ("config.json", "summary.json") for text in ("{", "[]", "")]
    for name, text in [*files, ("summary.json", "{}"), ("summary.json", "{")]:
        assert command(f"{line} --force")[0] == 0
        file = tmp_path / "descent/epochs=2" / name
        file.write_text(text)
        code, _, err = command(line)
        assert (code, err.count("\n")) == (2, 1)
        assert name in err
        line_to_take = "goes on from the last checkpoint"
        assert (line_to_take if name == "summary.json" else "--force starts over") in err


def test_without_its_summary_a_run_ends_from_its_last_checkpoint(command, tmp_path):
    path = tmp_path / "descent/epochs=4"
    assert command("--exp descent --epochs 4")[0] == 0
    before = json.loads((path / "summary.json").read_text())
    (path / "summary.json").unlink()
    assert "resuming after epoch 4" in command("--exp descent --epochs 4")[1]
    after = json.loads((path / "summary.json").read_text())
    assert after | {"seconds": 0} == before | {"seconds": 0}


def test_other_data_in_the_data_folder_is_another_run(command, tmp_path, monkeypatch):
    def reading(*, dataset: str = "a", weights: str | None = None, data_dir: str | None = None):
        yield {"epoch": 1}

    monkeypatch.setitem(EXPERIMENTS, "reading", reading)
    folder = tmp_path / "sets"
    folder.mkdir()
    (folder / "a.npz").write_bytes(b"1234")
    line = f"--exp reading --data_dir {folder}"
    assert command(line)[0] == 0
    # Another set beside it is none of the run's business; with no set of that name all are.
    (folder / "b.npz").write_bytes(b"1234")
    assert "finished earlier" in command(line)[1]
    (folder / "a.npz").write_bytes(b"1235")
    code, _, err = command(line)
    assert (code, err.count("\n")) == (2, 1)
    assert "default holds another data: --data_dir 1 file, 4 bytes, sha256 " in err
    assert "--force starts over" in err
    code, _, err = command("--exp reading")
    assert (code, err.count("\n")) == (2, 1)
    assert "there and absent here" in err
    assert command(f"{line} --force")[0] == 0
    # So is a file that an argument points at.
    weights = folder / "b.npz"
    assert command(f"{line} --weights {weights}")[0] == 0
    weights.write_bytes(b"4321")
    code, _, err = command(f"{line} --weights {weights}")
    assert (code, "another data: --weights 1 file" in err) == (2, True)


def test_a_fingerprint_sees_names_sizes_and_bytes(tmp_path, monkeypatch):
    def make(name, files):
        for file, data in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_bytes(data)
        (tmp_path / name / "loop").symlink_to(tmp_path / name)
        os.mkfifo(tmp_path / name / "pipe")
        (tmp_path / "set").unlink(missing_ok=True)
        (tmp_path / "set").symlink_to(tmp_path / name)
        return data_fingerprint.fingerprint(tmp_path / "set")

    files = {"a/1": b"12", "a/2": b"3" * 300, "b": b""}
    same = make("x", files)
    assert same == make("y", files)
    assert same.startswith("3 files, 302 bytes, sha256 ")
    others = [
        files | {"a/1": b"13"},
        files | {"c": b""},
        {"a/2": b"3" * 300, "a/1": b"12", "d": b""},
    ]
    assert len({same, *(make(f"o{i}", other) for i, other in enumerate(others))}) == 4
    monkeypatch.setattr(data_fingerprint, "WHOLE_BYTES", 10)
    monkeypatch.setattr(data_fingerprint, "SAMPLE_BYTES", 4)
    ends = data_fingerprint.fingerprint(tmp_path / "x/a")
    (tmp_path / "x/a/2").write_bytes(b"3" * 299 + b"4")
    assert data_fingerprint.fingerprint(tmp_path / "x/a") != ends
    monkeypatch.setattr(data_fingerprint, "SIZED_FILES", 1)
    assert data_fingerprint.fingerprint(tmp_path / "x/a").startswith("2 files, sha256 ")


def test_a_linked_folder_is_left_as_it_is_by_force(command, tmp_path):
    line = "--exp descent --epochs 2"
    assert command(line)[0] == 0
    path = tmp_path / "descent/epochs=2"
    elsewhere = tmp_path / "large_disk"
    (path / "checkpoints").rename(elsewhere)
    (path / "checkpoints").symlink_to(elsewhere)
    assert "finished earlier" in command(line)[1]
    assert command(f"{line} --force")[0] == 0
    assert list(elsewhere.iterdir())
    assert not (path / "checkpoints").is_symlink()


def test_a_link_in_place_of_a_file_of_the_run_is_not_followed(command, tmp_path):
    line = "--exp descent --epochs 2"
    path, outside = tmp_path / "descent/epochs=2", tmp_path / "outside"
    for name in ("metrics.jsonl", "config.json", "summary.json"):
        outside.write_text("precious\n")
        path.mkdir(parents=True, exist_ok=True)
        (path / name).symlink_to(outside)
        code, _, err = command(line)
        assert (code, err.count("\n")) == (2, 1), name
        assert str(path) in err
        assert outside.read_text() == "precious\n"
        assert command(f"{line} --force")[0] == 0
        shutil.rmtree(path)


def test_what_a_kill_left_of_a_write_is_deleted(command, tmp_path):
    path = tmp_path / "descent/epochs=2"
    path.mkdir(parents=True)
    (path / ".curve.npz.x1y2.tmp").write_bytes(b"half")
    assert command("--exp descent --epochs 2")[0] == 0
    assert not list(path.glob(".*"))


@pytest.mark.parametrize("kind", ["a file", "too long", "read-only"])
def test_a_results_dir_that_cannot_be_used_is_one_line(tmp_path, kind, monkeypatch, capsys):
    monkeypatch.setitem(EXPERIMENTS, "descent", toys.descent)
    folder = tmp_path / ("x" * 300 if kind == "too long" else "results")
    if kind == "a file":
        folder.write_text("")
    if kind == "read-only":
        folder.mkdir()
        monkeypatch.setattr(run_folder.os, "access", lambda *_: False)
    code = commands.main(["--exp", "descent", "--results_dir", str(folder)])
    err = capsys.readouterr().err
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("error: --results_dir: ")


def test_a_folder_that_becomes_read_only_is_one_line(command, tmp_path, monkeypatch):
    def refuse(path, name, value):
        raise PermissionError(errno.EACCES, "Permission denied", str(path / name))

    monkeypatch.setattr(results, "write_artifact", refuse)
    code, _, err = command("--exp descent --epochs 2")
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot be used ([Errno 13] Permission denied" in err


def test_the_reader_of_a_pipe_may_leave():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "experiments/run.py", "--exp", "ldr_digits", "--help"],
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_the_last_line_names_the_folder_the_figures_and_the_page(command, monkeypatch, tmp_path):
    def drawing(*, epochs: int = 1):
        from matplotlib.figure import Figure

        yield {"epoch": epochs, "loss": 0.5}
        yield Artifact("curves", Figure())

    monkeypatch.setitem(EXPERIMENTS, "drawing", drawing)
    # Wide enough for any temporary folder.
    monkeypatch.setenv("COLUMNS", "400")
    for _ in range(2):  # run, then found finished
        *_, row, last = command("--exp drawing")[1].splitlines()
        assert row == "epoch 1   loss 0.5000"
        assert last.startswith(f"results: {tmp_path}/drawing/default, ")
        assert last.endswith(" s   figures: curves.png   page: page.html")
    monkeypatch.setenv("COLUMNS", str(len(last) - 1))
    *_, results, figures, page = command("--exp drawing")[1].splitlines()
    assert results.startswith(f"results: {tmp_path}/drawing/default, ")
    assert (figures, page) == ("figures: curves.png", "page: page.html")
    page = (tmp_path / "drawing/default/page.html").read_text()
    assert "data:image/svg+xml" in page


def test_help_and_list_fit_80_columns(command, monkeypatch):
    def slow(*, epochs: int = 1):
        """A study.

        Time: days of an accelerator that nobody has; minutes of a CPU core on a small folder.
        """

    monkeypatch.setitem(EXPERIMENTS, "slow", slow)
    monkeypatch.setenv("COLUMNS", "80")
    for option in ("--help", "--list"):
        lines = command(option)[1].splitlines()
        assert max(map(len, lines)) <= 80, option
    assert any(line.startswith("--exp slow (days of an accelerator") for line in lines)


def test_a_full_disk_is_one_line_and_loses_nothing(command, tmp_path, monkeypatch):
    write = metrics_file._append_line

    def full(file, line):
        if '"epoch": 3' in line:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, line)

    with monkeypatch.context() as patch:
        patch.setattr(metrics_file, "_append_line", full)
        code, _, err = command("--exp descent --epochs 4")
    assert code == 1
    assert err.startswith("error: the disk is full")
    assert err.count("\n") == 1
    assert len(rows(tmp_path / "descent/epochs=4")) == 2
    code, out, _ = command("--exp descent --epochs 4")
    assert code == 0
    assert "resuming after epoch 2" in out


def test_a_full_disk_that_tensorstore_meets_is_an_os_error():
    with (
        pytest.raises(OSError, match="No space left") as error,
        saved_states._full_disk_as_os_error(),
    ):
        raise ValueError("RESOURCE_EXHAUSTED: Failed to write: No space left on device [...]")
    assert error.value.errno == errno.ENOSPC
    with pytest.raises(ValueError, match="shapes"), saved_states._full_disk_as_os_error():
        raise ValueError("shapes differ")


def test_a_signal_waits_for_the_end_of_a_write():
    steps = []

    def write_and_go_on():
        with interrupts.stoppable() as undisturbed:
            with undisturbed():
                signal.raise_signal(signal.SIGTERM)
                steps.append("written")
            steps.append("went on")

    with pytest.raises(KeyboardInterrupt):
        write_and_go_on()
    assert steps == ["written"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def stopped_twice(saved):
    with interrupts.stoppable():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGTERM)
            saved.append("the last state")


def test_two_signals_are_one_interruption_and_saving_is_not_interrupted(monkeypatch):
    left, saved = [], []
    monkeypatch.setattr(interrupts, "leave", left.append)
    with pytest.raises(KeyboardInterrupt):
        stopped_twice(saved)
    assert (saved, left) == (["the last state"], [])
    # Who asks again after a while does not want to wait.
    monkeypatch.setattr(interrupts, "SECONDS_OF_ONE_STOP", 0.0)
    with pytest.raises(KeyboardInterrupt):
        stopped_twice(saved)
    assert left == ["stopped at once; the same command goes on from the last checkpoint"]


def test_an_interrupt_within_a_callback_of_the_garbage_collector_is_not_lost():
    def callback(phase, info):
        if phase == "start":
            gc.callbacks.remove(callback)
            signal.raise_signal(signal.SIGTERM)

    def collect_and_go_on(steps):
        with interrupts.stoppable():
            gc.callbacks.append(callback)
            gc.collect()
            steps.append("collected")
            time.sleep(1)
            steps.append("went on")

    steps = []
    with pytest.raises(KeyboardInterrupt):
        collect_and_go_on(steps)
    assert "went on" not in steps


def test_an_interrupt_that_a_library_swallowed_still_stops_the_run():
    with interrupts.stoppable() as undisturbed:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), undisturbed():
            pass


def test_the_data_folder_goes_to_experiments_that_take_it(command, tmp_path, monkeypatch):
    def reading(*, epochs: int = 1, data_dir: str | None = None, resume: Resume = Resume()):
        yield {"epoch": epochs, "data_dir": data_dir}

    monkeypatch.setitem(EXPERIMENTS, "reading", reading)
    assert command("--exp reading --data_dir sets")[0] == 0
    (row,) = rows(tmp_path / "reading/default")
    assert row["data_dir"] == "sets"
    assert json.loads((tmp_path / "reading/default/config.json").read_text())["data_dir"] == "sets"


def test_list_and_help_say_what_there_is(command):
    code, out, _ = command("--list")
    assert code == 0
    assert "Shrinks four noisy numbers, Table 3 of Nobody (2024)." in out
    assert "--exp descent (a second of a CPU core)" in out
    assert "Two seeds." in out
    code, out, _ = command("--exp descent --help")
    assert code == 0
    assert "how often the numbers shrink" in out
    code, out, _ = command("--help")
    assert code == 0
    assert "--sweep NAME" in out
    code, out, _ = command("--version")
    assert out == f"lnl_jax {lnl_jax.__version__}, JAX {jax.__version__}\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (123456789, "123456789"),
        (0.5, "0.5000"),
        (57483.2, "57480"),
        (1234.4, "1234"),
        (1.23456e-7, "1.235e-07"),
        (1.23456e12, "1.235e+12"),
        (float("nan"), "nan"),
        (None, ""),
        ("mean", "mean"),
        (True, "True"),
    ],
)
def test_numbers_have_four_significant_digits(value, text):
    assert progress.number(value) == text


def show(rows_before, rows_now, *, terminal, epochs, width=120):
    console = Console(force_terminal=terminal, width=width, record=True, file=open(os.devnull, "w"))
    with console.file, progress.progress(console, "toy", epochs, rows_before) as update:
        for row in rows_now:
            row() if callable(row) else update(row)
    return console.export_text()


def epochs_of(start, end):
    return [
        {"epoch": e, "loss": 1 / e, "accuracy": 0.5, "examples": 100 * e}
        for e in range(start, end + 1)
    ]


def test_lines_are_sparse_where_there_is_no_terminal():
    text = show([], epochs_of(1, 100), terminal=False, epochs=100)
    shown = [int(line.split("epoch ")[1].split("/")[0]) for line in text.splitlines()]
    assert shown == [1, *range(10, 101, 10)]
    assert "loss 0.01000  accuracy 0.5000" in text.splitlines()[-1]
    assert "examples/s" in text
    assert len(show([], [{"loss": 1.0}] * 100, terminal=False, epochs=None).splitlines()) == 11


def test_the_bar_starts_where_the_earlier_session_ended():
    text = show(epochs_of(1, 50), [], terminal=True, epochs=100)
    assert "epoch 50/100" in text
    assert "━" * 15 + "╺" in text
    assert "epoch 51/100" in show(epochs_of(1, 50), epochs_of(51, 51), terminal=True, epochs=100)


def test_a_row_with_the_share_that_is_done_moves_the_bar_and_tells_the_time_left():
    rows = [{"done": done, "method": "ldr", "run_steps": int(1e4 * done)} for done in (0.2, 0.5)]
    text = show([], rows, terminal=True, epochs=7)
    assert "━" * 15 + "╺" in text
    assert "50%  0:00:00 left  ldr" in text
    assert "run-steps/s" in text
    assert "toy  20%  ldr" in show([], rows, terminal=False, epochs=7)


def compile_something():
    jax.monitoring.record_event_duration_secs(compiling._BEFORE, 0.1)


def test_compiling_is_said_while_it_lasts(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_OF_COMPILING", -1.0)
    lines = show([], [lambda: compile_something(), *epochs_of(1, 1)], terminal=False, epochs=10)
    assert lines.splitlines() == ["toy  compiling", "toy  epoch 1/10  loss 1.000  accuracy 0.5000"]
    monkeypatch.setattr(progress, "SECONDS_OF_COMPILING", 0.0)
    with compiling.watched() as seconds:
        words = progress._Words(seconds, 60)
        task = types.SimpleNamespace(fields={"named": "epoch 1/10", "words": "loss 1.000"})
        assert str(words.render(task)) == "epoch 1/10  loss 1.000"
        compile_something()
        assert str(words.render(task)) == "epoch 1/10  compiling"
        jax.monitoring.record_event_duration_secs(compiling._AFTER, 0.1)
        assert str(words.render(task)) == "epoch 1/10  loss 1.000"


def test_jax_announces_its_compilations():
    seen = []
    with compiling.watched(lambda: seen.append("begun")) as seconds:
        jax.jit(lambda x: 3 * x + len(seen))(jnp.arange(3.0))
        assert seconds() == 0
    assert seen


RESULTS = [
    {"method": "cross_entropy", "accuracy %": 90.0812, "std": 1.9534, "gain": None}
    | {"std of gain": None, "gain / its s.e.": None, "nll": 1.05, "memorized %": 3.35},
    {"method": "generalized_cross_entropy", "accuracy %": 92.5912, "std": 2.22, "gain": 2.507}
    | {"std of gain": 1.1136, "gain / its s.e.": 5.031, "nll": 0.366, "memorized %": 2.49},
]


@pytest.mark.parametrize("width", [80, 200])
def test_a_table_keeps_what_matters_in_80_columns(width):
    console = Console(width=width, record=True, file=open(os.devnull, "w"))
    rows = [row | {"chosen": "learning_rate 0.03, temperature 10"} for row in RESULTS]
    with console.file:
        progress.table(console, "results", rows, kept_in="results.csv")
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    for part in ("generalized_cross_entropy", "90.08 ± 1.95", "2.507 ± 1.114"):
        assert part in text
    left_out = "not shown: nll, memorized %, chosen; see results.csv"
    assert (left_out in text) == (width == 80)
    assert ("temperature 10" in text) == (width == 200)


def test_columns_that_are_not_shown_stay_indented_where_their_names_take_two_lines():
    console = Console(width=80, record=True, file=open(os.devnull, "w"))
    row = {f"a column of a name that is long {index}": 0.5 for index in range(9)}
    with console.file:
        progress.table(console, "results", [row], kept_in="results.csv")
    lines = console.export_text().partition("  not shown: ")[2].rstrip().splitlines()
    assert len(lines) > 2
    assert {len(line) - len(line.lstrip()) for line in lines[1:]} == {6}
    assert max(map(len, lines)) <= 80


def test_a_narrow_terminal_keeps_the_bar_and_cuts_the_end():
    text = show([], epochs_of(1, 50), terminal=True, epochs=100, width=60)
    assert len(text.splitlines()) == 1
    assert "toy ━━━━━╺━━━━ epoch 50/100  0:00:00 left" in text
    assert "examples/s" not in text


def test_speed_and_time_left_count_from_the_first_row_of_the_session():
    describe = progress._describer(10)
    assert "examples/s" not in describe({"epoch": 4, "examples": 400}, 100.0)
    text = describe({"epoch": 6, "examples": 600, "loss": 0.5, "method": "ldr"}, 104.0)
    assert text == "0:00:08 left  ldr  loss 0.5000  50.00 examples/s"
    # The next method starts from its own first epoch.
    assert "left" not in describe({"epoch": 1, "examples": 100}, 105.0)
    assert "100.0 examples/s" in describe({"epoch": 2, "examples": 200}, 106.0)


def test_a_refused_call_leaves_no_folder_but_an_interrupted_one_does(
    command, monkeypatch, tmp_path
):
    def refusing(*, epochs: int = 2):
        if epochs < 2:
            raise StudyError("epochs must be at least 2, got 1.")
        yield {"epoch": 1}
        raise ValueError("later")

    monkeypatch.setitem(EXPERIMENTS, "refusing", refusing)
    command("--exp refusing --epochs 1")
    assert not (tmp_path / "refusing").exists()
    with pytest.raises(ValueError, match="later"):
        command("--exp refusing")
    assert len(rows(tmp_path / "refusing/default")) == 1
