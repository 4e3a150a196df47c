import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax.train import data_mesh, replicate, shard_batch


def rows_by_device(array):
    return {shard.device: shard.data.shape[0] for shard in array.addressable_shards}


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_a_mesh_has_the_first_devices(devices):
    mesh = data_mesh(devices)
    assert mesh.devices.tolist() == jax.devices()[:devices]
    assert mesh.axis_names == ("data",)


def test_a_mesh_has_all_devices_unless_told():
    assert data_mesh().size == jax.device_count() == 8


@pytest.mark.parametrize("devices", [0, -1, 9])
def test_a_mesh_of_devices_that_are_not_there_raises(devices):
    with pytest.raises(
        ValueError, match=f"num_devices must be an integer from 1 to 8, got {devices}"
    ):
        data_mesh(devices)


def test_every_device_holds_its_part_of_the_batch_in_order(rng):
    batch = {"x": rng.normal(size=(8, 3)).astype(np.float32), "label": np.arange(8)}
    split = shard_batch(batch, data_mesh(4))
    for name, values in split.items():
        assert rows_by_device(values) == dict.fromkeys(jax.devices()[:4], 2)
        np.testing.assert_array_equal(values, batch[name])
    last = split["label"].addressable_shards[-1]
    assert (last.device, np.asarray(last.data).tolist()) == (jax.devices()[3], [6, 7])


@pytest.mark.parametrize("name", ["x", "label"])
def test_a_batch_that_does_not_divide_raises_with_the_repair(name):
    batch = {"x": np.zeros((8, 2)), "label": np.zeros(8)}
    batch[name] = batch[name][:6]
    with pytest.raises(ValueError, match="6 examples, not a multiple of 4 devices; pad it.*mask"):
        shard_batch(batch, data_mesh(4))


def test_every_device_holds_a_copy_of_what_is_replicated():
    tree = replicate(
        {"w": jnp.arange(3.0), "key": jax.random.key(0), "n": np.int32(4)}, data_mesh(2)
    )
    for leaf in jax.tree.leaves(tree):
        assert leaf.sharding.is_fully_replicated
        assert leaf.devices() == set(jax.devices()[:2])
    assert tree["w"].tolist() == [0, 1, 2]


def test_what_a_compiled_step_leaves_behind_stays_where_it_was(rng):
    mesh = data_mesh(4)
    params = replicate(jnp.ones(3), mesh)
    batch = shard_batch(rng.normal(size=(8, 3)).astype(np.float32), mesh)
    new = jax.jit(lambda params, batch: params - (batch @ params) @ batch)(params, batch)
    assert new.sharding.is_equivalent_to(params.sharding, 1)
