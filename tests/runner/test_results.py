import errno
import hashlib
import json
import math
import sys
from xml.etree import ElementTree

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from lnl_jax.runner import files, metrics_file, results, run_folder, saved_states
from lnl_jax.runner.outputs import Artifact, Checkpoint
from lnl_jax.runner.usage import UsageError
from lnl_jax.train import checkpoint

CONFIG = {"experiment": "toy", "arguments": {"epochs": 3, "rates": (0.1,)}, "argv": ["--exp"]}


def opened(path, config=CONFIG, force=False):
    return results.open_results(path, config, force=force)


def lines(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_folders_are_named_by_their_overrides():
    def name(overrides):
        return str(run_folder.folder("r", "toy", overrides))

    assert name({}) == "r/toy/default"
    overrides = {"seed": 1, "loss": "ldr", "loss.t": 10.0, "rates": (0.1, 2.0), "on": True}
    assert name(overrides) == "r/toy/loss=ldr,loss.t=10.0,on=true,rates=0.1,2.0,seed=1"
    for text in ("a/b", "x" * 100):
        digest = hashlib.sha256(f"name={text}".encode()).hexdigest()[:12]
        assert name({"name": text}) == f"r/toy/{digest}"
    assert name({"name": "x" * 95}) == "r/toy/name=" + "x" * 95


def test_config_says_what_ran_where(tmp_path):
    with opened(tmp_path):
        pass
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["arguments"] == {"epochs": 3, "rates": [0.1]}
    assert config["argv"] == ["--exp"]
    assert config["versions"]["python"] == sys.version.split()[0]
    assert config["versions"]["numpy"] == np.__version__
    assert set(config["versions"]) == {"python", *run_folder.PACKAGES}
    assert config["device"] == {"kind": "cpu", "count": 8, "platform": "cpu"}
    assert config["git"] is None or isinstance(config["git"], str)


def test_rows_are_on_disk_at_once_as_valid_json(tmp_path):
    row = {
        "epoch": np.int64(1),
        "loss": jnp.float32(0.5),
        "bad": math.nan,
        "worse": jnp.array([-jnp.inf, 1.0]),
        "method": "ldr",
        "on": np.bool_(True),
    }
    with opened(tmp_path) as run:
        run.start(resumable=True)
        assert run.write(row)["worse"] == [-math.inf, 1.0]
        (on_disk,) = lines(tmp_path)
        assert on_disk == {
            "epoch": 1,
            "loss": 0.5,
            "bad": "NaN",
            "worse": ["-Infinity", 1.0],
            "method": "ldr",
            "on": True,
        }
        with pytest.raises(TypeError, match="not int"):
            run.write(3)
    back = files.from_json(on_disk)
    assert math.isnan(back["bad"])
    assert back["worse"] == [-math.inf, 1.0]


def test_artifacts_become_files(tmp_path):
    figure = Figure()
    figure.add_subplot().plot([1, 2])
    table = [{"method": "a", "loss": jnp.float32(0.5)}, {"method": "b", "extra": math.inf}]
    with opened(tmp_path) as run:
        run.start(resumable=True)
        run.write(Artifact("curve", figure))
        run.write(Artifact("arrays", {"x": jnp.arange(3)}))
        run.write(Artifact("table", table))
        run.write(Artifact("note.txt", b"hello"))
        for name, value in [
            ("../x", b""),
            ("..", b""),
            ("x" * 300, b""),
            ("config.json", b""),
            ("page.html", b""),
            ("a", 3),
            ("a", {"x": object()}),
        ]:
            with pytest.raises((ValueError, TypeError)):
                run.write(Artifact(name, value))
        summary = run.finish()
    assert matplotlib.image.imread(tmp_path / "curve.png").ndim == 3
    assert ElementTree.parse(tmp_path / "curve.svg").getroot().tag.endswith("}svg")
    assert np.load(tmp_path / "arrays.npz")["x"].tolist() == [0, 1, 2]
    text = "method,loss,extra\na,0.5,\nb,,Infinity\n"
    assert (tmp_path / "table.csv").read_text() == text
    assert (tmp_path / "note.txt").read_bytes() == b"hello"
    expected = [{"method": "a", "loss": 0.5}, {"method": "b", "extra": math.inf}]
    assert summary["tables"] == {"table": expected}
    assert results.read_summary(tmp_path) == summary
    assert not list(tmp_path.glob(".*"))


def run_epochs(path, upto, *, stop=None):
    """Counts to `upto` in an experiment that adds its epoch to a state; may fail at `stop`."""
    with opened(path) as run:
        resume = run.start(resumable=True)
        state = resume.restore({"total": jnp.zeros((), jnp.int32)})
        for epoch in range(len(resume.rows) + 1, upto + 1):
            state = {"total": state["total"] + epoch}
            run.write({"epoch": epoch, "total": state["total"]})
            if epoch == stop:
                raise InterruptedError
            if epoch == 1:
                run.write(Artifact("first", [{"total": state["total"]}]))
            run.write(Checkpoint(state))
        return run.finish(), resume


@pytest.mark.parametrize("seconds", [0.0, 100.0])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, monkeypatch, seconds):
    monkeypatch.setattr(saved_states, "SECONDS_BETWEEN_SAVES", seconds)
    expected, _ = run_epochs(tmp_path / "whole", 6)
    with pytest.raises(InterruptedError):
        run_epochs(tmp_path / "parts", 6, stop=4)
    assert len(lines(tmp_path / "parts")) == 4
    assert results.read_summary(tmp_path / "parts") is None
    with open(tmp_path / "parts/metrics.jsonl", "a") as file:
        file.write('{"epoch": 5, "to')
    summary, resume = run_epochs(tmp_path / "parts", 6)
    assert resume.rows == [{"epoch": e, "total": e * (e + 1) // 2} for e in (1, 2, 3)]
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")
    assert summary | {"seconds": 0} == expected | {"seconds": 0}
    assert summary["tables"] == {"first": [{"total": 1}]}
    config = json.loads((tmp_path / "parts/config.json").read_text())
    assert len(config["resumed"]) == 1


def test_seconds_count_earlier_sessions(tmp_path, monkeypatch):
    now = [0.0]

    def clock():
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(results.time, "perf_counter", clock)
    with pytest.raises(InterruptedError):
        run_epochs(tmp_path, 50, stop=40)
    first_session = now[0]
    now[0] = 0.0
    summary, _ = run_epochs(tmp_path, 50)
    assert first_session > 40
    assert first_session - 10 < summary["seconds"] - now[0] < first_session


def test_an_experiment_that_cannot_resume_starts_over(tmp_path):
    with opened(tmp_path) as run:
        run.start(resumable=True)
        run.write({"epoch": 1})
        run.write(Checkpoint({"x": jnp.ones(2)}))
    with opened(tmp_path) as run:
        assert run.start(resumable=False).rows == []
        assert lines(tmp_path) == []


def test_without_a_checkpoint_the_rows_are_dropped(tmp_path):
    with opened(tmp_path) as run:
        run.start(resumable=True)
        run.write({"epoch": 1})
    with opened(tmp_path) as run:
        resume = run.start(resumable=True)
        assert resume.rows == []
        assert resume.restore({"x": 3}) == {"x": 3}
    assert lines(tmp_path) == []


CHANGED = {
    "lacks rows": lambda rows: [],
    "lacks rows ": lambda rows: [rows[0][:9]],
    "was changed: its first": lambda rows: [rows[0].replace("1", "2"), *rows[1:]],
}


@pytest.mark.parametrize("message", CHANGED)
def test_rows_that_a_checkpoint_includes_must_be_as_they_were(tmp_path, message, monkeypatch):
    monkeypatch.setattr(saved_states, "SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(saved_states, "SHARE_OF_SAVES", math.inf)
    run_epochs(tmp_path, 2)
    (tmp_path / "summary.json").unlink()
    rows = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "metrics.jsonl").write_text("".join(CHANGED[message](rows)))
    with pytest.raises(UsageError, match=message.strip()) as raised:
        run_epochs(tmp_path, 3)
    assert str(raised.value).endswith("; --force starts over")


@pytest.mark.parametrize(
    "what", ["a bit of the state", "half a row", "an edited row", "a doubled row"]
)
def test_what_is_damaged_is_named_and_the_checkpoint_before_is_used(
    tmp_path, monkeypatch, capsys, what
):
    monkeypatch.setattr(saved_states, "SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(saved_states, "SHARE_OF_SAVES", math.inf)
    expected, _ = run_epochs(tmp_path / "whole", 6)
    with pytest.raises(InterruptedError):
        run_epochs(tmp_path / "parts", 6, stop=5)
    metrics, newest = tmp_path / "parts/metrics.jsonl", tmp_path / "parts/checkpoints/4"
    rows = metrics.read_bytes().splitlines(keepends=True)
    if what == "a bit of the state":
        file = newest / "metadata/metadata"
        file.write_bytes(file.read_bytes().replace(b'"rows": 4', b'"rows": 5'))
        said = "its metadata are not as they were written"
    elif what == "half a row":
        metrics.write_bytes(b"".join(rows[:3]) + rows[3][:7])
        said = "lacks rows that its checkpoint includes"
    else:
        changed = rows[2] if what == "a doubled row" else rows[3].replace(b"10", b"11")
        metrics.write_bytes(b"".join([*rows[:3], changed]))
        said = "was changed: its first 4 rows are not those of the run"
    capsys.readouterr()
    summary, resume = run_epochs(tmp_path / "parts", 6)
    out = capsys.readouterr().out
    assert out.startswith(f"checkpoint {newest} is passed over: ")
    assert said in out
    assert out.count("\n") == 1
    assert [row["epoch"] for row in resume.rows] == [1, 2, 3]
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")
    assert summary | {"seconds": 0} == expected | {"seconds": 0}


def test_a_waiting_state_may_be_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr(saved_states, "SECONDS_BETWEEN_SAVES", 100.0)
    state = {"x": np.zeros(3), "y": jnp.zeros(3)}
    with opened(tmp_path) as run:
        run.start(resumable=True)
        run.write(Checkpoint(state))
        state["x"][:] = 1.0
        run.write(Checkpoint(state))  # waits: the first was saved just now
        state["x"][:] = 2.0
        state["y"].delete()  # as donation does
    with opened(tmp_path) as run:
        restored = run.start(resumable=True).restore({"x": np.zeros(3), "y": jnp.zeros(3)})
    assert restored["x"].tolist() == [1.0, 1.0, 1.0]


def saved_totals(path):
    manager = checkpoint.open_checkpoints(path / "checkpoints", keep=9)
    found = [
        int(checkpoint.restore(manager, step, {"total": jnp.zeros((), jnp.int32)})["total"])
        for step in manager.all_steps()
    ]
    manager.close()
    return found


@pytest.mark.parametrize(
    ("every", "totals"),
    [
        (saved_states.Every(seconds=100), [0, 5]),
        (saved_states.Every(seconds=0), [4, 5]),
        (saved_states.Every(steps=3), [3, 5]),
        (saved_states.Every(), [0, 5]),
    ],
)
def test_states_are_saved_as_often_as_is_asked_and_at_the_end(tmp_path, every, totals):
    # Where nothing is asked, the first save takes long enough for the next one to be due later.
    with results.open_results(tmp_path, CONFIG, force=False, every=every) as run:
        run.start(resumable=True)
        for total in range(6):
            run.write(Checkpoint({"total": jnp.int32(total)}))
    assert saved_totals(tmp_path) == totals


def test_the_best_state_is_kept_also_where_no_save_was_due(tmp_path):
    every = saved_states.Every(seconds=100)
    with results.open_results(tmp_path, CONFIG, force=False, every=every) as run:
        run.start(resumable=True)
        for total, score in enumerate((0.1, 0.5, 0.9, 0.3, 0.2)):
            run.write(Checkpoint({"total": jnp.int32(total)}, score))
    with results.open_results(tmp_path, CONFIG, force=False, every=every) as run:
        assert run.start(resumable=True).restore({"total": jnp.int32(0)})["total"] == 4
        for total in (5, 6):
            run.write(Checkpoint({"total": jnp.int32(total)}, 0.0))
    assert saved_totals(tmp_path) == [2, 5, 6]


def test_another_configuration_is_refused_and_force_starts_over(tmp_path):
    run_epochs(tmp_path, 2)
    other = CONFIG | {"arguments": {"epochs": 4, "rates": (0.1,), "new": None}}
    with pytest.raises(UsageError) as error, opened(tmp_path, other):
        pass
    text = str(error.value)
    assert "epochs 3 there and 4 here; new absent there and none here; --force" in text
    assert "rates" not in text
    with opened(tmp_path, other, force=True) as run:
        assert run.summary is None
        assert run.start(resumable=True).rows == []
        assert not (tmp_path / "checkpoints").exists()
    assert json.loads((tmp_path / "config.json").read_text())["arguments"]["epochs"] == 4


def test_two_processes_cannot_write_one_folder(tmp_path):
    with (
        opened(tmp_path),
        pytest.raises(UsageError, match="another process is writing"),
        opened(tmp_path, force=True),
    ):
        pass
    with opened(tmp_path):
        pass


class _FullDisk:
    """A file that takes five more bytes."""

    def __init__(self, file):
        self.file, self.left = file, 5
        self.fileno, self.truncate = file.fileno, file.truncate

    def write(self, data):
        if not self.left:
            raise OSError(errno.ENOSPC, "No space left on device")
        count, self.left = self.file.write(data[: self.left]), 0
        return count


def test_a_full_disk_leaves_no_half_row(tmp_path):
    with open(tmp_path / "metrics.jsonl", "ab", buffering=0) as file:
        metrics_file._append_line(file, '{"epoch": 1}')
        with pytest.raises(OSError, match="No space"):
            metrics_file._append_line(_FullDisk(file), '{"epoch": 2}')
    assert (tmp_path / "metrics.jsonl").read_text() == '{"epoch": 1}\n'


def test_a_failed_write_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    files.write_file(path, b"earlier")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        files.write_file(path, b"later")
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]
