"""What programs take and devices hold: counted by the compiler, told by the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax.train import memory
from lnl_jax.train.memory import data_sets_that_fit, free_bytes, program_bytes
from tests.train.test_chunks import BATCH, DATA_SETS, TRAINER, make_problem


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
    inner = memory.program_bytes
    monkeypatch.setattr(
        memory, "program_bytes", lambda *args, **more: each.append(inner(*args, **more)) or each[-1]
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
    assert found * each[0] <= memory.SHARE * 2 * 10 * each[0]
    assert found >= 12
    monkeypatch.setattr(jax, "local_devices", lambda: [Device(each[0] // 2, 0)])
    with pytest.raises(ValueError, match="memory must hold a data set per device"):
        data_sets_that_fit(TRAINER, settings, many, BATCH)
