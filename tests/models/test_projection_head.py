import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax import models


def test_a_projector_is_a_whitened_hidden_layer_and_a_linear_map(rng):
    model = models.ProjectionHead(hidden=(6,), features=3)
    inputs = jnp.asarray(rng.normal(size=(8, 4)), jnp.float32)
    variables = jax.jit(model.init)(jax.random.key(0), inputs)
    found, updated = model.apply(variables, inputs, train=True, mutable=["batch_stats"])
    params = variables["params"]
    hidden = np.array(inputs @ params["Dense_0"]["kernel"])
    normal = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)
    expected = np.maximum(normal, 0) @ np.array(params["Dense_1"]["kernel"])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # Out of training it normalises by the running statistics.
    np.testing.assert_allclose(
        updated["batch_stats"]["BatchNorm_0"]["mean"], 0.1 * hidden.mean(0), rtol=1e-4, atol=1e-6
    )
    # Padding does not enter them.
    padded = jnp.concatenate([inputs, 100 * jnp.ones((2, 4))])
    mask = jnp.arange(10) < 8
    again, _ = model.apply(variables, padded, train=True, mask=mask, mutable=["batch_stats"])
    np.testing.assert_allclose(again[:8], found, rtol=1e-4, atol=1e-5)


def test_an_encoder_gives_its_features_and_what_the_projector_makes_of_them(rng):
    encoder, projector = models.MLP(num_classes=5, hidden=()), models.MLP(num_classes=3, hidden=())
    model = models.ProjectedEncoder(encoder, projector)
    inputs = jnp.asarray(rng.normal(size=(2, 4)), jnp.float32)
    variables = jax.jit(model.init)(jax.random.key(0), inputs)
    features, embeddings = model.apply(variables, inputs)
    params = variables["params"]
    np.testing.assert_array_equal(features, encoder.apply({"params": params["encoder"]}, inputs))
    np.testing.assert_array_equal(
        embeddings, projector.apply({"params": params["projector"]}, features)
    )


def test_two_towers_have_parameters_of_their_own_unless_they_are_one(rng):
    inputs = jnp.asarray(rng.normal(size=(2, 4)), jnp.float32)
    tower = models.MLP(num_classes=3, hidden=())
    two = models.TwoTower(models.MLP(num_classes=3, hidden=()), tower)
    variables = jax.jit(two.init)(jax.random.key(0), inputs, inputs)
    first, second = two.apply(variables, inputs, inputs)
    assert abs(first - second).max() > 0.1
    one = models.TwoTower(tower, tower)
    variables = jax.jit(one.init)(jax.random.key(0), inputs, inputs)
    first, second = one.apply(variables, inputs, inputs)
    np.testing.assert_array_equal(first, second)


def test_without_a_last_layer_a_resnet_gives_what_that_layer_is_given(rng):
    images = jnp.asarray(rng.normal(size=(2, 8, 8, 3)), jnp.float32)
    whole = models.ResNet(num_classes=4, blocks=(1,), width=3)
    variables = jax.jit(whole.init)(jax.random.key(0), images)
    params = dict(variables["params"])
    last = params.pop("Dense_0")
    features = whole.clone(num_classes=None).apply(variables | {"params": params}, images)
    assert features.shape == (2, 3)
    np.testing.assert_allclose(
        whole.apply(variables, images), features @ last["kernel"] + last["bias"][None], rtol=1e-4
    )
