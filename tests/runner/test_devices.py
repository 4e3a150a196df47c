"""`--devices`: what it says, what it refuses, and a run that goes on over another number."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import runner, train
from lnl_jax.runner.outputs import Checkpoint, Resume


def interrupted(epoch):
    """Tests replace it."""


def adding(*, epochs: int = 4, batch_size: int = 16, resume: Resume = Resume()):
    """Adds the means of a batch that is split."""

    def step(state, batch):
        return state + batch["x"].mean(0), {}

    mesh = train.batch_mesh(batch_size)
    run = jax.jit(step if mesh is None else train.data_parallel(step, mesh))
    batch = {"x": jnp.sin(jnp.arange(3.0 * batch_size)).reshape(batch_size, 3)}
    state = resume.restore(jnp.zeros(3))
    for epoch in range(len(resume.rows) + 1, epochs + 1):
        interrupted(epoch)
        state, _ = run(state, batch)
        yield {"epoch": epoch, "sum": float(state.sum()), "devices": len(state.devices())}
        yield Checkpoint(state)


@pytest.fixture
def command(tmp_path, capsys):
    def run(*words):
        words = ["--exp", "adding", *words, "--results_dir", str(tmp_path)]
        code = runner.main({"adding": adding}, argv=words)
        return code, *capsys.readouterr()

    return run


def rows(tmp_path):
    (file,) = tmp_path.rglob("metrics.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize(
    ("words", "devices", "line"),
    [
        ("--devices 4", 4, "batches of 16 over 4 devices, 4 examples on each"),
        ("", 1, "batches of 16 on one of 8 devices, where each would get 2 examples"),
        ("--batch_size 256", 8, "batches of 256 over 8 devices, 32 examples on each"),
        ("--devices 1", 1, ""),
    ],
)
def test_a_run_says_over_how_many_devices_it_is(command, tmp_path, words, devices, line):
    code, out, _ = command("--epochs", "1", *words.split())
    assert code == 0
    assert line in out
    assert ("batches of" in out) == bool(line)
    assert [row["devices"] for row in rows(tmp_path)] == [devices]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--devices 9", "error: devices must be from 1 to the 8 that are here, got 9.\n"),
        (
            "--devices 3",
            "error: devices must divide the batch of 16 examples (batch_size), got 3.\n",
        ),
        (
            "--devices 0",
            "error: argument --devices: must be a whole number from 1 on, got 0\n",
        ),
    ],
)
def test_devices_that_cannot_be_are_one_line(command, tmp_path, words, line):
    code, _, err = command(*words.split())
    assert (code, err) == (2, line)
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_a_run_goes_on_over_another_number_of_devices(command, tmp_path, monkeypatch):
    """In the same folder: where it is computed is no part of what is computed."""

    def stop(epoch):
        if epoch == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(globals(), "interrupted", stop)
        assert command("--devices", "8")[0] == 130
    code, out, _ = command("--devices", "2")
    assert code == 0
    assert "resuming after epoch 2" in out
    found = rows(tmp_path)
    assert [row["devices"] for row in found] == [8, 8, 2, 2]
    each = np.sin(np.arange(48.0)).reshape(16, 3).mean(0).sum()
    np.testing.assert_allclose(
        [row["sum"] for row in found], each * np.arange(1, 5), rtol=1e-5, atol=1e-6
    )
