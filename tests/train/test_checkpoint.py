import asyncio
import dataclasses
import gc
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import weakref
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax.train import checkpoint, digests


class Moments(NamedTuple):
    mean: Any
    count: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Table:
    values: Any
    rule: str = dataclasses.field(metadata={"static": True})


def make_state(scale=1.0):
    """Everything a train state may hold; `scale` tells two states apart."""
    return {
        "params": {"a.b/c": scale * jnp.arange(6.0).reshape(2, 3) / 7, "empty": jnp.zeros((0, 3))},
        "moments": (Moments(scale * jnp.ones(3, jnp.bfloat16), jnp.int32(4)), ()),
        "tables": {"t": Table(scale * jnp.array([0.1, jnp.nan, -0.0]), "mean")},
        "keys": (jax.random.key(int(scale)), jax.random.split(jax.random.key(3, impl="rbg"), 2)),
        "host": {"rows": np.arange(4, dtype=np.uint8), "rate": np.float32(scale), "epoch": 7},
        "nothing": None,
    }


def raw(leaf):
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return str(jax.random.key_impl(leaf)), np.asarray(jax.random.key_data(leaf)).tobytes()
    return str(np.asarray(leaf).dtype), np.shape(leaf), np.asarray(leaf).tobytes()


def assert_same(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert raw(a) == raw(b)
        assert isinstance(a, jax.Array) == isinstance(b, jax.Array)


@pytest.fixture
def manager(tmp_path):
    manager = checkpoint.open_checkpoints(tmp_path / "checkpoints")
    yield manager
    manager.close()


def reopen(manager):
    manager.close()
    return checkpoint.open_checkpoints(manager.directory)


def test_restored_state_is_bitwise_the_saved_one(manager):
    state = make_state(3.0)
    checkpoint.save(manager, 1, state, {"rows": 5})
    manager = reopen(manager)
    step, restored, metadata = checkpoint.restore_latest(manager, make_state())
    assert (step, metadata) == (1, {"rows": 5})
    assert checkpoint.latest_metadata(manager) == {"rows": 5}
    assert_same(restored, state)
    assert restored["tables"]["t"].rule == "mean"
    manager.close()


def test_an_empty_folder_restores_nothing(manager):
    assert checkpoint.latest_metadata(manager) is None
    assert checkpoint.restore_latest(manager, make_state()) is None


def test_only_the_newest_checkpoints_stay(tmp_path):
    manager = checkpoint.open_checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        checkpoint.save(manager, step, {"x": jnp.full(2, step)}, {"rows": step})
    manager = reopen(manager)
    assert manager.all_steps() == [2, 3]
    assert checkpoint.restore_latest(manager, {"x": jnp.zeros(2, int)})[1]["x"].tolist() == [3, 3]
    manager.close()


def test_arrays_may_be_donated_or_overwritten_while_the_save_runs(manager):
    donate = jax.jit(lambda tree: jax.tree.map(lambda x: 0 * x - 1, tree), donate_argnums=0)
    state = {"device": jnp.arange(1 << 20), "host": np.arange(1 << 20)}
    checkpoint.save(manager, 1, state, {})
    state["host"][:] = -1
    state["device"] = donate(state["device"])
    manager.wait_until_finished()
    restored = checkpoint.restore_latest(manager, state)[1]
    np.testing.assert_array_equal(restored["device"], np.arange(1 << 20))
    np.testing.assert_array_equal(restored["host"], np.arange(1 << 20))


def test_shardings_are_those_of_the_present_state(manager):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.NamedSharding(mesh, jax.P("data"))
    replicated = jax.NamedSharding(mesh, jax.P())
    x, key = jnp.arange(8.0), jax.random.key(5)
    saved = {
        "split": jax.device_put(x, sharded),
        "joined": jax.device_put(x, sharded),
        "key": jax.device_put(key, replicated),
        "free": key,
    }
    checkpoint.save(manager, 1, saved, {})
    manager.wait_until_finished()
    like = {
        "split": jax.ShapeDtypeStruct((8,), jnp.float32, sharding=sharded),
        "joined": x,
        "key": jax.device_put(key, sharded.update(spec=jax.P())),
        "free": key,
    }
    restored = checkpoint.restore_latest(manager, like)[1]
    assert_same(restored, saved)
    assert restored["split"].sharding == sharded
    assert restored["key"].sharding == replicated
    assert restored["joined"].sharding == x.sharding
    # What was free to follow other arrays onto a mesh still is.
    assert not restored["joined"].committed
    assert not restored["free"].committed
    assert (restored["joined"] + restored["split"]).sharding == sharded


def _without(state):
    del state["params"]["a.b/c"]


def _reshaped(state):
    state["params"]["a.b/c"] = jnp.zeros((3, 2))


def _retyped(state):
    state["params"]["a.b/c"] = jnp.zeros((2, 3), jnp.bfloat16)


def _longer(state):
    state["tables"]["u"] = jnp.zeros(2)


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        (_without, ["['params']['a.b/c']", "float32[2,3] there", "absent here"]),
        (_reshaped, ["['params']['a.b/c']", "float32[2,3] there", "float32[3,2] here"]),
        (_retyped, ["['params']['a.b/c']", "float32[2,3] there", "bfloat16[2,3] here"]),
        (_longer, ["['tables']['u']", "absent there", "float32[2] here"]),
    ],
)
def test_a_state_of_another_form_is_refused(manager, change, texts):
    checkpoint.save(manager, 1, make_state(), {})
    manager.wait_until_finished()
    like = make_state()
    change(like)
    with pytest.raises(ValueError, match="does not fit") as error:
        checkpoint.restore_latest(manager, like)
    for text in [str(manager.directory), "delete the folder", *texts]:
        assert text in str(error.value)


def test_what_is_no_array_and_a_step_that_goes_back_are_refused(manager):
    with pytest.raises(ValueError, match=r"\['name'\] is a str"):
        checkpoint.save(manager, 1, {"name": "adam"}, {})
    checkpoint.save(manager, 2, {"x": jnp.ones(1)}, {})
    with pytest.raises(ValueError, match="step 2 is not after"):
        checkpoint.save(manager, 2, {"x": jnp.ones(1)}, {})


SAVES_FOR_EVER = textwrap.dedent("""
    import sys, jax, jax.numpy as jnp
    from lnl_jax.train import checkpoint
    manager = checkpoint.open_checkpoints(sys.argv[1])
    latest = checkpoint.restore_latest(manager, {"x": jnp.zeros(1 << 22)})
    step = latest[0] + 1 if latest else 1
    while True:
        checkpoint.save(manager, step, {"x": jnp.full(1 << 22, step, float)}, {"rows": step})
        print(step, flush=True)
        step += 1
""")


def test_a_kill_during_a_save_leaves_the_previous_one(tmp_path):
    like = {"x": jnp.zeros(1 << 22)}
    for _ in range(2):  # the second process starts from what the first one left behind
        command = [sys.executable, "-c", SAVES_FOR_EVER, str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        started = [int(process.stdout.readline()) for _ in range(3)][-1]
        # `save` waits for the one before it, so step `started` is now being written.
        deadline = time.time() + 5
        while not list(tmp_path.glob("*tmp*")) and time.time() < deadline:
            pass
        process.send_signal(signal.SIGKILL)
        started = max([started, *map(int, process.stdout.read().split())])
        process.wait()
        process.stdout.close()
        assert list(tmp_path.glob("*tmp*")), "the kill came between two saves"
        manager = checkpoint.open_checkpoints(tmp_path)
        step, restored, metadata = checkpoint.restore_latest(manager, like)
        manager.close()
        assert started - 1 <= step <= started
        assert metadata == {"rows": step}
        np.testing.assert_array_equal(restored["x"], np.full(1 << 22, step, np.float32))
        assert not list(tmp_path.glob("*tmp*"))


def noisy(seed):
    """What cannot be compressed: its bytes are the largest file."""
    x = np.random.default_rng(seed).normal(size=500).astype(np.float32)
    return {"x": jnp.asarray(x), "key": jax.random.key(seed)}


def saved_thrice(directory):
    manager = checkpoint.open_checkpoints(directory, keep=3)
    for step in (1, 2, 3):
        checkpoint.save(manager, step, noisy(step), {"rows": step})
    manager.close()
    return directory / "3"


def flip(file, place, bit=0):
    data = bytearray(file.read_bytes())
    data[place] ^= 1 << bit
    file.write_bytes(data)


def damage_a_file(kind):
    def damage(folder):
        files = [file for file in folder.rglob("*") if file.is_file()]
        largest = max((f for f in files if "/d/" in str(f)), key=lambda f: f.stat().st_size)
        metadata = folder / "metadata/metadata"
        match kind:
            case "data":
                flip(largest, largest.stat().st_size // 2)
            case "cut":
                largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
            case "metadata":
                metadata.write_bytes(metadata.read_bytes().replace(b'"rows": 3', b'"rows": 7'))
            case "no metadata":
                metadata.write_bytes(b"")
            case "no arrays":
                shutil.rmtree(folder / "state")
            case "half-written":
                for file in files:
                    file.unlink()

    return damage


@pytest.mark.parametrize(
    "kind", ["data", "cut", "metadata", "no metadata", "no arrays", "half-written"]
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, kind):
    damage_a_file(kind)(saved_thrice(tmp_path))
    manager = checkpoint.open_checkpoints(tmp_path, keep=3)
    like = noisy(0)
    with pytest.warns(UserWarning, match=rf"{tmp_path}/3 is skipped for the one before") as warned:
        step, state, metadata = checkpoint.restore_latest(manager, like)
    assert "\n" not in str(warned[0].message)
    assert (step, metadata) == (2, {"rows": 2})
    assert_same(state, noisy(2))
    with pytest.raises(ValueError, match="3 cannot be used"):
        checkpoint.restore(manager, 3, like)
    # The next save comes after it, and what was whole is kept until then.
    checkpoint.save(manager, 4, state, {"rows": 4})
    manager.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        manager = checkpoint.open_checkpoints(tmp_path, keep=3)
        assert checkpoint.latest_metadata(manager) == {"rows": 4}
    manager.close()


def test_where_no_checkpoint_is_whole_nothing_is_taken_for_a_fresh_start(tmp_path):
    saved_thrice(tmp_path)
    for step in "123":
        damage_a_file("cut")(tmp_path / step)
    manager = checkpoint.open_checkpoints(tmp_path, keep=3)
    with pytest.warns(UserWarning, match="is skipped"), pytest.raises(ValueError, match="is whole"):
        checkpoint.restore_latest(manager, noisy(0))
    manager.close()


def test_what_a_failed_restore_leaves_half_done_is_not_told_and_all_else_is(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_value))
    saved_thrice(tmp_path)
    damage_a_file("cut")(tmp_path / "3")
    manager = checkpoint.open_checkpoints(tmp_path, keep=3)
    with pytest.warns(UserWarning, match="is skipped"):
        assert checkpoint.restore_latest(manager, noisy(0))[0] == 2
    manager.close()
    assert not told
    loop = asyncio.new_event_loop()
    loop.close()

    def raise_where_nobody_catches(function, *args):
        held = threading.Event()
        reference = weakref.ref(held, lambda reference: function(*args))
        del held
        assert reference() is None

    # A thread of TensorStore does this when it ends a read of the loop that was closed.
    raise_where_nobody_catches(loop.call_soon_threadsafe, print)
    assert not told
    raise_where_nobody_catches(int, "x")
    assert [type(error) for error in told] == [ValueError]


def test_the_best_checkpoint_stays_beside_the_last_ones(tmp_path):
    scores = [0.2, 0.9, 0.5, float("nan"), 0.6, 0.7]
    for step, score in enumerate(scores, 1):
        manager = checkpoint.open_checkpoints(tmp_path, keep=2)
        checkpoint.save(manager, step, {"x": jnp.full(2, step)}, {}, score=score)
        manager.close()
    manager = checkpoint.open_checkpoints(tmp_path, keep=2)
    assert manager.all_steps() == [2, 5, 6]
    assert checkpoint.best_step(manager) == 2
    like = {"x": jnp.zeros(2, int)}
    assert checkpoint.restore(manager, 2, like)["x"].tolist() == [2, 2]
    manager.close()


def test_a_digest_does_not_depend_on_where_an_array_is():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x = jnp.arange(24.0).reshape(8, 3)
    split = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    found = digests.digests({"x": x, "number": 3})
    assert found == digests.digests({"x": split, "number": np.int64(3)})
    assert digests.damage_of({"x": np.asarray(x), "number": 3}, found) == ""
    # Of an array that is split over processes each has the digests of its parts.
    parts = {
        digests._place(shard.index): digests._sha256(shard.data)
        for shard in split.addressable_shards
    }
    assert digests.damage_of({"x": x}, {"x": parts}) == ""
    assert "bytes of leaf x" in digests.damage_of({"x": x.at[7, 2].set(1)}, {"x": parts})
    assert "leaf y is not there" in digests.damage_of({"x": x}, {"y": parts})


def test_whatever_byte_of_whatever_file_changes_nothing_wrong_is_restored(tmp_path, rng):
    saved_thrice(tmp_path / "whole")
    files = [file for file in sorted((tmp_path / "whole/3").rglob("*")) if file.is_file()]
    for file in files:
        shutil.copytree(tmp_path / "whole", tmp_path / "copy")
        flip(
            tmp_path / "copy" / file.relative_to(tmp_path / "whole"),
            rng.integers(file.stat().st_size),
        )
        manager = checkpoint.open_checkpoints(tmp_path / "copy", keep=3)
        found = next(f for f in checkpoint.look_through(manager) if not f.damage)
        assert found.metadata == {"rows": found.step}
        assert_same(checkpoint.restore(manager, found.step, noisy(0)), noisy(found.step))
        manager.close()
        shutil.rmtree(tmp_path / "copy")
    gc.collect()
