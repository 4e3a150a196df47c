"""Batches split over the devices of a mesh, in every loop, against one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lnl_jax import losses, train

EXAMPLES, BATCH, FEATURES, CLASSES, STEPS = 48, 16, 5, 3, 4


def loss_fn(params, extra, rows, batch, key):
    logits = batch["x"] @ params["w"] + params["b"][None]
    noise = 0.01 * jax.random.normal(key, logits.shape, logits.dtype)
    found, rows = losses.aldr_kl_step(logits + noise, batch["label"], rows)
    return found, (extra, rows, {"surprise": losses.ldr_kl(logits, batch["label"])})


def start(dtype=jnp.float32):
    params = {"w": jnp.zeros((FEATURES, CLASSES), dtype), "b": jnp.zeros(CLASSES, dtype)}
    tables = train.Table(jnp.ones(EXAMPLES, dtype))
    return train.init_state(params, TX, key=jax.random.key(0), tables=tables)


TX = optax.adam(0.1)
STEP = train.make_train_step(loss_fn, TX)


@pytest.fixture
def data_set(rng):
    return {
        "x": rng.normal(size=(EXAMPLES, FEATURES)),
        "label": rng.integers(CLASSES, size=EXAMPLES, dtype=np.int32),
        "index": np.arange(EXAMPLES, dtype=np.int32),
    }


def rows(rng):
    mask = np.ones((STEPS, BATCH), bool)
    mask[-1, 5:] = False
    position = rng.integers(EXAMPLES, size=(STEPS, BATCH), dtype=np.int32)
    return {"position": position, "mask": mask}


def trained(data_set, batches, make_run, mesh=None, dtype=jnp.float32, **options):
    step, held = STEP, {name: jnp.asarray(values) for name, values in data_set.items()}
    held["x"] = held["x"].astype(dtype)
    if mesh is not None:
        step, held = train.data_parallel(step, mesh, **options), train.replicate(held, mesh)
    return make_run(train.gather_batches(step, held))(start(dtype), batches)


@pytest.mark.parametrize("devices", [2, 8])
@pytest.mark.parametrize("make_run", [train.scan_steps, train.dispatch_steps])
def test_more_devices_give_the_state_and_metrics_of_one(rng, data_set, make_run, devices):
    batches = rows(rng)
    expected = trained(data_set, batches, make_run)
    for options in ({}, {"split_tables": True}):
        found = trained(data_set, batches, make_run, train.data_mesh(devices), **options)
        for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
            if not jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
                np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)
        values = found[0].tables.values
        held = EXAMPLES // devices if options else EXAMPLES
        assert {len(shard.data) for shard in values.addressable_shards} == {held}
        assert found[0].params["w"].sharding.is_fully_replicated


def test_in_float64_they_differ_by_rounding_alone(rng, data_set, float64):
    batches, run = rows(rng), functools.partial(trained, data_set, dtype=jnp.float64)
    expected = run(batches, train.scan_steps)
    found = run(batches, train.scan_steps, train.data_mesh(8))
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        if not jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    assert expected[1]["loss"].dtype == jnp.float64


def test_each_device_computes_its_share(data_set):
    """Of the products of the batch with the weights, forward and back."""
    mesh = train.data_mesh(8)
    step = jax.jit(train.data_parallel(STEP, mesh))
    batch = {name: jnp.asarray(values[:BATCH]) for name, values in data_set.items()}
    batch["x"] = batch["x"].astype(jnp.float32)
    text = step.lower(start(), batch | {"mask": jnp.ones(BATCH, bool)}).compile().as_text()
    assert f"f32[{BATCH // 8},{CLASSES}]" in text
    assert f"f32[{BATCH},{CLASSES}]" not in text


@pytest.mark.parametrize(("what", "size"), [("the batch", 12), ("the tables", EXAMPLES)])
def test_shares_that_are_not_whole_are_refused(data_set, what, size):
    count = size if what == "the batch" else BATCH
    mesh = train.data_mesh(8)
    state = start()
    if what == "the tables":
        state = state._replace(tables=train.Table(jnp.ones(EXAMPLES - 1)))
    step = jax.jit(train.data_parallel(STEP, mesh, split_tables=True))
    batch = {name: jnp.asarray(values[:count]) for name, values in data_set.items()}
    with pytest.raises(ValueError, match=f"{what} must have a multiple of 8 .* got "):
        step(state, batch | {"mask": jnp.ones(count, bool)})
