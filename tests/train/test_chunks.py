import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax.train import chunks, lockstep
from lnl_jax.train.chunks import chunk_size, in_chunks, run_bytes
from lnl_jax.train.lockstep import Trainer
from lnl_jax.train.sharding import data_mesh

DATA_SETS, SIZE, BATCH, STEPS = 3, 10, 4, 3


def start(setting, part):
    # A row of state per training example is part of a run.
    return {"w": part["w"], "visits": jnp.zeros(SIZE), "momentum": jnp.zeros(2)}


def step(setting, part, state, batch):
    def loss(w):
        errors = jnp.tanh(batch["x"] @ w) - setting["target"] * batch["y"]
        return jnp.where(batch["mask"], errors**2, 0).sum() / batch["mask"].sum()

    momentum = 0.9 * state["momentum"] + jax.grad(loss)(state["w"])
    visits = state["visits"].at[batch["index"]].add(jnp.where(batch["mask"], batch["y"], 0))
    w = state["w"] - setting["learning_rate"] * momentum
    return {"w": w, "visits": visits, "momentum": momentum}, {}


def measure(setting, part, state):
    return {"w": state["w"], "visits": state["visits"]}


TRAINER = Trainer(start, step, measure)


@pytest.fixture(scope="module")
def problem():
    return make_problem()


def make_problem():
    rng = np.random.default_rng(0)
    part = {
        "x": rng.normal(size=(DATA_SETS, SIZE, 2)).astype(np.float32),
        "y": rng.normal(size=(DATA_SETS, SIZE)).astype(np.float32),
        "index": np.tile(np.arange(SIZE, dtype=np.int32), (DATA_SETS, 1)),
    }
    w = rng.normal(size=(DATA_SETS, 2)).astype(np.float32)
    settings = {
        "learning_rate": np.float32([0.1, 0.03]),
        "target": np.float32([1.0, 0.5]),
    }
    return settings, {"train": part, "w": w}


def plan(epoch):
    rows = np.zeros((STEPS, DATA_SETS, BATCH), np.int32)
    for data_set in range(DATA_SETS):
        order = np.random.default_rng((data_set, epoch)).permutation(SIZE)
        rows[:, data_set].flat[:SIZE] = order
    mask = (np.arange(STEPS * BATCH) < SIZE).reshape(STEPS, 1, BATCH)
    return {"position": rows, "mask": np.broadcast_to(mask, rows.shape)}


def alone(settings, data_sets, data_set, setting, epochs):
    """One run by itself, step by step."""
    setting = {name: values[setting] for name, values in settings.items()}
    part = jax.tree.map(lambda values: jnp.asarray(values[data_set]), data_sets)
    state = start(setting, part)
    for epoch in range(epochs):
        rows = plan(epoch)
        for number in range(STEPS):
            at = rows["position"][number, data_set]
            batch = {name: values[at] for name, values in part["train"].items()}
            batch["mask"] = jnp.asarray(rows["mask"][number, data_set])
            state, _ = jax.jit(step)(setting, part, state, batch)
    return state


@pytest.mark.parametrize(("devices", "chunk"), [(1, 3), (1, 2), (2, 2)])
def test_every_run_is_what_it_would_be_alone(problem, devices, chunk):
    settings, data_sets = problem
    found = in_chunks(
        TRAINER, settings, data_sets, plan, epochs=3, chunk=chunk, mesh=data_mesh(devices)
    )
    seen = []
    for members, measured in found:
        for position, data_set in enumerate(members):
            for setting in range(2):
                expected = alone(settings, data_sets, data_set, setting, 3)
                for name in ("w", "visits"):
                    np.testing.assert_allclose(
                        measured[name][position, setting], expected[name], rtol=2e-6, atol=1e-6
                    )
        assert len(measured["w"]) == len(members)
        seen += members
    assert seen == [0, 1, 2]


PROCESS = """
import sys
import jax
jax.distributed.initialize(f"localhost:{sys.argv[1]}", 2, int(sys.argv[2]))
import numpy as np
from lnl_jax.train import chunks, lockstep
from lnl_jax.train.sharding import data_mesh
from lnl_jax.train.chunks import in_chunks
from tests.train import test_chunks as t
settings, data_sets = t.make_problem()
mesh = data_mesh(2)
assert mesh.size == 2 and len(jax.local_devices()) == 1
found = in_chunks(t.TRAINER, settings, data_sets, t.plan, epochs=2, chunk=2, mesh=mesh)
np.savez(sys.argv[3], w=np.concatenate([measured["w"] for _, measured in found]))
"""


@pytest.mark.slow
def test_two_processes_find_what_one_does(problem, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    files = [tmp_path / f"{rank}.npz" for rank in range(2)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "JAX_NUM_CPU_DEVICES": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(port), str(rank), str(file)],
            env=environment,
            cwd=pathlib.Path(__file__).parents[2],
        )
        for rank, file in enumerate(files)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    whole = in_chunks(TRAINER, *problem, plan, epochs=2, chunk=3, mesh=data_mesh(1))
    expected = next(whole)[1]["w"]
    for file in files:
        np.testing.assert_allclose(np.load(file)["w"], expected, rtol=2e-6, atol=1e-6)


def test_a_sweep_goes_on_after_what_was_finished(problem):
    settings, data_sets = problem
    whole = list(
        in_chunks(TRAINER, settings, data_sets, plan, epochs=1, chunk=1, mesh=data_mesh(1))
    )
    rest = list(
        in_chunks(
            TRAINER, settings, data_sets, plan, epochs=1, chunk=1, mesh=data_mesh(1), finished=2
        )
    )
    assert [list(members) for members, _ in rest] == [[2]]
    np.testing.assert_array_equal(rest[0][1]["w"], whole[2][1]["w"])


@pytest.mark.parametrize(
    ("steps_per_call", "expected"),
    # Two data sets with two settings, then the third one; the padded member does not count.
    [(STEPS, [(1, 12), (2, 12), (1, 6), (2, 6)]), (2 * STEPS, [(2, 24), (2, 12)])],
)
def test_the_steps_of_all_runs_are_reported(problem, monkeypatch, steps_per_call, expected):
    monkeypatch.setattr(chunks, "STEPS_PER_CALL", steps_per_call)
    settings, data_sets = problem
    reports = []
    list(
        in_chunks(
            TRAINER,
            settings,
            data_sets,
            plan,
            epochs=2,
            chunk=2,
            mesh=data_mesh(1),
            report=lambda *values: reports.append(values),
        )
    )
    assert reports == expected


def test_wide_vectors_change_no_number(problem, monkeypatch, optimised):
    def trained():
        # A trainer of its own, whose programs no other test has made.
        trainer = Trainer(start, lambda *arguments: step(*arguments), measure)
        return next(in_chunks(trainer, *problem, plan, epochs=2, chunk=3, mesh=data_mesh(1)))[1]

    wide = trained()
    monkeypatch.setattr(lockstep, "WIDE_VECTORS", {})
    for name, values in trained().items():
        np.testing.assert_array_equal(values, wide[name])


def test_calls_have_equally_many_epochs():
    assert [list(each) for each in chunks._together(range(6), chunks.STEPS_PER_CALL // 4)] == [
        [0, 1, 2],
        [3, 4, 5],
    ]
    assert [len(each) for each in chunks._together(range(7), chunks.STEPS_PER_CALL // 4)] == [1] * 7
    assert len(list(chunks._together(range(5), 10 * chunks.STEPS_PER_CALL))) == 5


def test_the_memory_of_a_run_counts_its_state_twice(problem):
    settings, data_sets = jax.tree.map(lambda values: values[0], problem)
    state = 4 * (2 + SIZE + 2)
    assert run_bytes(TRAINER, settings, data_sets, BATCH) > 2 * state


def test_chunks_fit_the_memory_and_are_of_equal_size():
    assert chunk_size(35, 100, memory=1000, devices=1) == 9
    assert chunk_size(35, 100, memory=1e9, devices=1, at_most=12) == 12
    assert chunk_size(3, 100, memory=1e9, devices=2) == 4


def test_bad_input_is_named(problem):
    settings, data_sets = problem
    with pytest.raises(ValueError, match="memory must hold a data set per device, 200 bytes"):
        chunk_size(3, 100, memory=150, devices=2)
    with pytest.raises(ValueError, match="chunk must be a multiple of the 2 devices, got 3"):
        next(in_chunks(TRAINER, settings, data_sets, plan, epochs=1, chunk=3, mesh=data_mesh(2)))
    with pytest.raises(ValueError, match="epochs must be an integer from 1 on"):
        next(in_chunks(TRAINER, settings, data_sets, plan, epochs=0, chunk=1, mesh=data_mesh(1)))
