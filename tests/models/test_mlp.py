import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lnl_jax.models import MLP, LaneMLP


@functools.cache
def compiled(model):
    """Initialising takes a second to compile."""
    return jax.jit(model.init)


def built(hidden=(16, 8), inputs=12, classes=5, seed=0, **options):
    model = MLP(num_classes=classes, hidden=hidden, **options)
    return model, compiled(model)(jax.random.key(seed), jnp.zeros((1, inputs)))


def layers(variables):
    """Kernels and biases in order."""
    params = variables["params"]
    return [
        (np.float64(params[n]["kernel"]), np.float64(params[n]["bias"])) for n in sorted(params)
    ]


@pytest.mark.parametrize(
    ("hidden", "activation", "reference"),
    [
        ((16, 8), nn.tanh, np.tanh),
        ((16,), nn.relu, lambda x: np.maximum(x, 0)),
        ((), nn.tanh, None),
    ],
)
def test_the_scores_are_those_of_plain_matrix_products(rng, hidden, activation, reference):
    model, variables = built(hidden, activation=activation)
    inputs = np.float32(rng.normal(size=(7, 12)))
    expected = inputs
    *below, (kernel, bias) = layers(variables)
    for hidden_kernel, hidden_bias in below:
        expected = reference(expected @ hidden_kernel + hidden_bias)
    expected = expected @ kernel + bias
    np.testing.assert_allclose(model.apply(variables, inputs), expected, rtol=1e-5, atol=1e-6)


def test_tanh_is_the_default_activation(rng):
    inputs = jnp.asarray(rng.normal(size=(7, 12)), jnp.float32)
    model, variables = built()
    same, _ = built(activation=nn.tanh)
    np.testing.assert_array_equal(model.apply(variables, inputs), same.apply(variables, inputs))


def test_images_are_flattened(rng):
    model, variables = built()
    images = jnp.asarray(rng.normal(size=(3, 2, 3, 2)), jnp.float32)
    np.testing.assert_array_equal(
        model.apply(variables, images), model.apply(variables, images.reshape(3, 12))
    )


@pytest.mark.parametrize(
    ("hidden", "count"), [((), 65 * 10), ((64, 64), 65 * 64 + 65 * 64 + 65 * 10)]
)
def test_it_has_a_kernel_and_a_bias_per_layer_and_nothing_else(hidden, count):
    model = MLP(num_classes=10, hidden=hidden)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64)))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == count


def test_the_initialisation_is_that_of_the_paper():
    """Xavier normal kernels, biases uniform within 1 / sqrt(fan_in)."""
    _, variables = built((400, 300), inputs=900, classes=200)
    for (kernel, bias), bound in zip(layers(variables), (1 / 30, 1 / 20, 300**-0.5), strict=True):
        std = (2 / sum(kernel.shape)) ** 0.5
        np.testing.assert_allclose(kernel.std(), std, rtol=0.01)
        np.testing.assert_allclose(kernel.mean(), 0, atol=0.02 * std)
        assert np.abs(bias).max() <= bound
        assert np.abs(bias).max() > 0.95 * bound
        np.testing.assert_allclose(bias.std(), bound / 3**0.5, rtol=0.15)


def test_kernels_are_normal_and_not_truncated():
    """As `torch.nn.init.xavier_normal_` of the official code draws them, unlike flax's own."""
    _, variables = built((400,), inputs=900)
    kernel, _ = layers(variables)[0]
    np.testing.assert_allclose((np.abs(kernel) > 2 * kernel.std()).mean(), 0.0455, rtol=0.05)
    assert np.abs(kernel).max() > 4 * kernel.std()


def test_seeds_give_networks_of_their_own():
    (_, first), (_, again), (_, other) = built(seed=0), built(seed=0), built(seed=1)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), first, other)))


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_the_gradient_is_finite_and_reaches_every_layer(rng, scale):
    model, variables = built()
    inputs = jnp.asarray(scale * rng.normal(size=(7, 12)), jnp.float32)

    @jax.jit
    @jax.grad
    def slope(variables, inputs):
        return (model.apply(variables, inputs) ** 2).sum()

    gradient = slope(variables, inputs)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    if scale == 1:
        assert all((leaf != 0).any() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("hidden", [(16, 8), ()])
def test_lanes_give_the_scores_and_gradients_of_the_other_layout(rng, hidden):
    model, variables = built(hidden)
    lanes = LaneMLP(num_classes=5, hidden=hidden)
    names = {f"_LaneDense_{i}": old for i, old in enumerate(sorted(variables["params"]))}

    def turned(params):
        own = {new: params["params"][old] for new, old in names.items()}
        return {"params": {n: p | {"kernel": p["kernel"].T} for n, p in own.items()}}

    x, weights = rng.normal(size=(7, 12)), rng.normal(size=(7, 5))
    x, weights = jnp.asarray(x, jnp.float32), jnp.asarray(weights, jnp.float32)
    shapes = jax.eval_shape(lanes.init, jax.random.key(0), x.T)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, turned(variables))

    def of_rows(variables, x):
        return (weights * jnp.sin(model.apply(variables, x))).sum()

    def of_lanes(variables, x):
        return (weights.T * jnp.sin(lanes.apply(variables, x.T))).sum()

    expected, grads = jax.jit(jax.value_and_grad(of_rows, (0, 1)))(variables, x)
    found, own_grads = jax.jit(jax.value_and_grad(of_lanes, (0, 1)))(turned(variables), x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for actual, wanted in zip(
        jax.tree.leaves(own_grads), jax.tree.leaves((turned(grads[0]), grads[1])), strict=True
    ):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)


def test_lanes_are_drawn_from_the_distributions_of_the_other_layout():
    lanes = LaneMLP(num_classes=300, hidden=(200,))
    params = compiled(lanes)(jax.random.key(0), jnp.zeros((100, 1)))["params"]
    kernel, bias = params["_LaneDense_0"]["kernel"], params["_LaneDense_0"]["bias"]
    assert kernel.shape == (200, 100)
    np.testing.assert_allclose(kernel.std(), (2 / 300) ** 0.5, rtol=0.03)
    # Truncated at two deviations there would be none beyond.
    assert jnp.abs(kernel).max() > 3 * kernel.std()
    assert 0.09 < jnp.abs(bias).max() <= 0.1
