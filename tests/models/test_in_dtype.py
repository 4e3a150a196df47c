"""Networks that compute in bfloat16: what stays float32, and which products do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import models
from lnl_jax.train.loop import _inner_jaxprs

IMAGES = jnp.linspace(0, 1, 2 * 16 * 16 * 3).reshape(2, 16, 16, 3)
ROWS = jnp.linspace(-1, 1, 2 * 12).reshape(2, 12)
IDS = jnp.array([[1, 5, 2], [1, 3, 2]])
TOWERS = {"width": 8, "depth": 1, "heads": 1}
NETWORKS = {
    "mlp": (models.MLP(3, (8,)), (ROWS,)),
    "lanes": (models.LaneMLP(3, (8,)), (ROWS.T,)),
    "head": (models.ProjectionHead((8,), 4), (ROWS,)),
    "two towers": (models.TwoTower(models.MLP(3, (8,)), models.MLP(3, (8,))), (ROWS, ROWS)),
    "convnet": (models.convnet(3, width=4, depth=1), (IMAGES,)),
    "resnet8": (
        models.ProjectedEncoder(models.resnet8(None, width=4), models.ProjectionHead((8,), 4)),
        (IMAGES,),
    ),
    "wide": (models.WideResNet(3, blocks=1, widen=1), (IMAGES,)),
    "vit": (models.vit(3, width=8, depth=1, heads=1), (IMAGES,)),
    "clip": (
        models.CLIP(models.VisionTower(8, 16, 8, **TOWERS), models.TextTower(8, 6, 3, **TOWERS)),
        (IMAGES, IDS),
    ),
    "siglip": (
        models.SigLIP(
            models.SigLIPVisionTower(16, 8, **TOWERS), models.SigLIPTextTower(8, 6, 3, **TOWERS)
        ),
        (IMAGES, IDS),
    ),
    "efficientnet": (
        models.EfficientNetLite(3, stages=((1, 3, 1, 1, 4), (2, 5, 2, 6, 8)), stem=4, top=8),
        (IMAGES,),
    ),
    "sentences": (models.SentenceEncoder(6, 3, hidden=16, **TOWERS), (IDS, IDS > 1)),
}
PRODUCTS = ("dot_general", "conv_general_dilated")


def products(jaxpr):
    """The dtypes of what is multiplied, at any depth."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in PRODUCTS:
            yield {variable.aval.dtype for variable in equation.invars}
        for inner in _inner_jaxprs(list(equation.params.values())):
            yield from products(inner)


@pytest.mark.parametrize("name", NETWORKS)
def test_products_are_in_bfloat16_but_parameters_statistics_and_outputs_are_float32(name):
    model, inputs = NETWORKS[name]
    half = models.in_dtype(model, jnp.bfloat16)
    plain = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), *inputs))
    found = jax.eval_shape(lambda: half.init_with_output(jax.random.key(0), *inputs))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), found) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), plain
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}
    jaxpr = jax.make_jaxpr(lambda variables: half.apply(variables, *inputs))(found[1])
    every = list(products(jaxpr.jaxpr))
    in_half = [dtypes for dtypes in every if dtypes == {jnp.dtype("bfloat16")}]
    # Scores are products of float32; one layer of a network at most.
    assert in_half
    assert len(every) - len(in_half) <= (2 if name == "two towers" else 1)


def test_scores_and_gradients_are_near_those_in_float32(rng):
    inputs = jnp.asarray(rng.normal(size=(16, 12)), jnp.float32)
    for model, given in ((models.MLP(3, (8,)), inputs), (models.LaneMLP(3, (8,)), inputs.T)):
        variables = jax.jit(model.init)(jax.random.key(0), given)

        def loss(variables, model, given=given):
            return jnp.square(model.apply(variables, given)).mean()

        slope = jax.jit(jax.value_and_grad(loss), static_argnums=1)
        plain, half = (
            slope(variables, one) for one in (model, models.in_dtype(model, jnp.bfloat16))
        )
        for wanted, found in zip(*map(jax.tree.leaves, (plain, half)), strict=True):
            assert found.dtype == jnp.float32
            np.testing.assert_allclose(found, wanted, rtol=0.05, atol=0.02 * abs(wanted).max())
            assert np.any(found != wanted)


def test_a_shared_tower_stays_shared():
    tower = models.MLP(3)
    found = models.in_dtype(models.TwoTower(tower, tower), jnp.bfloat16)
    assert found.first is found.second
    assert found.first.dtype == jnp.bfloat16


def test_a_module_without_a_dtype_is_refused():
    import flax.linen as nn

    class Plain(nn.Module):
        size: int = 2

    with pytest.raises(ValueError, match="module must have a field dtype.*Plain"):
        models.in_dtype(Plain(), jnp.bfloat16)
