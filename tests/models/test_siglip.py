"""SigLIP and NaFlex against embeddings that the transformers library computed, and other files."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from lnl_jax.contrastive import sigmoid_contrastive
from lnl_jax.evaluation import unit_rows
from lnl_jax.models import NaFlexTower, SigLIPTextTower, SigLIPVisionTower, load_siglip

GOLDEN = Path(__file__).parents[1] / "golden" / "siglip"
FIXED, NAFLEX = "siglip", "siglip2_naflex"
HEADS = {"num_attention_heads": 2}
CONFIGS = {
    FIXED: {
        "model_type": "siglip",
        "vision_config": HEADS | {"image_size": 16, "patch_size": 8},
        "text_config": HEADS | {"vocab_size": 40},
    },
    NAFLEX: {"model_type": "siglip2", "vision_config": HEADS, "text_config": HEADS},
}


@functools.cache
def golden(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def tensors(name):
    return {k.removeprefix("param/"): v for k, v in golden(name).items() if k.startswith("param/")}


def folder(path, name, *, config=None, **changes):
    found = tensors(name) | {key.replace("/", "."): value for key, value in changes.items()}
    found = {key: value for key, value in found.items() if value is not None}
    save_file(found, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(config or CONFIGS[name]))
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return {name: load_siglip(folder(tmp_path_factory.mktemp(name), name)) for name in CONFIGS}


def images_of(name):
    values = golden(name)
    if name == FIXED:
        return jnp.asarray(values["pixel_values_nchw"].transpose(0, 2, 3, 1))
    shapes = jnp.asarray(values["spatial_shapes"], jnp.int32)
    return jnp.asarray(values["pixel_values"]), jnp.asarray(values["mask"] == 1), shapes


@pytest.mark.parametrize("name", CONFIGS)
def test_embeddings_and_logits_are_those_of_the_other_library(models, name):
    model, variables = models[name]
    ids = jnp.asarray(golden(name)["input_ids"], jnp.int32)
    images, texts, scale, bias = jax.jit(model.apply)(variables, images_of(name), ids)
    images, texts = unit_rows(images), unit_rows(texts)
    np.testing.assert_allclose(images, golden(name)["image_embeds"], atol=1e-5)
    np.testing.assert_allclose(texts, golden(name)["text_embeds"], atol=1e-5)
    logits = scale * images @ texts.T + bias
    np.testing.assert_allclose(logits, golden(name)["logits_per_image"], atol=1e-5)


def test_the_loss_of_the_loaded_scale_and_shift_is_that_of_the_other_library(models):
    params = models[FIXED].variables["params"]
    values = golden(FIXED)
    losses = sigmoid_contrastive(
        jnp.asarray(values["image_embeds"]),
        jnp.asarray(values["text_embeds"]),
        temperature=jnp.exp(-params["logit_scale"]),
        bias=params["logit_bias"],
    )
    np.testing.assert_allclose(losses.mean(), values["loss"], rtol=1e-5)


def test_positions_are_resized_as_the_other_library_does_it(tmp_path):
    model, variables = load_siglip(folder(tmp_path, FIXED), image_size=24)
    nearest = np.arange(24) * 16 // 24
    images = images_of(FIXED)[:, nearest][:, :, nearest]
    found = model.image.apply({"params": variables["params"]["image"]}, images)
    np.testing.assert_allclose(found, golden(FIXED)["vision_pooler_24px_interpolated"], atol=1e-5)


def test_patches_that_are_not_real_change_nothing(models):
    model, variables = models[NAFLEX]
    patches, where, shapes = images_of(NAFLEX)
    assert not bool(where.all())
    other = jnp.where(where[..., None], patches, 7.0)
    embed = jax.jit(lambda patches: model.image.apply(
        {"params": variables["params"]["image"]}, (patches, where, shapes)
    ))  # fmt: skip
    np.testing.assert_array_equal(embed(patches), embed(other))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_number_of_the_file_is_in_the_parameters(models, name):
    ours = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(models[name].variables)])
    theirs = np.concatenate([np.ravel(value) for value in tensors(name).values()])
    np.testing.assert_array_equal(np.sort(ours), np.sort(theirs))


ONE = "vision_model/head/mlp/fc2/bias"
TEXTS = CONFIGS[FIXED] | {"text_config": HEADS | {"hidden_act": "relu"}}
REFUSED = {
    "missing": (FIXED, {ONE: None}, "missing: vision_model.head.mlp.fc2.bias"),
    "left_over": (NAFLEX, {"more": np.zeros(1, np.float32)}, "left over: more"),
    "no_bias": (FIXED, {"logit_bias": None}, "missing: logit_bias"),
    "shape": (FIXED, {ONE: np.zeros(3, np.float32)}, r"pool/fc2/bias \(3,\) instead of \(16,\)"),
    "clip": (FIXED, {"config": {"model_type": "clip"}}, "architecture 'clip'; load_clip reads"),
    "activation": (FIXED, {"config": TEXTS}, "asks for the activation 'relu'"),
    "patch": (
        NAFLEX,
        {"config": CONFIGS[NAFLEX] | {"vision_config": HEADS | {"patch_size": 4}}},
        "the configuration says patch_size 4, the weights 8",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_another_architecture_is_refused_by_name(tmp_path, case):
    name, changes, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as error:
        load_siglip(folder(tmp_path, name, **changes))
    assert str(tmp_path) in str(error.value)


def test_files_that_are_missing_or_cut_off_say_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights of SigLIP at .* Fetch into a folder"):
        load_siglip(tmp_path)
    weights = folder(tmp_path, FIXED) / "model.safetensors"
    with pytest.raises(ValueError, match="image_size must be an integer from 8 on"):
        load_siglip(tmp_path, image_size=7)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no config\.json beside"):
        load_siglip(weights)
    folder(tmp_path, NAFLEX)
    with pytest.raises(ValueError, match="image_size must be None for NaFlex"):
        load_siglip(tmp_path, image_size=16)
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ValueError, match="is not a complete safetensors file"):
        load_siglip(tmp_path)


FLAT, REAL, SIDES = jnp.zeros((2, 3, 12)), jnp.ones((2, 3), bool), jnp.ones((2, 2), jnp.int32)
SMALL = {"width": 4, "depth": 1, "heads": 2}
TOWER = NaFlexTower(grid=2, patch_size=2, **SMALL)
INPUTS = [
    (SigLIPVisionTower(8, 4, **SMALL), jnp.zeros((1, 8, 7, 3)), r"shape \[B, 8, 8, C\], got"),
    (SigLIPTextTower(4, 9, 6, **SMALL), jnp.zeros((1, 5), int), r"integers of shape \[B, 6\]"),
    (SigLIPTextTower(4, 9, 6, **SMALL), jnp.zeros((1, 6)), r"integers of shape \[B, 6\], got fl"),
    (TOWER, (FLAT[..., 1:], REAL, SIDES), r"floating point of shape \[B, n, 4 \* C\]"),
    (TOWER, (FLAT, REAL[:1], SIDES), r"boolean of shape \(2, 3\), got bool of shape \(1, 3\)"),
    (TOWER, (FLAT, REAL, SIDES[:1]), r"integers of shape \(2, 2\)"),
]


@pytest.mark.parametrize(("tower", "inputs", "message"), INPUTS)
def test_inputs_of_another_form_are_refused(tower, inputs, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(tower.init, jax.random.key(0), inputs)
