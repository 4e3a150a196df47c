"""Batch norm against its formula in NumPy, with padding and over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from lnl_jax.models._batch_norm import BatchNorm

SHAPE = (8, 3, 2, 5)
MASK = np.array([1, 1, 1, 1, 1, 0, 0, 0], bool)  # the last of four devices holds padding alone


def drawn(rng, shape=SHAPE):
    return jnp.asarray(2 + 3 * rng.normal(size=shape), jnp.float32)


def variables(rng):
    row = lambda: jnp.asarray(rng.uniform(0.5, 2, size=SHAPE[-1:]), jnp.float32)  # noqa: E731
    return {
        "params": {"scale": row(), "bias": row()},
        "batch_stats": {"mean": row(), "var": row()},
    }


def train(state, inputs, mask=None, **options):
    norm = BatchNorm(**options)
    return norm.apply(state, inputs, train=True, mask=mask, mutable=["batch_stats"])


def test_it_starts_as_the_identity_of_standardised_inputs(rng):
    state = BatchNorm().init(jax.random.key(0), drawn(rng), train=True)
    expected = {"scale": 1, "bias": 0}, {"mean": 0, "var": 1}
    for collection, values in zip(("params", "batch_stats"), expected, strict=True):
        assert {name: set(row.tolist()) for name, row in state[collection].items()} == {
            name: {value} for name, value in values.items()
        }


def test_training_standardises_and_keeps_a_running_average(rng):
    inputs, state = drawn(rng), variables(rng)
    outputs, new = train(state, inputs)
    inputs, params, old = jax.tree.map(np.asarray, (inputs, state["params"], state["batch_stats"]))
    mean, var = inputs.mean((0, 1, 2)), inputs.var((0, 1, 2))
    expected = (inputs - mean) / np.sqrt(var + 1e-5) * params["scale"] + params["bias"]
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    for name, value in (("mean", mean), ("var", var)):
        kept = 0.9 * old[name] + 0.1 * value
        np.testing.assert_allclose(new["batch_stats"][name], kept, rtol=1e-5)


def test_evaluation_uses_the_running_statistics_alone(rng):
    inputs, state = drawn(rng), variables(rng)
    outputs = BatchNorm().apply(state, inputs, train=False)
    inputs, params, old = jax.tree.map(np.asarray, (inputs, state["params"], state["batch_stats"]))
    expected = (inputs - old["mean"]) / np.sqrt(old["var"] + 1e-5)
    expected = expected * params["scale"] + params["bias"]
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


def loss_and_gradients(state, inputs, mask=None):
    """Of a loss over the examples that count."""

    def loss(params, inputs):
        outputs, new = train(state | {"params": params}, inputs, mask)
        kept = slice(None) if mask is None else MASK
        return jnp.sin(outputs[kept]).sum(), new

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(state["params"], inputs)


def test_padding_changes_neither_values_nor_gradients_nor_statistics(rng):
    inputs, state = drawn(rng), variables(rng)
    padded = loss_and_gradients(state, inputs.at[5:].mul(100), jnp.asarray(MASK))
    (loss, new), (params, gradient) = padded
    (expected_loss, expected_new), (expected_params, expected) = loss_and_gradients(
        state, inputs[:5]
    )
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(close, (new, params), (expected_new, expected_params))
    close(gradient[:5], expected)
    np.testing.assert_array_equal(gradient[5:], 0)


def test_a_batch_of_padding_alone_leaves_the_statistics(rng):
    state = variables(rng)
    outputs, new = train(state, drawn(rng), jnp.zeros(8, bool))
    jax.tree.map(np.testing.assert_array_equal, new["batch_stats"], state["batch_stats"])
    assert jnp.isfinite(outputs).all()


def over_devices(kind, function, inputs, mask):
    split = [values.reshape(4, 2, *values.shape[1:]) for values in (inputs, mask)]
    if kind == "vmap":
        return jax.jit(jax.vmap(function, axis_name="devices"))(*split)
    if kind == "pmap":
        return jax.pmap(function, axis_name="devices", devices=jax.devices()[:4])(*split)
    mesh = jax.make_mesh(
        (4,), ("devices",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:4]
    )
    spec = PartitionSpec("devices")

    def stacked(inputs, mask):
        return jax.tree.map(lambda leaf: leaf[None], function(inputs, mask))

    mapped = jax.shard_map(stacked, mesh=mesh, in_specs=spec, out_specs=spec)
    return jax.jit(mapped)(inputs, mask)


@pytest.mark.parametrize("kind", ["vmap", "pmap", "shard_map"])
def test_devices_with_unequal_padding_agree_with_one(rng, kind):
    """Statistics, values and the gradient of the inputs, which reaches over the devices."""
    inputs, state, mask = drawn(rng), variables(rng), jnp.asarray(MASK)

    def on_all(inputs, mask, **options):
        def loss(inputs):
            outputs, new = train(state, inputs, mask, **options)
            outputs = jnp.where(mask[:, None, None, None], outputs, 0)
            return jnp.sin(outputs).sum(), (outputs, new["batch_stats"])

        return jax.grad(loss, has_aux=True)(inputs)

    gradient, (outputs, stats) = jax.jit(on_all)(inputs, mask)
    shared = over_devices(kind, lambda *rows: on_all(*rows, axis_name="devices"), inputs, mask)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    close(shared[0].reshape(SHAPE), gradient)
    close(shared[1][0].reshape(SHAPE), outputs)
    for device in range(4):
        jax.tree.map(lambda a, b, device=device: close(a[device], b), shared[1][1], stats)


def test_half_precision_comes_back_with_statistics_in_float32(rng):
    inputs = (1 + drawn(rng, (64, 16, 16, 5)) / 64).astype(jnp.bfloat16)
    outputs, new = train(variables(rng), inputs, momentum=0.0)
    assert outputs.dtype == jnp.bfloat16
    for name, moment in (("mean", np.mean), ("var", np.var)):
        assert new["batch_stats"][name].dtype == jnp.float32
        expected = moment(np.float64(inputs.astype(jnp.float32)), (0, 1, 2))
        np.testing.assert_allclose(new["batch_stats"][name], expected, rtol=1e-3)


@pytest.mark.parametrize("mask", [jnp.ones(7, bool), jnp.ones(8), jnp.ones((8, 1), bool)])
def test_a_mask_of_another_form_is_refused(rng, mask):
    with pytest.raises(ValueError, match=r"mask must be boolean of shape \(8,\)"):
        train(variables(rng), drawn(rng), mask)
