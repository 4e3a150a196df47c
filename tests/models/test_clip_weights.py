"""Files of weights that are not what they should be, and those that are in another form."""

import functools
import json
import pickle
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lnl_jax.models import ModifiedResNet, gelu, load_clip, quick_gelu
from lnl_jax.models import _clip_configs as configs

GOLDEN = Path(__file__).parents[1] / "golden" / "clip_tiny"
HF, VIT, RN = "hf_clip_gelu", "open_clip_vit_gelu", "open_clip_rn"


@functools.cache
def stored(name):
    return load_file(GOLDEN / name / "model.safetensors")


@functools.cache
def config_of(name):
    return json.loads((GOLDEN / name / "config.json").read_text())


@functools.cache
def loaded(name):
    return load_clip(GOLDEN / name)


def folder(path, name, *, config=None, weights="model.safetensors", configs="config.json", **new):
    """A folder like the golden one, with other tensors; those given as None are left out."""
    tensors = {**stored(name), **new}
    save_file({k: v for k, v in tensors.items() if v is not None}, path / weights)
    (path / configs).write_text(json.dumps(config or config_of(name)))
    return path


def equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("name", [HF, VIT, RN])
def test_every_number_of_the_file_is_in_the_parameters(name):
    """As many, and the same ones: sorted, whatever was transposed or split."""
    variables = loaded(name).variables
    ours = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(variables)])
    floats = [value for value in stored(name).values() if value.dtype.kind == "f"]
    theirs = np.concatenate([np.ravel(value) for value in floats])
    np.testing.assert_array_equal(np.sort(ours), np.sort(theirs))


def test_sizes_come_from_the_shapes():
    tower = loaded(RN).model.image
    assert (tower.blocks, tower.width, tower.image_size, tower.heads) == ((1, 2, 1, 1), 8, 64, 4)
    image, text = loaded(HF).model.image, loaded(HF).model.text
    assert (image.depth, image.width, image.hidden, image.patch_size) == (3, 32, 64, 8)
    assert (image.image_size, image.heads, image.embed_dim) == (32, 4, 24)
    assert (text.depth, text.width, text.hidden, text.vocabulary) == (2, 32, 64, 99)
    assert (text.context_length, text.heads, text.end_token) == (16, 4, 98)
    assert loaded(VIT).model.image.activation is gelu
    assert loaded(VIT).model.text.end_token is None


ONE = "vision_model.encoder.layers.1.mlp.fc2.bias"
CHANGES = {
    "missing": (HF, {ONE: None}, f"missing: {re.escape(ONE)}"),
    "missing_first": (HF, {"visual_projection.weight": None}, "missing: visual_projection.weight"),
    "extra": (HF, {"logit_bias": np.zeros(1, np.float32)}, "left over: logit_bias"),
    "extra_layer": (VIT, {"visual.ln_extra.bias": np.zeros(3, np.float32)}, "left over: visual.ln"),
    "missing_running": (RN, {"visual.bn2.running_var": None}, "missing: visual.bn2.running_var"),
    "shape": (HF, {ONE: np.zeros(31, np.float32)}, r"block_1/fc2/bias \(31,\) instead of \(32,\)"),
    "split": (
        VIT,
        {"transformer.resblocks.0.attn.in_proj_bias": np.zeros(95, np.float32)},
        r"in_proj_bias has the shape \(95,\)",
    ),
    "integers": (HF, {ONE: np.zeros(32, np.int32)}, f"{ONE} must be floating point, got int32"),
    "not_square": (
        HF,
        {"vision_model.embeddings.position_embedding.weight": np.zeros((18, 32), np.float32)},
        "17 positions of the image tower are not those of a square image",
    ),
    "scale": (HF, {"logit_scale": np.zeros(2, np.float32)}, r"logit_scale has the shape \(2,\)"),
    "rank": (HF, {"visual_projection.weight": np.zeros(3, np.float32)}, "must have 2 dimensions"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_another_architecture_is_refused_by_name(tmp_path, case):
    name, new, message = CHANGES[case]
    with pytest.raises(ValueError, match=message) as error:
        load_clip(folder(tmp_path, name, **new))
    assert str(tmp_path) in str(error.value)


def test_a_checkpoint_of_something_else_is_told_by_its_names(tmp_path):
    save_file({"bert.encoder.weight": np.zeros(2, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"another architecture.*bert\.encoder\.weight"):
        load_clip(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 2000, -1])
def test_a_truncated_file_is_refused(tmp_path, kept):
    file = folder(tmp_path, HF) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match=rf"{file.stat().st_size} bytes.*fetch it again"):
        load_clip(tmp_path)


class Bomb:
    """Unpickling one writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["ViT-B-32.pt", "pytorch_model.bin"])
@pytest.mark.parametrize("as_file", [True, False])
def test_a_pickle_is_not_read(tmp_path, name, as_file):
    touched = tmp_path / "touched"
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(touched)))
    message = rf"{name} is a file of PyTorch.*safetensors\.torch\.save_file"
    with pytest.raises(ValueError, match=message):
        load_clip(tmp_path / name if as_file else tmp_path)
    assert not touched.exists()


def test_without_weights_the_files_to_fetch_are_named(tmp_path):
    for path in (None, tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError) as error:
            load_clip(path)
        for told in ("model.safetensors", "config.json", "tokenizer.json", "hello_digits"):
            assert told in str(error.value)


CONFIGS = {
    "model_type": (HF, {"model_type": "siglip"}, "architecture 'siglip'"),
    "activation": (HF, {"text_config": {"hidden_act": "relu"}}, "activation 'relu'"),
    "width": (HF, {"vision_config": {"hidden_size": 48}}, "says width 48, the weights 32"),
    "heads": (HF, {"vision_config": {"num_attention_heads": 5}}, "heads must divide the width 32"),
    "layers": (RN, {"vision": {"layers": [1, 1, 1, 1]}}, r"blocks \(1, 1, 1, 1\), the weights"),
    "embed_dim": (VIT, {"embed_dim": 25}, "says embed_dim 25, the weights 24"),
    "context": (VIT, {"text": {"context_length": 77}}, "context_length 77, the weights 16"),
    "pool_type": (VIT, {"vision": {"pool_type": "avg"}}, "vision_cfg asks for .*'pool_type'"),
    "no_causal": (VIT, {"text": {"no_causal_mask": True}}, "text_cfg asks for .*'no_causal_mask'"),
    "neither": (VIT, {"vision": None}, "configuration beside these weights is not open_clip's"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_configuration_of_other_weights_is_refused(tmp_path, case):
    name, new, message = CONFIGS[case]
    config = dict(config_of(name))
    for key, value in new.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    with pytest.raises(ValueError, match=message):
        load_clip(folder(tmp_path, name, config=config))


def changed(name, sections):
    """The golden configuration with other settings; those given as None are left out."""
    config = dict(config_of(name))
    for section, new in sections.items():
        merged = {**config[section], **new}
        config[section] = {key: value for key, value in merged.items() if value is not None}
    return config


@pytest.mark.parametrize(
    ("name", "sections", "message"),
    [
        (HF, {"text_config": {"eos_token_id": None}}, "no eos_token_id .* vocabulary of 99 tokens"),
        (HF, {"text_config": {"eos_token_id": 49407}}, "eos_token_id, .*from 0 to 98 .*got 49407"),
        (HF, {"text_config": {"eos_token_id": [97, 98]}}, r"eos_token_id, .*got \[97, 98\]"),
        (HF, {"text_config": {"eos_token_id": "98"}}, "eos_token_id, .*got '98'"),
        (VIT, {"text": {"pool_type": "eos"}}, "must have eos_id, .*from 0 to 98 .*got None"),
        (VIT, {"text": {"pool_type": "eos", "eos_id": 99}}, "must have eos_id, .*got 99"),
        (VIT, {"text": {"proj_type": "mlp"}}, "text_cfg asks for .*proj_type"),
        (HF, {"vision_config": {"image_size": [32, 40]}}, r"square image_size, got \[32, 40\]"),
        (HF, {"vision_config": {"image_size": 40}}, "says image_size 40, the weights 32"),
        (VIT, {"vision": {"image_size": [31, 31]}}, "says image_size 24, the weights 32"),
        (RN, {"vision": {"image_size": [96, 96]}}, "says image_size 96, the weights 64"),
    ],
)
def test_a_setting_that_does_not_fit_the_weights_is_named(tmp_path, name, sections, message):
    with pytest.raises(ValueError, match=message):
        load_clip(folder(tmp_path, name, config=changed(name, sections)))


def test_settings_are_read_in_every_form_that_they_have(tmp_path):
    text, vision = {"eos_token_id": [98]}, {"image_size": [32, 32]}
    config = changed(HF, {"text_config": text, "vision_config": vision})
    model, variables = load_clip(folder(tmp_path, HF, config=config))
    assert (model.text.end_token, model.image.image_size) == (98, 32)
    equal(variables, loaded(HF).variables)
    text = {"proj_type": "linear", "pool_type": "eos", "eos_id": 98}
    config = changed(VIT, {"text": text, "vision": {"image_size": [32, 32]}})
    model, variables = load_clip(folder(tmp_path, VIT, config=config))
    assert (model.text.end_token, model.image.image_size) == (98, 32)
    equal(variables, loaded(VIT).variables)
    config = changed(RN, {"vision": {"image_size": [64, 64]}})
    assert load_clip(folder(tmp_path, RN, config=config)).model.image.image_size == 64
    # The usual end is that of a vocabulary which has it.
    assert configs._end_of_hugging_face(None, 49408) == 49407


def test_what_is_less_than_a_patch_is_not_seen_as_in_transformers(tmp_path, rng):
    config = changed(HF, {"vision_config": {"image_size": 37}})
    model, variables = load_clip(folder(tmp_path, HF, config=config))
    assert model.image.image_size == 37
    images = jnp.asarray(rng.normal(size=(2, 37, 37, 3)), jnp.float32)
    params = {"params": variables["params"]["image"]}
    found = jax.jit(model.image.apply)(params, images)
    expected = jax.jit(loaded(HF).model.image.apply)(params, images[:, :32, :32])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_stripped_and_said(tmp_path, prefix):
    folder(tmp_path, VIT)
    tensors = {prefix + name: value for name, value in stored(VIT).items()}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.warns(
        UserWarning, match=rf"model.safetensors: all names begin with '{prefix}', str"
    ):
        equal(load_clip(tmp_path).variables, loaded(VIT).variables)
    tensors["step"] = np.zeros(1, np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="another architecture"):
        load_clip(tmp_path)


def test_a_configuration_that_is_not_json_is_refused(tmp_path):
    folder(tmp_path, HF)
    for text, message in (("{", "is not JSON"), ("[]", "must hold a JSON object, got list")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            load_clip(tmp_path)


def test_shapes_alone_do_not_tell_the_activation(tmp_path):
    for name, message in ((HF, "config.json must lie beside"), (VIT, "give activation=quick_gelu")):
        shutil.copy(GOLDEN / name / "model.safetensors", tmp_path / "alone.safetensors")
        with pytest.raises(ValueError, match=message):
            load_clip(tmp_path / "alone.safetensors")
    with pytest.raises(ValueError, match="activation must be None"):
        load_clip(GOLDEN / HF, activation=gelu)


def test_weights_converted_from_openai_need_no_configuration(tmp_path):
    """Half precision, its three constants, and heads of width 64."""
    tensors = {k: v.astype(np.float16) for k, v in stored(RN).items()}
    for name, value in (("input_resolution", 64), ("context_length", 16), ("vocab_size", 99)):
        tensors[name] = np.array(value)
    tensors["visual.bn1.num_batches_tracked"] = np.array(3)
    # The text tower of the real ones is a multiple of 64 wide.
    wide = {"positional_embedding": (16, 64), "token_embedding.weight": (99, 64)}
    for name in tensors:
        if name.startswith(("transformer.", "ln_final", "text_projection")):
            shape = tensors[name].shape
            wide[name] = tuple(64 * n // 32 if n % 32 == 0 else n for n in shape)
    tensors |= {name: np.ones(shape, np.float16) for name, shape in wide.items()}
    save_file(tensors, tmp_path / "RN50.safetensors")
    model, variables = load_clip(tmp_path / "RN50.safetensors", activation=quick_gelu)
    assert isinstance(model.image, ModifiedResNet)
    assert (model.text.heads, model.image.heads) == (1, 4)
    assert model.text.activation is quick_gelu
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    kernel = variables["params"]["image"]["conv1"]["kernel"]
    half = stored(RN)["visual.conv1.weight"].astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(kernel, half.transpose(2, 3, 1, 0))


def test_open_clip_files_are_preferred_with_their_own_configuration(tmp_path):
    config = config_of(VIT)
    config = {"quick_gelu": True, "vision_cfg": config["vision"], "text_cfg": config["text"]}
    names = {"weights": "open_clip_model.safetensors", "configs": "open_clip_config.json"}
    folder(tmp_path, HF)
    folder(tmp_path, VIT, config={"model_cfg": config, "preprocess_cfg": {}}, **names)
    model, variables = load_clip(tmp_path)
    assert model.image.activation is quick_gelu
    equal(variables, loaded(VIT).variables)
    equal(load_clip(tmp_path / "model.safetensors").variables, loaded(HF).variables)


def test_position_ids_are_skipped_and_an_old_end_token_is_the_greatest_id(tmp_path):
    config = dict(config_of(HF), text_config={**config_of(HF)["text_config"], "eos_token_id": 2})
    ids = {"text_model.embeddings.position_ids": np.arange(16)[None]}
    model, variables = load_clip(folder(tmp_path, HF, config=config, **ids))
    assert model.text.end_token is None
    equal(variables, loaded(HF).variables)


def test_weights_in_parts(tmp_path):
    folder(tmp_path, HF)
    (tmp_path / "model.safetensors").unlink()
    names = sorted(stored(HF))
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for part, held in parts.items():
        save_file({name: stored(HF)[name] for name in held}, tmp_path / part)
    index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    equal(load_clip(tmp_path).variables, loaded(HF).variables)
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"not there: two\.safetensors"):
        load_clip(tmp_path)
