"""Stages of a study: computed once, kept by name, and no row twice whatever stops the run."""

import errno
import json

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from experiments import EXPERIMENTS
from lnl_jax.runner import files
from lnl_jax.runner.outputs import Artifact, Checkpoint, Kept, Resume, Stage
from lnl_jax.runner.stages import stage
from tests.experiments import commands

calls = []


class Stopped(BaseException):
    """Stands for a kill."""


def met(place):
    calls.append(place)
    if stop_at is not None and len(calls) == stop_at:
        raise Stopped


def prepare(scale):
    met("prepare")
    return {"weights": scale * jnp.arange(3.0), "names": ["a", "b"], "file": b"\0\1", "size": 3}


def train(prepared, *, epochs, resume):
    state = resume.restore({"x": np.zeros(3, np.float32)})
    for epoch in range(len(resume.rows), epochs):
        met(f"train {epoch}")
        state = {"x": np.float32(state["x"] + prepared["weights"])}
        yield {"epoch": epoch + 1, "loss": float(state["x"].sum())}
        yield Checkpoint(state)
    yield Artifact("trained", [{"sum": float(state["x"].sum())}])
    return state["x"]


def staged(*, epochs: int = 3, scale: float = 2.0):
    """Three stages with rows within and between them."""
    prepared = yield from stage("prepare, all of it", prepare, scale)
    yield {"epoch": 0, "loss": float(prepared["weights"].sum())}
    trained = yield from stage("train", train, prepared, epochs=epochs)
    total = yield from stage("total", lambda: (met("total"), np.float32(trained.sum()))[1])
    yield {"epoch": epochs + 1, "loss": float(total)}
    met("end")
    yield Artifact("result", [{"total": float(total), "names": "".join(prepared["names"])}])


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "staged", staged)

    def run_once(stop=None, *more):
        global stop_at
        stop_at = stop
        calls.clear()
        monkeypatch.setattr("lnl_jax.runner.saved_states.SECONDS_BETWEEN_SAVES", 0.0)
        monkeypatch.setattr("lnl_jax.runner.saved_states.SHARE_OF_SAVES", 1e9)
        return commands.main(["--exp", "staged", "--results_dir", str(tmp_path), *more])

    run_once.path = tmp_path / "staged/default"
    return run_once


def outcome(path):
    summary = json.loads((path / "summary.json").read_text())
    return (path / "metrics.jsonl").read_text(), summary["last"], summary["tables"]


def test_a_run_that_is_stopped_anywhere_ends_like_one_that_is_not(command):
    assert command() == 0
    expected, places = outcome(command.path), list(calls)
    assert places == ["prepare", "train 0", "train 1", "train 2", "total", "end"]
    for stop in range(1, len(places) + 1):
        with pytest.raises(Stopped):
            command(stop, "--force")
        assert command() == 0
        assert calls == places[stop - 1 :], "What had ended was computed again."
        assert outcome(command.path) == expected


def test_a_run_that_is_stopped_at_every_place_in_turn_ends_alike(command):
    command()
    expected = outcome(command.path)
    with pytest.raises(Stopped):
        command(1, "--force")
    for _ in range(5):
        with pytest.raises(Stopped):
            command(2)
    assert command() == 0
    assert outcome(command.path) == expected


def test_without_a_runner_stages_are_computed():
    global stop_at
    stop_at = None
    rows = [output for output in staged() if isinstance(output, dict)]
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3, 4]


def test_a_result_comes_back_as_it_was(command, monkeypatch):
    result = {
        "half": np.arange(6, dtype=ml_dtypes.bfloat16).reshape(2, 3).T,
        "none": np.zeros((0, 4), np.int8),
        "list": [True, None, 1, 2.5, "text", b"bytes", {}],
        "scalar": np.float64(np.nan),
    }
    seen = []

    def study():
        """Keeps what it is given."""
        seen.append((yield from stage("kept", lambda: result)))
        seen.append((yield from stage("second", lambda: met("second"))))

    monkeypatch.setitem(EXPERIMENTS, "staged", study)
    with pytest.raises(Stopped):
        command(1)
    command()
    again, first = seen[1], seen[0]
    for found in (first, again):
        assert found["list"] == result["list"]
        for name in ("half", "none", "scalar"):
            assert found[name].dtype == result[name].dtype
            np.testing.assert_array_equal(found[name], result[name])


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"a": (1, 2)}, r"stage x\['a'\] is a tuple; a stage returns dicts"),
        ([Resume()], r"stage x\[0\] is a Resume"),
        ({1: 2}, "stage x is a dict; a stage returns dicts with text as keys"),
    ],
)
def test_a_result_that_cannot_be_kept_is_named(result, message):
    with pytest.raises(TypeError, match=message):
        list(stage("x", lambda: result))


def test_a_random_key_says_what_to_return():
    import jax

    with pytest.raises(TypeError, match="return jax.random.key_data"):
        list(stage("x", lambda: [jax.random.key(0)]))


def test_a_stage_asks_first_and_is_not_called_where_the_answer_is_known():
    asking = stage("x", lambda: 1 / 0)
    assert next(asking) == Stage("x", resumable=False)
    with pytest.raises(StopIteration) as ended:
        asking.send(Kept("x", 7))
    assert ended.value.value == 7


@pytest.mark.parametrize("nested", [False, True])
def test_names_belong_to_one_stage_and_stages_do_not_nest(command, monkeypatch, nested):
    def inner():
        yield from stage("x" if not nested else "y", lambda: 0)

    def study():
        """Wrong in one of two ways."""
        yield from stage("x", inner if nested else lambda: 0)
        yield from inner()

    monkeypatch.setitem(EXPERIMENTS, "staged", study)
    with pytest.raises(RuntimeError, match="within another one" if nested else "two stages are"):
        command()


@pytest.fixture
def run_twice(command, monkeypatch, capsys):
    """Runs one study, which a kill stops, then another in its folder; returns what that said."""

    def run_both(first, second):
        monkeypatch.setitem(EXPERIMENTS, "staged", first)
        with pytest.raises(Stopped):
            command(1)
        monkeypatch.setitem(EXPERIMENTS, "staged", second)
        capsys.readouterr()
        code = command()
        return code, capsys.readouterr().err

    return run_both


def two_stages(first="a", second="b", *, resumable=True):
    """A study whose second stage is stopped behind a checkpoint."""

    def resuming(resume):
        yield {"epoch": 2}
        yield Checkpoint({"x": np.ones(2)})
        met("second")
        return 2

    def study():
        """Two stages."""
        yield from stage(first, lambda: 1)
        yield {"epoch": 1}
        if second is not None:
            yield from stage(second, resuming if resumable else lambda: 2)
        yield {"epoch": 3}

    return study


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"first": "c"}, "is of the stage 'a', where this run has 'c'"),
        ({"second": "c"}, "is not of the stage 'c'"),
        ({"resumable": False}, "is not of the stage 'b'"),
    ],
)
def test_a_study_that_changed_its_stages_is_told_to_start_over(run_twice, changed, message):
    code, err = run_twice(two_stages(), two_stages(**changed))
    assert code == 2
    assert message in err
    assert err.endswith("--force starts over\n")


def test_a_study_that_left_out_a_stage_that_had_ended_is_told_to_start_over(run_twice):
    def longer():
        """Stops behind its second stage."""
        yield from two_stages(resumable=False)()
        met("end")

    code, err = run_twice(longer, two_stages(second=None))
    assert code == 2
    assert "of a stage that this run has not; --force starts over" in err


@pytest.mark.parametrize("broken", ["cut short", "one bit", "gone", "the second"])
def test_a_result_that_is_damaged_is_named_and_computed_again(command, capsys, broken):
    assert command() == 0
    expected = outcome(command.path)
    with pytest.raises(Stopped):
        command(6, "--force")
    first, second, _ = sorted((command.path / "stages").iterdir())
    data = bytearray(first.read_bytes())
    data[-1] ^= 1
    match broken:
        case "cut short":
            first.write_bytes(data[:-3])
        case "one bit":
            first.write_bytes(data)
        case "gone":
            first.unlink()
        case _:
            second.write_bytes(data)
    capsys.readouterr()
    assert command() == 0
    said = "lacks its stage 000; " if broken == "gone" else " is damaged; "
    assert f"{said}that stage and those after it are computed again\n" in capsys.readouterr().out
    # Of the second one the last checkpoint within it is left.
    assert calls[0] == ("total" if broken == "the second" else "prepare")
    assert outcome(command.path) == expected


def test_a_checkpoint_that_nothing_could_go_on_from_is_refused(command, monkeypatch):
    def saving():
        yield Checkpoint({"x": np.ones(2)})

    def in_a_stage():
        yield from stage("a", saving)

    for study, message in (
        (in_a_stage, "stage 'a' yields a Checkpoint, so it must take the keyword resume"),
        (saving, "a study yields a Checkpoint, so it must take"),
    ):
        monkeypatch.setitem(EXPERIMENTS, "staged", study)
        with pytest.raises(TypeError, match=message):
            command()


def test_a_study_has_stages_or_goes_on_itself(command, monkeypatch):
    def study(*, resume: Resume = Resume()):
        yield from stage("a", lambda: 1)

    monkeypatch.setitem(EXPERIMENTS, "staged", study)
    with pytest.raises(TypeError, match="a study that takes resume; one with stages does not"):
        command()


def test_a_result_may_be_changed_in_place_also_after_an_interruption(command, monkeypatch):
    def study():
        """Counts in its result."""
        result = yield from stage("a", lambda: {"x": jnp.zeros(2)})
        result["x"] += 1
        met("changed")
        yield {"epoch": 1, "loss": float(result["x"].sum())}

    monkeypatch.setitem(EXPERIMENTS, "staged", study)
    with pytest.raises(Stopped):
        command(1)
    assert command() == 0
    assert outcome(command.path)[1] == {"epoch": 1, "loss": 2.0}


def test_text_in_an_array_is_refused_before_it_could_not_be_read():
    with pytest.raises(TypeError, match=r"stage x\['a'\] is an array of <U2; .* array.tolist"):
        list(stage("x", lambda: {"a": np.array(["b", "cd"])}))


def test_a_kill_within_the_writing_of_a_result_costs_that_stage(command, monkeypatch):
    assert command() == 0
    expected = outcome(command.path)

    def killed(path, data):
        path.with_name(f".{path.name}.tmp").write_bytes(data[:5])
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr("lnl_jax.runner.kept_stages.write_file", killed)
        with pytest.raises(Stopped):
            command(None, "--force")
    assert calls == ["prepare"]
    assert command() == 0
    assert calls[0] == "prepare"
    assert outcome(command.path) == expected


def test_a_full_disk_at_the_end_of_a_stage_costs_what_follows_its_checkpoint(
    command, monkeypatch, capsys
):
    assert command() == 0
    expected = outcome(command.path)

    def full(path, data):
        if "train" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        files.write_file(path, data)

    with monkeypatch.context() as patch:
        patch.setattr("lnl_jax.runner.kept_stages.write_file", full)
        assert command(None, "--force") == 1
    assert "the disk is full" in capsys.readouterr().err
    assert command() == 0
    assert calls == ["total", "end"]
    assert outcome(command.path) == expected
