"""CLIP from files as the foundation model: zero-shot classification at the start."""

import functools
import json
import shutil
import string
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import evaluation, models
from lnl_jax.data import preprocess
from lnl_jax.distill.projectors import (
    Adaptation,
    clip_encoder,
    clip_foundation,
    initial_projector,
    projector_predict,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "clip_tiny"
VIT, RESNET = "hf_clip_gelu", "open_clip_rn"
TEMPLATES = ("a {}.", "{}")
CLASSES = ("airplane", "maple_tree", "ox")


@pytest.fixture
def folder(tmp_path):
    """Makes a folder with the tiny weights of this name, and a vocabulary of letters for them."""

    def make(name):
        path = tmp_path / name
        shutil.copytree(GOLDEN / name, path)
        letters = [*string.ascii_lowercase, "."]
        tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
        ids = {token: place for place, token in enumerate(tokens)}
        ids |= {"<|startoftext|>": 97, "<|endoftext|>": 98}
        (path / "vocab.json").write_text(json.dumps(ids))
        (path / "merges.txt").write_text("#version: 0.2\n")
        return path

    return make


@functools.cache
def some_images():
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("name", [VIT, RESNET])
def test_a_new_projector_is_zero_shot_classification(folder, name):
    path = folder(name)
    foundation = clip_foundation(path, CLASSES, templates=TEMPLATES)
    images = some_images() / np.float32(255)
    model, variables = models.load_clip(path)
    tokenize = models.load_tokenizer(path, context_length=model.text.context_length)
    ids = tokenize([t.format(n) for n in ("airplane", "maple tree", "ox") for t in TEMPLATES])
    # Floating point images are resized without rounding to whole grey levels.
    prepared = preprocess.clip_images(255 * images, size=model.image.image_size)
    embeddings, texts, scale = jax.jit(model.apply)(variables, prepared, jnp.asarray(ids))
    features = jax.jit(foundation.encode)(foundation.tower, images)
    np.testing.assert_allclose(features, embeddings, rtol=1e-4, atol=1e-5)
    words = evaluation.unit_rows(evaluation.unit_rows(texts).reshape(3, len(TEMPLATES), -1).sum(1))
    expected = scale * evaluation.unit_rows(embeddings) @ words.T
    projector = initial_projector(foundation, Adaptation(2, 2), 0)
    factors = jax.tree.leaves(projector.adapter["encoder"])
    assert len(factors) == 2 * {VIT: 3 * 6, RESNET: 5 * 3}[name]
    logits = projector_predict(foundation, projector)(images)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


class Pixels(NamedTuple):
    """A tower whose features are what it is shown."""

    image_size: int

    def clone(self, dtype):
        return self

    def apply(self, variables, images):
        return images + variables


def test_images_are_resized_and_standardised_inside_one_program():
    found = jax.jit(clip_encoder(Pixels(4)))(0.0, some_images() / np.float32(255))
    expected = preprocess.clip_images(some_images().astype(np.float32), size=4)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_data_set_without_names_of_its_classes_is_refused(folder):
    with pytest.raises(ValueError, match="clip needs the names of the classes"):
        clip_foundation(folder(VIT), (), templates=TEMPLATES)
