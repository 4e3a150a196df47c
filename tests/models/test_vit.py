"""The vision transformer against its definition in NumPy."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax.models import ViT, gelu, quick_gelu, vit
from lnl_jax.models._transformer import Blocks

SMALL = ViT(3, width=6, depth=1, heads=2, patch_size=4)
WITH_TOKEN = SMALL.clone(class_token=True)


@functools.cache
def drawn(model, size=8):
    """Variables of the right shapes, none of them as a fresh network has it."""
    rng = np.random.default_rng(0)
    images = jnp.zeros((1, size, size, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes)


def pictures(rng, batch=5, size=8):
    return jnp.asarray(rng.normal(size=(batch, size, size, 3)), jnp.float32)


def normalized(x, p):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * p["scale"] + p["bias"]


def linear(x, p):
    return x @ p["kernel"] + p["bias"]


def attended(x, p, heads):
    outputs = []
    for q, k, v in zip(
        *(np.split(linear(x, p[name]), heads, -1) for name in ("query", "key", "value")),
        strict=True,
    ):
        weights = np.exp(q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]))
        outputs.append(weights / weights.sum(-1, keepdims=True) @ v)
    return linear(np.concatenate(outputs, -1), p["out"])


def defined(model, params, images):
    """Scores in float64, patch by patch."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    size, images = model.patch_size, np.asarray(images, np.float64)
    kernel = p["embedding"]["patch"]["kernel"].reshape(-1, model.width)
    x = np.stack(
        [
            images[:, i : i + size, j : j + size].reshape(len(images), -1) @ kernel
            for i in range(0, images.shape[1], size)
            for j in range(0, images.shape[2], size)
        ],
        1,
    )
    x += p["embedding"]["patch"]["bias"]
    if model.class_token:
        first = np.tile(p["embedding"]["class_token"], (len(x), 1, 1))
        x = np.concatenate([first, x], 1)
    x = x + p["embedding"]["positions"]
    for i in range(model.depth):
        block = p["blocks"][f"block_{i}"]
        x = x + attended(normalized(x, block["norm1"]), block["attention"], model.heads)
        hidden = linear(normalized(x, block["norm2"]), block["fc1"])
        hidden = hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2
        x = x + linear(hidden, block["fc2"])
    x = normalized(x, p["norm"])
    return linear(x[:, 0] if model.class_token else x.mean(1), p["head"])


def test_the_published_count_of_parameters():
    """That of DeiT-S, whose class token is one of its 197 tokens."""
    small = ViT(1000, width=384, depth=12, heads=6, patch_size=16, class_token=True)
    shapes = jax.eval_shape(small.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 22_050_664


@pytest.mark.parametrize("model", [SMALL.clone(depth=2), WITH_TOKEN], ids=["mean", "token"])
def test_scores_are_those_of_the_definition(rng, model):
    images, variables = pictures(rng), drawn(model)
    scores = jax.jit(model.apply)(variables, images)
    assert scores.dtype == jnp.float32
    expected = defined(model, variables["params"], images)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)


def test_the_encoder_is_the_classifier_without_its_last_layer(rng):
    images, variables = pictures(rng), drawn(SMALL)
    params = dict(variables["params"])
    head = params.pop("head")
    encode = jax.jit(functools.partial(SMALL.apply, method="features"))
    features = encode({"params": params}, images)
    scores = jax.jit(SMALL.apply)(variables, images)
    np.testing.assert_allclose(features @ head["kernel"] + head["bias"][None], scores, rtol=1e-5)


@pytest.mark.slow
def test_computation_in_bfloat16_with_variables_and_scores_in_float32(rng):
    images, variables = pictures(rng), jax.tree.map(lambda leaf: leaf / 2, drawn(SMALL))
    half = SMALL.clone(dtype=jnp.bfloat16)

    @jax.jit
    def trained(variables):
        gradient = jax.grad(lambda v: half.apply(v, images).sum())(variables)
        return half.apply(variables, images), gradient

    scores, gradient = trained(variables)
    leaves = jax.tree.leaves(
        (scores, gradient, jax.eval_shape(half.init, jax.random.key(0), images))
    )
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}
    expected = jax.jit(SMALL.apply)(variables, images)
    difference = np.abs(scores - expected).max()
    assert 1e-6 < difference < 0.1 * np.abs(expected).max()


def test_every_parameter_has_a_gradient(rng):
    variables = drawn(WITH_TOKEN)
    images = pictures(rng)
    gradient = jax.jit(jax.grad(lambda v: jnp.square(WITH_TOKEN.apply(v, images)).sum()))(variables)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        # A bias of the keys moves all weights of a query alike, which the softmax undoes.
        if "['key']['bias']" not in jax.tree_util.keystr(path):
            assert (leaf != 0).all(), path


@pytest.mark.slow
def test_a_causal_token_does_not_see_what_comes_after(rng):
    blocks = Blocks(1, 2, 8, causal=True)
    tokens = jnp.asarray(rng.normal(size=(1, 5, 4)), jnp.float32)
    apply = jax.jit(blocks.apply)
    variables = jax.jit(blocks.init)(jax.random.key(0), tokens)
    changed = apply(variables, tokens.at[:, 3, 0].add(1)) - apply(variables, tokens)
    np.testing.assert_array_equal(changed[:, :3], 0)
    assert (changed[:, 3:] != 0).all()


@pytest.mark.parametrize("value", [-3.0, -0.5, 0.0, 1.0, 4.0])
def test_activations_are_those_of_their_formulas(value):
    exact = value * (1 + math.erf(value / math.sqrt(2))) / 2
    quick = value / (1 + math.exp(-1.702 * value))
    np.testing.assert_allclose(gelu(jnp.float32(value)), exact, atol=1e-6)
    np.testing.assert_allclose(quick_gelu(jnp.float32(value)), quick, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (vit(3), (1, 10, 8, 3), "images must be whole patches of 4x4 pixels"),
        (vit(3), (1, 0, 8, 3), "images must be whole patches"),
        (vit(3), (8, 8, 3), "images must be floating point of shape"),
        (vit(3, heads=5), (1, 8, 8, 3), "heads must divide the width 64, got 5"),
    ],
)
def test_what_does_not_fit_is_refused(model, shape, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))
