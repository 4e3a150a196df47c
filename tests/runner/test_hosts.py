"""Options of a run on several hosts, and what one process does alone; two are in tests/faults."""

import contextlib
import socket
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import runner, train
from lnl_jax.runner import hosts, shared_results
from lnl_jax.runner.usage import UsageError
from lnl_jax.train.sharding import rows_of_this_process, whole_batch
from tests.runner.toys import descent

ALL = "--coordinator localhost:1 --num_processes 2 --process_id"


def free_port():
    with contextlib.closing(socket.socket()) as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def refused(tmp_path, capsys, words):
    words = ["--exp", "descent", *words.split(), "--results_dir", str(tmp_path / "results")]
    assert runner.main({"descent": descent}, argv=words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "results").exists()
    assert not hosts.is_connected()
    return err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--coordinator localhost:1", "--coordinator belongs to --distributed"),
        ("--process_id 0", "--process_id belongs to --distributed"),
        ("--heartbeat_timeout 9", "--heartbeat_timeout belongs to --distributed"),
        ("--distributed --coordinator localhost", "must be HOST:PORT with a port from 1 to 65535"),
        ("--distributed --coordinator localhost:70000", "HOST:PORT"),
        ("--distributed --coordinator :80", "HOST:PORT"),
        ("--distributed --coordinator localhost:1", "--coordinator needs --num_processes"),
        ("--distributed --process_id 1", "--process_id needs --coordinator"),
        (f"--distributed {ALL} 2", "--process_id must be from 0 to 1"),
        (f"--distributed {ALL} -1", "from 0 on, got -1"),
        (f"--distributed {ALL} one", "from 0 on, got one"),
        ("--distributed --num_processes 0", "from 1 on, got 0"),
        (f"--distributed {ALL} 1 --epochs no", "epochs"),
    ],
)
def test_options_that_do_not_fit_together_are_refused_in_a_line(tmp_path, capsys, words, expected):
    assert expected in refused(tmp_path, capsys, words)


def test_a_coordinator_that_nobody_reaches_is_waited_for_no_longer_than_was_said(tmp_path, capsys):
    words = f"--distributed --coordinator localhost:{free_port()} --num_processes 2 --process_id 1"
    began = time.monotonic()
    err = refused(tmp_path, capsys, f"{words} --initialization_timeout 1")
    assert "was not reached in 1 s" in err
    assert time.monotonic() - began < 10


def test_the_help_names_all_options(capsys):
    assert runner.main({"descent": descent}, argv=["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"--{name}" in out for name in ("distributed", *hosts._OPTIONS))


def test_a_process_alone_is_the_first_and_has_all_rows():
    assert hosts.is_first()
    assert not hosts.are_several()
    assert hosts.from_first(lambda: b"told") == b"told"
    mesh = train.data_mesh()
    batch = {"x": np.arange(2 * mesh.size, dtype=np.float32)}
    own = rows_of_this_process(batch, mesh)
    whole = whole_batch(own, mesh)["x"]
    assert len(whole.sharding.device_set) == mesh.size
    np.testing.assert_array_equal(whole, batch["x"])
    state = {"x": whole, "key": jax.random.key(1), "step": 3}
    assert train.on_this_process(state) == state


def test_a_state_comes_back_from_its_bytes_as_it_was():
    mesh = train.data_mesh()
    state = {
        "bound": train.replicate(jnp.float32([-0.0, jnp.nan, 2.0]), mesh),
        "free": jnp.arange(3),
        "key": jax.random.key(5, impl="rbg"),
        "half": jnp.ones(2, jnp.bfloat16),
        "empty": jnp.zeros((0, 2)),
        "host": np.arange(2.0),
        "scalar": np.float64(0.1),
        "count": 3,
        "flag": True,
    }
    found = shared_results._in_the_form_of(state, shared_results._packed(state))
    assert jax.tree.structure(found) == jax.tree.structure(state)
    for name, leaf in state.items():
        assert type(found[name]) is type(leaf)
        if isinstance(leaf, jax.Array):
            assert found[name].dtype == leaf.dtype
            assert found[name].sharding == leaf.sharding
            assert found[name].committed == leaf.committed
    assert shared_results._packed(found) == shared_results._packed(state)


def test_what_has_failed_in_the_first_process_is_told_whatever_its_name(tmp_path):
    def fail():
        raise UsageError("another process is writing caf\udce9")

    with pytest.raises(UsageError, match="another process"):
        hosts.from_first(fail)
