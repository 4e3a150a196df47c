"""Networks of sizes that make no sense are refused before a parameter is made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import models
from lnl_jax.models._batch_norm import BatchNorm

IMAGES, FEATURES = jnp.zeros((2, 8, 8, 3)), jnp.zeros((2, 4))
REFUSED = [
    (models.resnet8(3, width=0), IMAGES, "width must be an integer from 1 on, got 0"),
    (models.resnet18(0), IMAGES, "num_classes must be an integer from 1 on"),
    (models.ResNet(3, blocks=(1, 0)), IMAGES, r"blocks\[1\] must be an integer from 1 on"),
    (models.wide_resnet28(3, widen=0), IMAGES, "widen must be an integer from 1 on"),
    (models.wide_resnet28(3, dropout=1.0), IMAGES, "dropout must be at least 0 and below 1"),
    (models.WideResNet(3, dropout=float("nan")), IMAGES, "dropout must be at least 0"),
    (models.convnet(3, width=2.5), IMAGES, "width must be an integer from 1 on, got 2.5"),
    (models.convnet(3, depth=0), IMAGES, "depth must be an integer from 1 on"),
    (models.vit(3, patch_size=0), IMAGES, "patch_size must be an integer from 1 on"),
    (models.vit(3, width=-4), IMAGES, "width must be an integer from 1 on, got -4"),
    (models.vit(3, heads=0), IMAGES, "heads must be an integer from 1 on"),
    (models.vit(0), IMAGES, "num_classes must be an integer from 1 on"),
    (models.MLP(3, hidden=(4, 0)), FEATURES, r"hidden\[1\] must be an integer from 1 on"),
    (models.MLP(True), FEATURES, "num_classes must be an integer from 1 on, got True"),
    (models.MLP(3), FEATURES.astype(int), "inputs must be floating, .*got int32"),
    (models.LaneMLP(0), FEATURES, "num_classes must be an integer from 1 on"),
    (models.ProjectionHead((4,), 0), FEATURES, "features must be an integer from 1 on"),
    (models.ProjectionHead((0,), 4), FEATURES, r"hidden\[0\] must be an integer from 1 on"),
]


@pytest.mark.parametrize(("model", "inputs", "message"), REFUSED)
def test_a_network_of_no_size_is_refused(model, inputs, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), inputs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": 1.5}, "momentum must be at least 0 and at most 1"),
        ({"epsilon": 0.0}, "epsilon must be above 0"),
        ({"epsilon": float("nan")}, "epsilon must be above 0"),
    ],
)
def test_a_normalisation_of_no_sense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: BatchNorm(**settings).init(jax.random.key(0), FEATURES, train=True))


def test_slopes_of_normalisation_where_all_inputs_are_equal_are_those_of_differences():
    """Variance 0 is where a rounding guard could cut a slope in half."""
    norm = BatchNorm(epsilon=0.1)
    variables = {
        "params": {"scale": jnp.ones(1), "bias": jnp.zeros(1)},
        "batch_stats": {"mean": jnp.zeros(1), "var": jnp.ones(1)},
    }
    direction = jnp.array([[0.5], [-1.0], [0.25], [0.25]])
    weights = jnp.array([[1.0], [2.0], [-1.0], [0.5]])

    @jax.jit
    def curve(step):
        inputs = 1 + step * direction
        outputs, _ = norm.apply(variables, inputs, train=True, mutable=["batch_stats"])
        # Odd in the step; its square has a second slope.
        return (weights * outputs).sum() + jnp.square(outputs).sum()

    @jax.jit
    def slopes(step):
        bend = jax.grad(jax.grad(curve))
        return jax.grad(curve)(step), bend(step), jax.grad(bend)(step)

    slope, bend, third = slopes(0.0)
    up, middle, down = (float(curve(step)) for step in (0.03, 0.0, -0.03))
    assert float(slope) == pytest.approx((up - down) / 0.06, rel=0.02)
    assert float(bend) == pytest.approx((up + down - 2 * middle) / 0.03**2, rel=0.02)
    twice = [float(curve(step)) for step in (0.1, 0.05, -0.05, -0.1)]
    difference = (twice[0] - 2 * twice[1] + 2 * twice[2] - twice[3]) / (2 * 0.05**3)
    assert float(third) == pytest.approx(difference, rel=0.1)


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (models.MLP(3, hidden=(5,)), FEATURES + 1),
        (models.resnet8(3, width=2), IMAGES + jnp.sin(jnp.arange(24.0)).reshape(1, 8, 1, 3)),
        (models.vit(3, width=4, depth=1, heads=1), IMAGES + 1),
    ],
    ids=["mlp", "resnet", "vit"],
)
def test_a_last_layer_of_zeros_moves_at_the_first_step(model, inputs):
    variables = jax.jit(model.init)(jax.random.key(0), inputs)
    params = jax.tree.map(jnp.copy, variables["params"])
    last = next(name for name in ("head", "Dense_1", "Dense_0") if name in params)
    params[last] = jax.tree.map(jnp.zeros_like, params[last])

    def loss(params):
        scores = model.apply(variables | {"params": params}, inputs)
        return -jax.nn.log_softmax(scores)[:, 0].sum()

    slope = jax.jit(jax.grad(loss))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
    assert np.any(slope[last]["kernel"])
