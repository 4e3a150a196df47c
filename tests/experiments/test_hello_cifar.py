"""The protocol on colour images, in a tiny run through the real loader."""

import numpy as np
import pytest

from experiments.hello_cifar import hello_cifar
from experiments.outputs import Artifact

TINY = {"foundation_steps": 1, "teacher_steps": 9, "projector_steps": 1, "student_epochs": 4}
TINY |= {"students": 1, "per_class": (1,), "rows": ("hard", "projector_kl"), "train_size": 40}


@pytest.mark.slow
def test_a_run_on_colour_images_fills_its_tables(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for part, size in {"train": 1100, "test": 20}.items():
        arrays[f"x_{part}"] = rng.integers(0, 256, (size, 32, 32, 3), np.uint8)
        arrays[f"y_{part}"] = np.arange(size) % 10
    np.savez(tmp_path / "cifar10.npz", **arrays)
    outputs = hello_cifar(**TINY, data_dir=str(tmp_path))
    found = {output.name: output.value for output in outputs if isinstance(output, Artifact)}
    assert [line["row"] for line in found["results"]] == ["hard", "projector_kl"]
    lines = {line["what"]: line for line in found["storage"]}
    assert lines["images and classes, file"]["bytes"] == len(found["images_1.npz"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dataset": "mnist"}, ValueError, "dataset must be one of cifar10, cifar100"),
        ({"data_dir": "/nowhere"}, FileNotFoundError, "data_dir must be a folder"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        next(hello_cifar(**arguments))
