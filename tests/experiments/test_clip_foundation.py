"""CLIP from files as the foundation model: zero-shot at the start, and a run that resumes."""

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

from experiments.clip_foundation import clip_encoder, load_foundation
from experiments.hello_cifar import hello_cifar
from experiments.low_rank_projectors import Setting, initial_projector, projector_predict
from experiments.outputs import Artifact, Checkpoint, Resume
from lnl_jax import distill, models
from lnl_jax.data import preprocess
from tests.experiments.snapshots import on_the_host

GOLDEN = Path(__file__).parents[1] / "golden" / "clip_tiny"
VIT, RESNET = "hf_clip_gelu", "open_clip_rn"
TEMPLATES = ("a {}.", "{}")
CLASSES = ("airplane", "maple_tree", "ox")
TINY = {"teacher_steps": 9, "projector_steps": 2, "student_epochs": 4, "templates": TEMPLATES}
TINY |= {"students": 1, "per_class": (1,), "rows": ("projector_kl",)}


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
    foundation = load_foundation(path, CLASSES, templates=TEMPLATES)
    images = some_images() / np.float32(255)
    model, variables = models.load_clip(path)
    tokenize = models.load_tokenizer(path, context_length=model.text.context_length)
    ids = tokenize([t.format(n) for n in ("airplane", "maple tree", "ox") for t in TEMPLATES])
    # Floating point images are resized without rounding to whole grey levels.
    prepared = preprocess.clip_images(255 * images, size=model.image.image_size)
    embeddings, texts, scale = jax.jit(model.apply)(variables, prepared, jnp.asarray(ids))
    features = jax.jit(foundation.encode)(foundation.tower, images)
    np.testing.assert_allclose(features, embeddings, rtol=1e-4, atol=1e-5)
    words = distill.projectors.unit_rows(
        distill.projectors.unit_rows(texts).reshape(3, len(TEMPLATES), -1).sum(1)
    )
    expected = scale * distill.projectors.unit_rows(embeddings) @ words.T
    projector = initial_projector(foundation, Setting(2, 2), 0)
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


@pytest.fixture
def cifar(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for part, size in {"train": 1100, "test": 20}.items():
        arrays[f"x_{part}"] = rng.integers(0, 256, (size, 32, 32, 3), np.uint8)
        arrays[f"y_{part}"] = np.arange(size) % 10
    np.savez(tmp_path / "cifar10.npz", **arrays)
    return {"data_dir": str(tmp_path), "train_size": 40}


@pytest.mark.slow
def test_a_run_counts_the_public_tower_and_resumes_alike(folder, cifar):
    def call(**more):
        rows, states, artifacts = [], [], {}
        for output in hello_cifar(**TINY, **cifar, clip=str(path), **more):
            if isinstance(output, Checkpoint):
                states.append(on_the_host(output.state))
            elif isinstance(output, Artifact):
                artifacts[output.name] = output.value
            else:
                rows.append(output)
        return rows, states, artifacts

    path = folder(VIT)
    rows, states, outputs = call()
    _, variables = models.load_clip(path)
    tower = {kind: of["image"] for kind, of in variables.items() if "image" in of}
    lines = {line["what"]: line for line in outputs["storage"]}
    assert lines["public tower"]["bytes"] == distill.ledger.tree_bytes(tower)
    assert lines["public tower"]["counted"] == "no"
    # The third stage is the linear probe: the adapter is still to be trained.
    resume = Resume(rows[:3], lambda like: jax.tree.map(lambda _, leaf: leaf, like, states[2]))
    more, _, again = call(resume=resume)
    assert more == rows[3:]
    for table in ("results", "projectors", "storage"):
        assert again[table] == outputs[table]
    assert again["adapter.npy"] == outputs["adapter.npy"]


def test_what_is_missing_is_said_with_the_files_to_fetch(folder, cifar):
    wanted = r"no CLIP weights at /nowhere.*openai/clip-vit-base-patch32.*experiment hello_digits"
    with pytest.raises(ValueError, match=wanted):
        next(hello_cifar(**TINY, **cifar, clip="/nowhere"))
    path = folder(VIT)
    (path / "merges.txt").unlink()
    with pytest.raises(ValueError, match=r"no vocabulary in .*tokenizer\.json"):
        next(hello_cifar(**TINY, **cifar, clip=str(path / "model.safetensors")))
    with pytest.raises(ValueError, match="clip needs the names of the classes"):
        load_foundation(path, (), templates=TEMPLATES)
