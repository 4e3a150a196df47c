"""Contrastive losses on many devices, keys gathered or sent round, and in chunks of the encoder."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from lnl_jax import contrastive
from tests.contrastive.test_contrastive import SETTINGS, fresh, shapes, unit, visited

pytestmark = pytest.mark.usefixtures("small_tiles")

SIZE = 16


def train_step(queries, keys, rows, positives=None, block_size=None):
    values, new, aux = contrastive.isogclr(
        queries, keys, rows, positives=positives, block_size=block_size, **SETTINGS
    )
    return values.sum() / SIZE, (new, aux)


def gathered(queries, keys, rows, block_size):
    """The device's part of the loss, with all keys on each device."""
    everything = jax.lax.all_gather(keys, "data", tiled=True)
    places = jax.lax.axis_index("data") * len(queries) + jnp.arange(len(queries))
    return train_step(queries, everything, rows, places, block_size)


def round_the_ring(queries, keys, rows, block_size):
    statistics = contrastive.ring_statistics(
        queries, keys, axis_name="data", temperature=rows.temperature, block_size=block_size
    )
    values, new, aux = contrastive.isogclr_from_statistics(statistics, rows, **SETTINGS)
    return values.sum() / SIZE, (new, aux)


def on_one_device(queries, keys, rows):
    return jax.jit(jax.value_and_grad(train_step, (0, 1), has_aux=True))(queries, keys, rows)


def close(actual, expected):
    for ours, one in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, one, rtol=1e-5, atol=1e-6)


def sharded(function, num_devices, out_specs):
    mesh = Mesh(np.asarray(jax.devices()[:num_devices]), ("data",))
    split = PartitionSpec("data")
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=split, out_specs=out_specs))


SOME = [
    (2, 3),
    *(pytest.param(n, size, marks=pytest.mark.slow) for n in (2, 4, 8) for size in (None, 2)),
]


@pytest.mark.parametrize(("num_devices", "block_size"), SOME)
@pytest.mark.parametrize("share", [gathered, round_the_ring])
def test_devices_change_nothing(rng, share, num_devices, block_size):
    queries, keys, rows = unit(rng, SIZE, 4), unit(rng, SIZE, 4), visited(SIZE)

    def local(queries, keys, rows):
        step = jax.value_and_grad(
            functools.partial(share, block_size=block_size), (0, 1), has_aux=True
        )
        (value, state), grads = step(queries, keys, rows)
        return (jax.lax.psum(value, "data"), state), grads

    split = PartitionSpec("data")
    run = sharded(local, num_devices, ((PartitionSpec(), split), split))
    close(run(queries, keys, rows), on_one_device(queries, keys, rows))


@pytest.mark.parametrize("share", [pytest.param(gathered, marks=pytest.mark.slow), round_the_ring])
def test_pmap_changes_nothing(rng, share):
    queries, keys, rows = unit(rng, SIZE, 4), unit(rng, SIZE, 4), visited(SIZE)

    def local(queries, keys, rows):
        step = jax.value_and_grad(functools.partial(share, block_size=3), (0, 1), has_aux=True)
        (value, state), grads = step(queries, keys, rows)
        return (jax.lax.psum(value, "data"), state), grads

    parts = jax.tree.map(lambda a: a.reshape(4, -1, *a.shape[1:]), (queries, keys, rows))
    (value, state), grads = jax.pmap(local, "data", devices=jax.devices()[:4])(*parts)
    joined = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), (state, grads))
    (expected, state), grads = on_one_device(queries, keys, rows)
    close((value[0], *joined), (expected, state, grads))


@pytest.mark.parametrize("num_devices", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_views_and_shared_parameters_round_the_ring(rng, num_devices):
    """Padding is left out, and the gradient of parameters that all devices share counts once."""
    x, weights = unit(rng, SIZE, 2, 4), jnp.asarray(rng.normal(size=(4, 4)), jnp.float32)
    mask, temperature = jnp.arange(SIZE) % 8 < 7, jnp.linspace(0.1, 0.5, SIZE)

    def embed(weights, x):
        return jnp.swapaxes(x @ weights, 0, 1)

    def whole(weights):
        z = embed(weights, x)
        kept = jnp.tile(mask, 2)
        values = contrastive.info_nce(z, z, temperature=temperature, where=kept)
        return jnp.where(mask, values, 0).sum() / SIZE

    def share(weights, x, mask, temperature):
        z = embed(weights, x)
        statistics = contrastive.ring_statistics(
            z, z, axis_name="data", temperature=temperature, where=jnp.tile(mask, 2), block_size=5
        )
        return jnp.where(mask, contrastive.info_nce_from_statistics(statistics), 0).sum() / SIZE

    def local(x, mask, temperature):
        value, gradient = jax.value_and_grad(share)(weights, x, mask, temperature)
        return jax.lax.psum(value, "data"), gradient

    run = sharded(local, num_devices, PartitionSpec())
    close(run(x, mask, temperature), jax.jit(jax.value_and_grad(whole))(weights))


@pytest.mark.slow
def test_shared_gradients_are_summed_already(rng):
    """`shard_map` has done it: one more `psum` counts them once per device, and says nothing."""
    x, weights = unit(rng, SIZE, 4), jnp.eye(4)

    def share(weights, x):
        z = x @ weights
        statistics = contrastive.ring_statistics(z, z, axis_name="data", temperature=0.2)
        return contrastive.info_nce_from_statistics(statistics).sum() / SIZE

    def local(x):
        gradient = jax.grad(share)(weights, x)
        return gradient, jax.lax.psum(gradient, "data")

    gradient, summed_again = sharded(local, 2, PartitionSpec())(x)
    whole = jax.jit(jax.grad(lambda w: contrastive.info_nce(x @ w, x @ w, temperature=0.2).mean()))
    close(gradient, whole(weights))
    close(summed_again, 2 * gradient)


def test_example_indices_travel_with_the_keys(rng):
    """Captions of the same image on another device are no negatives."""
    z, index = unit(rng, 4, 3), jnp.array([7, 8, 8, 9])

    def local(z, index):
        return contrastive.ring_statistics(
            z, z, axis_name="data", temperature=0.2, query_index=index, key_index=index
        )

    found = sharded(local, 2, PartitionSpec("data"))(z, index)
    whole = contrastive.contrastive_statistics(
        z, z, temperature=0.2, query_index=index, key_index=index
    )
    assert found.count.tolist() == [3, 2, 2, 3]
    close(found, whole)


def test_the_ring_holds_no_key_of_all_devices_and_takes_a_mask_of_its_own_keys(rng):
    def local(z):
        return contrastive.info_nce_from_statistics(
            contrastive.ring_statistics(z, z, axis_name="data", temperature=0.2, block_size=2)
        ).sum()

    per_device = jax.ShapeDtypeStruct((1, 8, 4), jnp.float32)
    gradient = jax.pmap(jax.grad(local), "data", devices=jax.devices()[:1])
    jaxpr = jax.make_jaxpr(gradient)(per_device)
    assert max(int(np.prod(shape)) for shape in shapes(jaxpr.jaxpr)) == 8 * 4
    z = jnp.eye(2)
    with pytest.raises(ValueError, match="where must say which of the device's own keys"):
        contrastive.ring_statistics(z, z, axis_name="data", temperature=1.0, where=jnp.ones((2, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("block_size", [None, 4])
def test_a_sharded_batch_of_one_program_is_the_same(rng, block_size):
    queries, keys, rows = unit(rng, SIZE, 4), unit(rng, SIZE, 4), visited(SIZE)
    step = jax.value_and_grad(
        functools.partial(train_step, block_size=block_size), (0, 1), has_aux=True
    )
    mesh = Mesh(np.asarray(jax.devices()[:2]), ("data",))
    split = jax.device_put((queries, keys, rows), jax.NamedSharding(mesh, PartitionSpec("data")))
    step = jax.jit(step)
    close(step(*split), step(queries, keys, rows))


HIDDEN = 37


def encode(params, batch):
    noise = jax.vmap(lambda key: jax.random.normal(key, (2, 5)))(batch["key"])
    hidden = jax.nn.relu((batch["x"] + 0.1 * noise) @ params["first"])
    z = hidden @ params["second"]
    return z / jnp.linalg.norm(z, axis=-1, keepdims=True)


def loss_of(rows):
    def loss(params, embeddings):
        views = jnp.swapaxes(embeddings, 0, 1)
        values, new, aux = contrastive.isogclr(views, views, rows, block_size=4, **SETTINGS)
        scale = jnp.exp(params["log_scale"])
        own = contrastive.info_nce(views[0], views[1], temperature=scale)
        return (values + own).mean(), (new, aux)

    return loss


@pytest.mark.parametrize("chunk", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 64))])
def test_chunks_of_the_encoder_change_nothing(rng, chunk):
    shapes_of = {"first": (5, HIDDEN), "second": (HIDDEN, 4), "log_scale": ()}
    params = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes_of.items()}
    batch = {"x": unit(rng, 10, 2, 5), "key": jax.random.split(jax.random.key(0), 10)}
    loss = loss_of(fresh(10))

    @jax.jit
    def both(params, batch):
        cached = contrastive.cached_contrastive_grads(encode, params, batch, loss, chunk)
        plain = jax.value_and_grad(lambda p: loss(p, encode(p, batch)), has_aux=True)
        return cached, plain(params)

    close(*both(params, batch))


def test_only_one_chunk_of_activations_is_alive():
    params = {"first": jnp.zeros((5, HIDDEN)), "second": jnp.zeros((HIDDEN, 4))}
    params["log_scale"] = jnp.zeros(())
    batch = {"x": jnp.zeros((32, 2, 5)), "key": jax.random.split(jax.random.key(0), 32)}

    def most_activations(grads):
        found = shapes(jax.make_jaxpr(grads)(params, batch).jaxpr)
        sizes = [int(np.prod(shape)) for shape in found if HIDDEN in shape]
        return max(sizes) // (2 * HIDDEN)

    loss = loss_of(fresh(32))
    plain = jax.grad(lambda p, batch: loss(p, encode(p, batch))[0])
    assert most_activations(plain) == 32
    cached = functools.partial(contrastive.cached_contrastive_grads, encode, loss=loss, chunk=4)
    assert most_activations(lambda p, batch: cached(p, batch)[1]) == 4


@pytest.mark.parametrize(
    ("chunk", "lengths", "message"),
    [(0, (3, 3), "chunk must be an integer from 1"), (2, (3, 4), r"got the lengths \[3, 4\]")],
)
def test_chunks_and_batches_that_do_not_fit_are_named(chunk, lengths, message):
    batch = [jnp.zeros((length, 2)) for length in lengths]
    with pytest.raises(ValueError, match=message):
        contrastive.cached_contrastive_grads(None, None, batch, None, chunk)
