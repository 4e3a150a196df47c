"""CLIP against the outputs of transformers and open_clip, and in the sizes of its papers.

`tests/golden/clip_tiny` holds models of random parameters, one-dimensional ones and batch
statistics included, in the files of either library, with what these libraries made of some inputs.
"""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import models

GOLDEN = Path(__file__).parents[1] / "golden" / "clip_tiny"
NAMES = sorted(path.name for path in GOLDEN.iterdir())
# The residual tower's text also has the quick activation.
SLOW = [name for name in NAMES if name.endswith("_quick_gelu")]
PARAMETERS = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in NAMES
]


@functools.cache
def golden(name):
    """What was loaded, the inputs, and the expected outputs."""
    with np.load(GOLDEN / name / "io.npz") as file:
        stored = dict(file)
    images = jnp.asarray(stored.pop("pixel_values_nchw").transpose(0, 2, 3, 1))
    ids = jnp.asarray(stored.pop("input_ids"), jnp.int32)
    return models.load_clip(GOLDEN / name), (images, ids), stored


@functools.cache
def computed(name, dtype=jnp.float32):
    """Both embeddings, and the scale."""
    (model, variables), inputs, _ = golden(name)
    model = model.clone(image=model.image.clone(dtype=dtype), text=model.text.clone(dtype=dtype))
    with jax.default_matmul_precision("highest"):
        return jax.jit(model.apply)(variables, *inputs)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_there_are_goldens_of_every_layout():
    assert len(NAMES) == 5


@pytest.mark.parametrize("name", PARAMETERS)
def test_embeddings_are_those_of_the_other_library(name):
    _, _, expected = golden(name)
    images, texts, scale = computed(name)
    np.testing.assert_allclose(images, expected["image_embeds"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(texts, expected["text_embeds"], rtol=0, atol=1e-5)
    if "logits_per_image" in expected:
        logits = scale * unit(np.asarray(images)) @ unit(np.asarray(texts)).T
        np.testing.assert_allclose(logits, expected["logits_per_image"], rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hf_clip_gelu", "open_clip_rn"])
def test_computation_in_bfloat16_with_embeddings_in_float32(name):
    for half, full in zip(computed(name, jnp.bfloat16)[:2], computed(name)[:2], strict=True):
        assert half.dtype == jnp.float32
        assert 1e-5 < np.abs(half - full).max() < 0.1 * np.abs(full).max()


@pytest.mark.parametrize("name", ["hf_clip_gelu", "open_clip_vit_gelu"])
def test_what_follows_the_end_of_a_text_changes_nothing(name):
    (model, variables), (_, ids), expected = golden(name)
    shown = np.cumsum(np.asarray(ids) == 98, axis=1) - (np.asarray(ids) == 98) == 0
    padded = jnp.where(shown, ids, 0)
    assert (padded != ids).any()
    params = {"params": variables["params"]["text"]}
    texts = jax.jit(model.text.apply)(params, padded)
    np.testing.assert_allclose(texts, expected["text_embeds"], rtol=0, atol=1e-5)


def test_a_text_ends_at_the_first_end_token():
    tower = models.TextTower(4, vocabulary=9, context_length=5, width=8, depth=1, heads=2)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(np.random.default_rng(0).normal(size=leaf.shape), leaf.dtype),
        jax.eval_shape(tower.init, jax.random.key(0), jnp.zeros((1, 5), jnp.int32)),
    )
    long, short = jnp.array([[1, 3, 8, 3, 8]]), jnp.array([[1, 3]])
    ended = tower.clone(end_token=3)
    apply, apply_ended = jax.jit(tower.apply), jax.jit(ended.apply)
    at_three, at_greatest = apply_ended(params, long), apply(params, long)
    np.testing.assert_allclose(at_three, apply(params, short), rtol=1e-5)
    np.testing.assert_allclose(at_greatest, apply(params, long[:, :3]), rtol=1e-5)
    assert (at_greatest != at_three).all()


@functools.cache
def shapes(make):
    inputs = jnp.zeros((1, 224, 224, 3)), jnp.zeros((1, 77), jnp.int32)
    return jax.eval_shape(make().init, jax.random.key(0), *inputs)


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("make", "total", "image"),
    [
        (models.clip_vit_b32, 151_277_313, 87_849_216),
        (models.clip_rn50, 102_007_137, 38_316_896),
    ],
)
def test_published_counts_of_parameters(make, total, image):
    params = shapes(make)["params"]
    assert (size(params), size(params["image"])) == (total, image)


def low_rank_size(params, pattern, rank):
    """Parameters of low-rank adapters of the kernels whose path matches, and how many match."""
    found = [
        leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if re.search(pattern, jax.tree_util.keystr(path, simple=True, separator="/"))
    ]
    return sum(rank * (int(np.prod(shape[:-1])) + shape[-1]) for shape in found), len(found)


def test_a_path_selects_what_hello_adapts():
    """The 48 convolutions of the bottlenecks of RN50, at rank 8."""
    params = shapes(models.clip_rn50)["params"]["image"]
    assert low_rank_size(params, r"layer\d_\d+/conv", 8) == (588_288, 48)


def test_a_path_selects_the_matrices_of_a_transformer():
    params = shapes(models.clip_vit_b32)["params"]["image"]
    assert low_rank_size(params, r"block_\d+/.*kernel$", 1)[1] == 12 * 6
    query_and_value = low_rank_size(params, r"(query|value)/kernel$", 4)
    assert query_and_value == (12 * 2 * 4 * 2 * 768, 24)


@pytest.mark.slow
def test_training_from_scratch_reaches_every_parameter(rng):
    image = models.ModifiedResNet(6, image_size=32, blocks=(1, 1, 1, 1), width=2, heads=1)
    text = models.TextTower(6, vocabulary=9, context_length=4, width=8, depth=1, heads=2)
    model = models.CLIP(image, text)
    images = jnp.asarray(rng.normal(size=(4, 32, 32, 3)), jnp.float32)
    ids = jnp.asarray(rng.integers(0, 8, (4, 4)), jnp.int32).at[:, 3].set(8)

    def draw(path, leaf):
        # Larger kernels would give a softmax of ones and zeros, which has no gradient.
        if path[-1].key == "kernel":
            values = rng.normal(size=leaf.shape) * np.prod(leaf.shape[:-1]) ** -0.5
        else:
            values = rng.uniform(0.1, 1, leaf.shape)
        return jnp.asarray(values, leaf.dtype)

    variables = jax.tree_util.tree_map_with_path(draw, initialized(model, images, ids))

    @jax.jit
    def trained(params):
        def loss(params):
            (one, other, scale), new = model.apply(
                variables | {"params": params}, images, ids, train=True, mutable=["batch_stats"]
            )
            return jnp.square(one - scale * other).sum(), new

        return jax.grad(loss, has_aux=True)(params)

    gradient, new = trained(variables["params"])
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        # A bias of the keys moves all weights of a query alike, which the softmax undoes.
        if "['key']['bias']" not in jax.tree_util.keystr(path):
            assert jnp.isfinite(leaf).all(), path
            assert (leaf != 0).any(), path
    changed = jax.tree.map(
        lambda a, b: bool((a != b).any()), new["batch_stats"], variables["batch_stats"]
    )
    assert all(jax.tree.leaves(changed))
    assert gradient["logit_scale"].shape == ()


def initialized(module, *inputs):
    return jax.eval_shape(module.init, jax.random.key(0), *inputs)


def test_the_initial_scale_is_that_of_the_paper():
    model = models.CLIP(VISION, TEXT)
    inputs = jnp.zeros((1, 8, 8, 3)), jnp.zeros((1, 5), jnp.int32)
    scale = jax.jit(lambda key: model.init(key, *inputs)["params"]["logit_scale"])
    np.testing.assert_allclose(np.exp(scale(jax.random.key(0))), 1 / 0.07, rtol=1e-6)


VISION = models.VisionTower(4, image_size=8, patch_size=4, width=8, depth=1, heads=2)
RESNET = models.ModifiedResNet(4, image_size=32, blocks=(1, 1, 1, 1), width=2, heads=1)
TEXT = models.TextTower(4, vocabulary=9, context_length=5, width=8, depth=1, heads=2)


@pytest.mark.parametrize(
    ("tower", "inputs", "message"),
    [
        (VISION, jnp.zeros((1, 9, 8, 3)), r"images must have the shape \[B, 8, 8, C\]"),
        (VISION, jnp.zeros((1, 8, 8, 3), jnp.uint8), "images must be floating point"),
        (VISION.clone(heads=3), jnp.zeros((1, 8, 8, 3)), "heads must divide the width 8, got 3"),
        (VISION.clone(patch_size=9), jnp.zeros((1, 8, 8, 3)), "whole patches of 9x9 pixels"),
        (RESNET, jnp.zeros((1, 64, 64, 3)), r"images must have the shape \[B, 32, 32, C\]"),
        (RESNET, jnp.zeros((1, 32, 32, 3), jnp.uint8), "images must be floating point"),
        (RESNET.clone(image_size=48), jnp.zeros((1, 48, 48, 3)), "a multiple of 32, got 48"),
        (RESNET.clone(heads=5), jnp.zeros((1, 32, 32, 3)), "divide the 64 channels, got 5"),
        (TEXT, jnp.zeros((1, 6), jnp.int32), "ids must be of 1 to 5 tokens"),
        (TEXT, jnp.zeros((1, 0), jnp.int32), "ids must be of 1 to 5 tokens"),
        (TEXT, jnp.zeros((1, 5)), "ids must be integers of shape"),
        (TEXT, jnp.zeros(5, jnp.int32), "ids must be integers of shape"),
    ],
)
def test_what_does_not_fit_a_tower_is_refused(tower, inputs, message):
    with pytest.raises(ValueError, match=message):
        initialized(tower, inputs)
