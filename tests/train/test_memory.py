"""What programs take and devices hold: counted by the compiler, told by the device."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import train
from lnl_jax.comparison.runs import memory_of
from lnl_jax.runner.arguments import StudyError, check_memory
from lnl_jax.train import Runs, chunks, data_sets_that_fit, in_lanes, in_turn
from lnl_jax.train.memory import free_bytes, program_bytes
from tests.train.test_chunks import BATCH, DATA_SETS, STEPS, TRAINER, make_problem, step


def test_a_program_takes_its_arguments_its_results_and_what_is_between():
    matrix = jax.ShapeDtypeStruct((200, 300), jnp.float32)

    def function(x):
        return jnp.sort(x @ x.T, axis=0).sum()

    found = program_bytes(function, matrix)
    assert found >= 4 * (200 * 300 + 200 * 200 + 1)
    assert found < 4 * (200 * 300 + 8 * 200 * 200)
    # What is donated is counted once, and a function may be compiled already.
    twice = program_bytes(lambda x: 2 * x, matrix)
    assert twice == 2 * 4 * 200 * 300
    assert program_bytes(lambda x: 2 * x, matrix, donate_argnums=0) == twice / 2
    assert program_bytes(jax.jit(lambda x: 2 * x, donate_argnums=0), matrix) == twice / 2


def test_a_cpu_does_not_tell_its_memory_so_that_nothing_changes_there():
    assert free_bytes() is None
    assert data_sets_that_fit(TRAINER, *make_problem(), BATCH) is None


class Device:
    def __init__(self, limit, used):
        self.limit, self.used = limit, used

    def memory_stats(self):
        return {"bytes_limit": self.limit, "bytes_in_use": self.used}


def test_as_many_data_sets_are_chosen_as_the_fullest_device_holds(monkeypatch):
    settings, data_sets = make_problem()
    many = jax.tree.map(lambda values: np.concatenate([values] * 20), data_sets)
    count = 20 * DATA_SETS
    each = []
    inner = chunks.program_bytes
    monkeypatch.setattr(
        chunks, "program_bytes", lambda *args, **more: each.append(inner(*args, **more)) or each[-1]
    )
    monkeypatch.setattr(jax, "local_devices", lambda: [Device(10**9, 0)] * 2)
    assert data_sets_that_fit(TRAINER, settings, many, BATCH) == count
    # State, data set and batch of one data set with its two settings, at least.
    leaves = jax.tree.leaves(data_sets)
    assert each[0] > sum(leaf.nbytes for leaf in leaves) / DATA_SETS
    assert each[0] < 20_000
    devices = [Device(10**9, 0), Device(10 * each[0] + 500, 500)]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    found = data_sets_that_fit(TRAINER, settings, many, BATCH)
    assert found % 2 == 0
    assert found * each[0] <= chunks.SHARE * 2 * 10 * each[0]
    assert found >= 12
    with train.over_devices(1):
        # Those that may be used, not all that are here.
        assert data_sets_that_fit(TRAINER, settings, many, BATCH) == count
    monkeypatch.setattr(jax, "local_devices", lambda: devices[::-1])
    with train.over_devices(1):
        assert data_sets_that_fit(TRAINER, settings, many, BATCH) <= chunks.SHARE * 10
    monkeypatch.setattr(jax, "local_devices", lambda: [Device(each[0] // 2, 0)])
    with pytest.raises(ValueError, match="memory must hold a data set per device"):
        data_sets_that_fit(TRAINER, settings, many, BATCH)


@contextlib.contextmanager
def compilations():
    """The names of the programs that are compiled, as they are."""
    compiled = []

    def listen(event, duration, **more):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(str(more.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_runs_in_lanes_compile_their_steps_ahead_and_not_again():
    settings, data_sets = make_problem()
    runs = in_lanes(TRAINER._replace(step=with_metrics), settings, data_sets)
    rows = {"position": np.zeros((STEPS, DATA_SETS, BATCH), np.int32)}
    rows["mask"] = np.ones(rows["position"].shape, bool)
    with compilations() as compiled:
        found = runs.memory(rows)
        assert compiled == ["jit(run)"]
        # As `fit_together` calls it.
        runs.run_steps(jax.tree.map(jnp.copy, runs.state), rows)
        restored = jax.tree.map(np.asarray, runs.state)
        runs.run_steps(restored, rows)
        assert compiled.count("jit(run)") == 1
    # All data, and the states as argument and result at once.
    held = [*jax.tree.leaves(data_sets), *jax.tree.leaves(runs.state), *rows.values()]
    assert found > sum(leaf.nbytes for leaf in held)
    assert found < 5 * sum(leaf.nbytes for leaf in held) + 10_000


def test_runs_in_turn_compile_their_step_ahead_and_not_again():
    settings, data_sets = make_problem()
    each = [jax.tree.map(lambda values, at=at: values[at], data_sets) for at in range(DATA_SETS)]
    runs = in_turn(TRAINER._replace(step=with_metrics), settings, each)
    rows = {"position": np.zeros((STEPS, DATA_SETS, BATCH), np.int32)}
    rows["mask"] = np.ones(rows["position"].shape, bool)
    with compilations() as compiled:
        found = runs.memory(rows)
        ahead = len(compiled)
        runs.run_steps(runs.state, rows)
        assert "_scan" in str(compiled[:ahead])
        assert "_scan" not in str(compiled[ahead:])
    # The data of one run, and its state as argument and result at once.
    held = [*jax.tree.leaves(each[0]), *jax.tree.leaves(runs.state)]
    assert found > sum(leaf.nbytes for leaf in jax.tree.leaves(each[0]))
    assert found < 20 * sum(leaf.nbytes for leaf in held) + 10_000
    # What is streamed from the host is not known ahead.
    streamed = in_turn(TRAINER, settings, each, batches=lambda one, rows: [])
    assert streamed.memory(rows) is None


def with_metrics(setting, part, state, batch):
    state, _ = step(setting, part, state, batch)
    return state, {"loss": state["w"].sum()}


def test_the_memory_of_all_runs_is_the_largest_program_with_all_states():
    one, other = jnp.zeros(10), jnp.zeros((2, 5), jnp.int8)
    runs = [Runs(state, None, None, lambda rows, n=n: n) for n, state in ((7, one), (5, other))]
    assert memory_of(runs, {}) == 7 + 40 + 10
    assert memory_of([*runs, Runs(one, None, None)], {}) is None


def test_a_run_that_needs_more_than_the_device_has_is_refused_before_it_starts():
    assert check_memory(1_230_000_000, 2 * 10**9) == "about 1.2 GB on the device"
    assert check_memory(11_300_000, None) == "about 11 MB on the device"
    with pytest.raises(StudyError, match="needs about 3.5 GB of the device's 2.0 GB: .*batch_size"):
        check_memory(3_500_000_000, 2 * 10**9)
