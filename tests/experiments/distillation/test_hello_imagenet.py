"""A folder of small JPEGs from end to end: resumed as uninterrupted, bytes as written."""

import functools
import io
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from experiments.distillation import _shared as shared
from experiments.distillation.hello_imagenet import hello_imagenet
from lnl_jax.comparison.label_plan import Students
from lnl_jax.distill import labels, ledger
from tests.distill.test_clip_foundation import folder as clip_folder
from tests.distill.test_folder_images import CLASSES, folder
from tests.experiments.replays import first_stages, play, stopped_inside

__all__ = ["clip_folder", "folder"]

ROWS = ("hard", "projector_kl", "projector_kl_random")
ROWS += ("projector_kl_plain", "projector_kl_random_plain", "projector_mse_updated")
SMALL = functools.partial(labels.sized_convnet, width=8, depth=1)
TINY = {
    "image_size": 16,
    "per_class": (1,),
    "rows": ROWS,
    "foundation": shared.SmallClip(epochs=2),
    "teacher": shared.Teacher(SMALL, epochs=3, checkpoints=2),
    "projector": shared.FolderProjector(rank=2, head_rank=2, epochs=2),
    "patches": shared.Patches(crops=2),
    "architecture": SMALL,
    "students": Students(1, 5, 100, (1e-3,), 20.0, 0.025),
    "batch_size": 8,
    "folder": shared.Folder(validation_per_class=2, num_threads=2),
}


def test_a_broken_picture_is_named_before_any_training_or_left_out(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    broken = tmp_path / "train/n02/3.JPEG"
    broken.write_bytes(broken.read_bytes()[:200])
    tiny = TINY | {"data_dir": str(tmp_path)}
    with pytest.raises(ValueError, match=r"train/n02/3.JPEG cannot be decoded .*Of 21 images 1"):
        next(hello_imagenet(**tiny))
    tiny["folder"] = TINY["folder"]._replace(skip_unreadable=True)
    table = next(hello_imagenet(**tiny))
    assert table.name == "skipped"
    assert ["n02/3.JPEG" in row["skipped"] for row in table.value] == [True]


@pytest.mark.slow
def test_a_run_goes_on_where_it_stopped_and_the_ledger_has_the_bytes_of_the_files(folder):
    arguments = TINY | {"data_dir": str(folder)}
    arguments["folder"] = TINY["folder"]._replace(class_names=str(folder / "names.txt"))
    whole = play(hello_imagenet(**arguments))
    rows, artifacts = whole.rows, whole.artifacts
    trained = ["foundation"] * 2 + ["teacher"] * 3 + ["projector"] * 2 + ["patches"]
    assert [row["method"] for row in rows] == trained + [f"{row}, 1 per class" for row in ROWS]
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[4]["loss"] < rows[2]["loss"]
    results = {line["row"]: line["test %"] for line in artifacts["results"]}
    scores = artifacts["robust_scores"][0]
    fractions = {row: value / 100 for row, value in results.items()}
    assert scores["augmentation-robust score"] == pytest.approx(
        ledger.augmentation_robust_score(
            synthetic_augmented=fractions["projector_kl"],
            random_augmented=fractions["projector_kl_random"],
            synthetic_plain=fractions["projector_kl_plain"],
            random_plain=fractions["projector_kl_random_plain"],
        )
    )
    sizes = {line["what"]: line["bytes"] for line in artifacts["storage"]}
    assert sizes["images and classes, file"] == len(artifacts["images_1.zip"])
    assert sizes["adapter, file"] == len(artifacts["adapter.npy"])
    with zipfile.ZipFile(io.BytesIO(artifacts["images_1.zip"])) as file:
        assert file.namelist() == ["n01/0.jpg", "n02/1.jpg", "n03/2.jpg"]
        for name, color in zip(file.namelist(), CLASSES.values(), strict=True):
            pixels = np.asarray(Image.open(io.BytesIO(file.read(name))))
            assert pixels.shape == (16, 16, 3)
            assert np.argmax(pixels.mean((0, 1))) == np.argmax(color)
    # In the middle of the teacher, after one of its checkpoints, and before the students.
    for name, stages, passes in (("teacher", 1, 2), ("hard, 1 per class", 5, 0)):
        resume = stopped_inside(whole, name, passes) if passes else None
        again = play(hello_imagenet(**arguments), first_stages(whole, stages), resume)
        assert again.computed == list(whole.kept)[stages:]
        rest = rows[-len(again.rows) :]
        assert [row["method"] for row in again.rows] == [row["method"] for row in rest]
        for one, other in zip(again.rows, rest, strict=True):
            assert one.pop("method") == other["method"]
            assert one == pytest.approx({key: other[key] for key in one}, rel=1e-5)
        assert again.artifacts["results"] == artifacts["results"]
        assert again.artifacts["adapter.npy"] == artifacts["adapter.npy"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hf_clip_gelu", "open_clip_rn"])
def test_clip_from_a_file_is_not_trained(folder, clip_folder, name):
    brief = {"rows": ("zero_shot_kl",), "clip": str(clip_folder(name)), "data_dir": str(folder)}
    brief |= {"teacher": TINY["teacher"]._replace(epochs=2)}
    brief |= {"projector": TINY["projector"]._replace(epochs=1)}
    brief |= {"students": TINY["students"]._replace(epochs=1)}
    found = play(hello_imagenet(**TINY | brief))
    methods = [row["method"] for row in found.rows]
    assert methods[:4] == ["teacher"] * 2 + ["projector", "patches"]
    assert [row["epoch"] for row in found.rows] == list(range(1, 6))
    assert "foundation" not in found.kept
    kernels = {"hf_clip_gelu": 3 * 6, "open_clip_rn": 5 * 3}[name]
    assert len(found.kept["projector"][0]["params"]["encoder"]) == kernels
    zero_shot, projector, _ = found.artifacts["networks"]
    assert zero_shot["parameters"] == 0
    assert projector["bytes as float16"] == len(found.artifacts["adapter.npy"]) - 128


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"data_dir": None}, ValueError, "give --data_dir DIR with train/CLASS"),
        ({"data_dir": "/nowhere"}, ValueError, "there is no folder /nowhere"),
        (
            {"folder": shared.Folder(class_names="/nowhere.txt")},
            ValueError,
            "folder: class_names: there is no file /nowhere.txt",
        ),
        ({"per_class": (2,)}, ValueError, "per_class must be from 1 to 1: an image takes 4 patch"),
        (
            {"folder": shared.Folder(validation_per_class=7)},
            ValueError,
            "folder: validation_per_class must be from 1 to 6",
        ),
        ({"rows": ("best",)}, ValueError, "rows cannot be best; there is hard, hard_random"),
        (
            {"teacher": TINY["teacher"]._replace(checkpoints=4)},
            ValueError,
            "teacher: checkpoints must be from 1 to the 3 of the run, got 4",
        ),
        ({"image_size": 20}, ValueError, "image_size must be a multiple of 8 for a small CLIP"),
        ({"image_size": 15}, ValueError, "factor must divide the image_size of 15, got 2"),
        ({"clip": "/nowhere"}, ValueError, "no CLIP weights at /nowhere"),
        (
            {"students": TINY["students"]._replace(learning_rates=())},
            ValueError,
            "students.learning_rates must hold at least one number",
        ),
    ],
)
def test_settings_that_do_not_fit_are_named(folder, arguments, error, message):
    with pytest.raises(error, match=message):
        next(hello_imagenet(**TINY | {"data_dir": str(folder)} | arguments))
