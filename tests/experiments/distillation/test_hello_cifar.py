"""The protocol on colour images, in a tiny run through the real loader, and on CLIP from a file."""

import functools

import numpy as np
import pytest

from experiments.distillation.hello_cifar import hello_cifar
from experiments.distillation.hello_digits import hello_digits
from lnl_jax import data, models
from lnl_jax.comparison import label_plan
from lnl_jax.comparison.label_plan import Projector, Students
from lnl_jax.distill import images, labels, ledger, projectors
from lnl_jax.runner import command_line
from lnl_jax.runner.usage import UsageError
from tests.distill.test_clip_foundation import TEMPLATES, VIT
from tests.distill.test_clip_foundation import folder as clip_folder
from tests.distill.test_tower_foundation import tiny_tower
from tests.experiments.replays import first_stages, play

__all__ = ["clip_folder"]

TINY = {"foundation_steps": 1, "teacher_steps": 9, "train_size": 40, "per_class": (1,)}
TINY |= {"projector": Projector(steps=1), "students": Students(count=1, epochs=4)}
SMALL = functools.partial(labels.small_convnet, width=4, depth=1)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for part, size in {"train": 60, "test": 20}.items():
        arrays[f"x_{part}"] = rng.integers(0, 256, (size, 32, 32, 3), np.uint8)
        arrays[f"y_{part}"] = np.arange(size) % 10
    np.savez(tmp_path / "cifar10.npz", **arrays)
    return str(tmp_path)


@pytest.fixture(autouse=True)
def _few_are_enough_to_validate(monkeypatch):
    monkeypatch.setattr(
        images, "image_parts", functools.partial(images.image_parts, validation_size=20)
    )


@pytest.mark.slow
def test_a_run_on_colour_images_fills_its_tables(folder):
    rows = ("hard", "projector_kl")
    found = play(hello_cifar(**TINY, architecture=SMALL, rows=rows, data_dir=folder)).artifacts
    assert [line["row"] for line in found["results"]] == ["hard", "projector_kl"]
    lines = {line["what"]: line for line in found["storage"]}
    assert lines["images and classes, file"]["bytes"] == len(found["images_1.npz"])


@pytest.mark.slow
def test_a_run_on_clip_counts_the_public_tower_and_resumes_alike(clip_folder, folder):
    path = clip_folder(VIT)
    arguments = TINY | {"clip": str(path), "templates": TEMPLATES, "data_dir": folder}
    arguments |= {"rows": ("projector_kl",), "architecture": SMALL}
    whole = play(hello_cifar(**arguments))
    assert "foundation" not in whole.kept
    _, variables = models.load_clip(path)
    tower = {kind: of["image"] for kind, of in variables.items() if "image" in of}
    lines = {line["what"]: line for line in whole.artifacts["storage"]}
    assert lines["public tower"]["bytes"] == ledger.tree_bytes(tower)
    assert lines["public tower"]["counted"] == "no"
    # The linear probe is there, the adapter is still to be trained.
    again = play(hello_cifar(**arguments), first_stages(whole, 2))
    assert again.computed == list(whole.kept)[2:]
    assert again.rows == whole.rows
    for name in ("results", "projectors", "storage", "adapter.npy"):
        assert again.artifacts[name] == whole.artifacts[name]


@pytest.mark.slow
def test_a_run_on_a_tower_labels_all_views_by_all_projectors(folder, monkeypatch):
    monkeypatch.setattr(
        projectors, "efficientnet_foundation", lambda *_, **__: tiny_tower(num_classes=10)
    )
    monkeypatch.setattr(label_plan, "WIDE_RANK", 3)
    rows = ("projector_kl", "stored_wide_kl", "zero_shot_kl", "projector_kl_updated")
    arguments = TINY | {"rows": rows, "architecture": SMALL, "data_dir": folder, "ablation": True}
    arguments["projector"] = Projector(rank=2, head_rank=2, steps=2)
    found = play(hello_cifar(**arguments, tower="lite0.safetensors"))
    kinds = {line["projector"] for line in found.artifacts["projectors"]}
    others = {"LoRA, text, full head", "LoRA, random full head"}
    others |= {
        f"{name}, {how}"
        for name in ("linear probe", "LoRA, text, low-rank head")
        for how in ("one teacher", "weak teachers")
    }
    assert others | {"wide adapter", "zero-shot"} <= kinds
    assert {line["row"] for line in found.artifacts["results"]} == {*rows, *others}
    assert "labels_1_float16_wide_adapter_distilled.npz" in found.artifacts
    made = found.kept["labels of distilled images, 1 per class"]
    assert set(made) == {"projector", "wide adapter", "zero-shot", *others}


def test_a_tower_that_is_not_there_is_said_with_what_makes_it(folder):
    with pytest.raises(ValueError, match="tower: no weights of EfficientNet-Lite at /nowhere"):
        next(hello_cifar(**TINY, data_dir=folder, tower="/nowhere"))
    with pytest.raises(ValueError, match="tower cannot be given beside clip"):
        next(hello_cifar(**TINY, data_dir=folder, tower="/nowhere", clip="/nowhere"))
    with pytest.raises(ValueError, match="rows cannot be stored_wide_kl"):
        next(hello_cifar(**TINY | {"rows": ("stored_wide_kl",)}, data_dir=folder))


def test_what_is_missing_of_clip_is_said_with_the_files_to_fetch(clip_folder, folder):
    wanted = r"no CLIP weights at /nowhere.*openai/clip-vit-base-patch32.*experiment hello_digits"
    with pytest.raises(ValueError, match=wanted):
        next(hello_cifar(**TINY, data_dir=folder, clip="/nowhere"))
    path = clip_folder(VIT)
    (path / "merges.txt").unlink()
    with pytest.raises(ValueError, match=r"no vocabulary in .*tokenizer\.json"):
        next(hello_cifar(**TINY, data_dir=folder, clip=str(path / "model.safetensors")))


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
    with pytest.raises(UsageError, match="unknown --architecture 'mlp'"):
        command_line.bind(experiment, {"architecture": "mlp"})


def test_the_set_is_chosen_by_name():
    call = command_line.bind(hello_cifar, {"dataset": "cifar100"})
    assert call.arguments["dataset"] is data.cifar100
    with pytest.raises(UsageError, match="unknown --dataset 'mnist'"):
        command_line.bind(hello_cifar, {"dataset": "mnist"})
