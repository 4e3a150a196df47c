"""The protocol on colour images, in a tiny run through the real loader."""

import functools
import importlib

import numpy as np
import pytest

from experiments import command_line
from experiments.distillation_parts import image_parts
from experiments.hello_cifar import hello_cifar
from experiments.hello_digits import hello_digits
from experiments.outputs import Artifact
from experiments.soft_label_students import convnet
from lnl_jax import data, models

TINY = {"foundation_steps": 1, "teacher_steps": 9, "projector_steps": 1, "student_epochs": 4}
TINY |= {"students": 1, "per_class": (1,), "rows": ("hard", "projector_kl"), "train_size": 40}
TINY |= {"architecture": functools.partial(convnet, width=4, depth=1)}


@pytest.mark.slow
def test_a_run_on_colour_images_fills_its_tables(tmp_path, monkeypatch):
    few = functools.partial(image_parts, validation_size=20)
    module = importlib.import_module("experiments.hello_cifar")
    monkeypatch.setattr(module, "image_parts", few)
    rng = np.random.default_rng(0)
    arrays = {}
    for part, size in {"train": 60, "test": 20}.items():
        arrays[f"x_{part}"] = rng.integers(0, 256, (size, 32, 32, 3), np.uint8)
        arrays[f"y_{part}"] = np.arange(size) % 10
    np.savez(tmp_path / "cifar10.npz", **arrays)
    outputs = hello_cifar(**TINY, data_dir=str(tmp_path))
    found = {output.name: output.value for output in outputs if isinstance(output, Artifact)}
    assert [line["row"] for line in found["results"]] == ["hard", "projector_kl"]
    lines = {line["what"]: line for line in found["storage"]}
    assert lines["images and classes, file"]["bytes"] == len(found["images_1.npz"])


def test_a_wrong_folder_is_named():
    with pytest.raises(ValueError, match="data_dir must be a folder"):
        next(hello_cifar(data_dir="/nowhere"))


@pytest.mark.parametrize("experiment", [hello_cifar, hello_digits])
def test_students_are_chosen_with_their_own_keywords(experiment):
    given = {"architecture": "vit", "architecture.depth": "1"}
    call = command_line.bind(experiment, given)
    assert call.config["architecture.patch_size"] == 4
    assert call.overrides == {"architecture": "vit", "architecture.depth": 1}
    assert call.arguments["architecture"](7) == models.vit(7, depth=1)
    with pytest.raises(command_line.UsageError, match="unknown --architecture 'mlp'"):
        command_line.bind(experiment, {"architecture": "mlp"})


def test_the_set_is_chosen_by_name():
    call = command_line.bind(hello_cifar, {"dataset": "cifar100"})
    assert call.arguments["dataset"] is data.cifar100
    with pytest.raises(command_line.UsageError, match="unknown --dataset 'mnist'"):
        command_line.bind(hello_cifar, {"dataset": "mnist"})
