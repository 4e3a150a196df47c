"""A folder of small JPEGs from end to end: resumed as uninterrupted, bytes as written."""

import functools
import io
import shutil
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import imagenet_ledger
from experiments.folder_parts import Reading, folder_parts
from experiments.folder_students import convnet
from experiments.hello_imagenet import hello_imagenet
from experiments.imagenet_stages import Training, restored
from experiments.label_storage import robust_scores
from experiments.outputs import Artifact, Checkpoint, Resume
from experiments.stitched_images import Selection, choose_patches, stitched
from lnl_jax import data, distill
from tests.experiments.snapshots import on_the_host
from tests.experiments.test_clip_foundation import folder as clip_folder

__all__ = ["clip_folder"]

CLASSES = {"n01": (250, 40, 40), "n02": (40, 250, 40), "n03": (40, 40, 250)}
ROWS = ("hard", "projector_kl", "projector_kl_random")
ROWS += ("projector_kl_plain", "projector_kl_random_plain")


def small(num_classes, image_size):
    return convnet(num_classes, image_size, width=8, depth=1)


TINY = {
    "image_size": 16,
    "per_class": (1,),
    "rows": ROWS,
    "architecture": small,
    "teacher": small,
    "rank": 2,
    "head_rank": 2,
    "weak_teachers": 2,
    "foundation_epochs": 2,
    "teacher_epochs": 3,
    "projector_epochs": 2,
    "student_epochs": 5,
    "students": 1,
    "batch_size": 8,
    "validation_per_class": 2,
    "crops": 2,
    "num_threads": 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of noisy plain pictures of many sizes, and their names."""
    at, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for part, count in {"train": 7, "val": 4}.items():
        for name, color in CLASSES.items():
            (at / part / name).mkdir(parents=True)
            for number in range(count):
                shape = (*rng.integers(17, 40, 2), 3)
                pixels = np.clip(color + rng.normal(0, 30, shape), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(at / part / name / f"{number}.JPEG")
    (at / "names.txt").write_text("n01 red, crimson\nn02 green\nn03 light blue, azure\nn04 x\n")
    return at


def call(folder, **arguments):
    """The rows, the states after them, and the artifacts by name."""
    rows, states, artifacts = [], [], {}
    for output in hello_imagenet(**TINY | arguments, data_dir=str(folder)):
        if isinstance(output, dict):
            rows.append(output)
        elif isinstance(output, Checkpoint):
            states.append(on_the_host(output.state))
        else:
            assert isinstance(output, Artifact)
            artifacts[output.name] = output.value
    return rows, states, artifacts


def resume_after(count, rows, states):
    """As `run.py` does it: the saved leaves in the form that the experiment asks for."""

    def restore(like):
        return jax.tree.map(lambda wanted, saved: jnp.asarray(saved), like, states[count - 1])

    return Resume(rows[:count], restore)


def test_a_broken_picture_is_named_before_any_training_or_left_out(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    broken = tmp_path / "train/n02/3.JPEG"
    broken.write_bytes(broken.read_bytes()[:200])
    tiny = TINY | {"data_dir": str(tmp_path)}
    with pytest.raises(ValueError, match=r"train/n02/3.JPEG cannot be decoded .*Of 21 images 1"):
        next(hello_imagenet(**tiny))
    table = next(hello_imagenet(**tiny, skip_unreadable=True))
    assert table.name == "skipped"
    assert ["n02/3.JPEG" in row["skipped"] for row in table.value] == [True]


@pytest.mark.slow
def test_a_run_goes_on_where_it_stopped_and_the_ledger_has_the_bytes_of_the_files(folder):
    names = {"class_names": str(folder / "names.txt")}
    rows, states, artifacts = call(folder, **names)
    trained = ["foundation"] * 2 + ["teacher"] * 3 + ["projector"] * 2 + ["patches"]
    assert [row["method"] for row in rows] == trained + [f"{row}, 1 per class" for row in ROWS]
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[4]["loss"] < rows[2]["loss"]
    results = {line["row"]: line["test %"] for line in artifacts["results"]}
    scores = artifacts["robust_scores"][0]
    fractions = {row: value / 100 for row, value in results.items()}
    assert scores["augmentation-robust score"] == pytest.approx(
        distill.ledger.augmentation_robust_score(
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
    # In the middle of the teacher, and of the students.
    for count in (4, 10):
        resume = resume_after(count, rows, states)
        rest, _, again = call(folder, **names, resume=resume)
        assert [row.pop("method") for row in rest] == [row["method"] for row in rows[count:]]
        for one, other in zip(rest, rows[count:], strict=True):
            assert one == pytest.approx({name: other[name] for name in one}, rel=1e-5)
        assert again["results"] == artifacts["results"]
        np.testing.assert_array_equal(again["adapter.npy"], artifacts["adapter.npy"])


@pytest.mark.parametrize(("done", "running"), [(0, {}), (1, 7), (2, {})])
def test_a_network_that_is_finished_is_not_gone_on_with(done, running):
    stages = [
        Training(name, lambda state: np.int32(0), None, None, 2, None, None) for name in ("a", "b")
    ]
    saved = {"done": np.int32(done), "running": np.int32(7)}
    resume = Resume([{"method": "b"}] if done else (), lambda like: like | saved if done else like)
    state = restored({"done": np.int32(0)}, stages, resume)
    assert (state["done"], state["running"]) == (done, running)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hf_clip_gelu", "open_clip_rn"])
def test_clip_from_a_file_is_not_trained(folder, clip_folder, name):
    brief = {"rows": ("zero_shot_kl",), "teacher_epochs": 2, "projector_epochs": 1}
    brief |= {"student_epochs": 1, "clip": str(clip_folder(name))}
    rows, states, artifacts = call(folder, **brief)
    assert [row["method"] for row in rows][:4] == ["teacher"] * 2 + ["projector", "patches"]
    assert states[-1]["foundation"] == {}
    kernels = {"hf_clip_gelu": 3 * 6, "open_clip_rn": 5 * 3}[name]
    assert len(states[-1]["adapter"]["encoder"]) == kernels
    zero_shot, projector, _ = artifacts["networks"]
    assert zero_shot["parameters"] == 0
    assert projector["bytes as float16"] == len(artifacts["adapter.npy"]) - 128


@pytest.mark.slow
def test_the_best_crops_of_a_class_are_stitched_as_they_were_scored(folder):
    parts = folder_parts(str(folder), class_names=None, validation_per_class=1, seed=0)
    selection, reading = Selection(2, 5, 3, 0), Reading(16, 8, 0)

    def colors(images):
        return 9 * images[:, 4:12, 4:12].mean((1, 2))

    chosen = choose_patches(parts.train, colors, 4, selection, reading)
    crops = data.CroppedImages(
        parts.train.files, 8, (0, 5), crops=3, min_area=0.25, max_ratio=1.0, flip_rate=0.0
    )
    images = stitched(parts.train, chosen, 1, selection, reading)
    for label, (rows, numbers) in enumerate(chosen.transpose(0, 2, 1)):
        assert len(set(rows)) == 4
        assert (parts.train.label[rows] == label).all()
        found = crops[rows]
        scores = 9 * found.mean((2, 3)) / 255
        losses = np.log(np.exp(scores).sum(-1)) - scores[..., label]
        assert (losses.argmin(1) == numbers).all()
        assert (np.diff(losses.min(1)) >= 0).all()
        whole = distill.images.stitch(found[np.arange(4), numbers], 1, 2)[0].astype(float)
        assert np.abs(images[[label]][0] - whole).mean() < 12


@pytest.mark.slow
def test_the_ledger_of_imagenet_has_the_published_sizes():
    lines = {(line["per class"], line["what"]): line for line in imagenet_ledger.ledger()}
    assert lines[1, "instead: stored logits"]["size"] == "572.2 MiB"
    assert lines[200, "instead: stored logits"]["size"] == "111.8 GiB"
    # LPLD prints 28.33 GiB and 0.71 GB.
    stored = "instead: stored logits and geometry (SRe2L, LPLD)"
    assert lines[50, stored]["bytes"] == pytest.approx(28.33 * 2**30, rel=2e-3)
    assert lines[50, "instead: one in 40 of them (LPLD)"]["bytes"] == pytest.approx(
        0.71 * 2**30, rel=5e-3
    )
    assert lines[1, "adapter, RN50"]["bytes"] == 2 * (847_360 + 2)
    assert lines[1, "instead: the teacher"]["size"] == "22.3 MiB"
    claimed = {line["per class"]: line for line in imagenet_ledger.claimed()}
    assert claimed[50]["millions of parameters / MiB of labels, %"] == pytest.approx(
        0.0028, abs=5e-5
    )


def test_scores_are_those_whose_rows_were_run():
    found = {("a", 1): 0.5, ("b", 1): 0.6, ("c", 1): 0.4, ("b", 2): 0.3, ("c", 2): 0.3}
    found |= {("d", 2): 0.2, ("e", 2): 0.1, ("f", 3): 0.1}
    lines = robust_scores(
        found, teacher=0.9, rows=("a", "b", "c"), plain_rows=("d", "e"), per_class=(1, 2, 3)
    )
    assert [sorted(line) for line in lines] == [
        ["label-robust score", "per class"],
        ["augmentation-robust score", "per class"],
    ]
    assert lines[1]["augmentation-robust score"] == pytest.approx(
        distill.ledger.augmentation_robust_score(
            synthetic_augmented=0.3, random_augmented=0.3, synthetic_plain=0.2, random_plain=0.1
        )
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"data_dir": None}, ValueError, "give --data_dir DIR with train/CLASS"),
        ({"data_dir": "/nowhere"}, ValueError, "there is no folder /nowhere"),
        ({"class_names": "/nowhere.txt"}, ValueError, "there is no file /nowhere.txt"),
        ({"per_class": (2,)}, ValueError, "per_class must be from 1 to 1: an image takes 4 patch"),
        ({"validation_per_class": 7}, ValueError, "validation_per_class must be from 1 to 6"),
        ({"rows": ("best",)}, ValueError, "rows cannot be best; there is hard, hard_random"),
        ({"weak_teachers": 4}, ValueError, "teacher_epochs must be at least the 4 weak_teachers"),
        ({"image_size": 20}, ValueError, "image_size must be a multiple of 8 without --clip"),
        ({"image_size": 15}, ValueError, "factor must divide the image_size of 15, got 2"),
        ({"clip": "/nowhere"}, ValueError, "clip: no CLIP weights at /nowhere"),
        ({"learning_rates": ()}, ValueError, "learning_rates must hold at least one number"),
    ],
)
def test_settings_that_do_not_fit_are_named(folder, arguments, error, message):
    with pytest.raises(error, match=message):
        next(hello_imagenet(**TINY | {"data_dir": str(folder)} | arguments))


def test_names_of_missing_classes_are_asked_for(folder, tmp_path):
    (tmp_path / "names.txt").write_text("n01 red\nn02\n")
    named = functools.partial(folder_parts, str(folder), validation_per_class=1, seed=0)
    with pytest.raises(ValueError, match="names.txt has no words for n02, n03; each line"):
        named(class_names=str(tmp_path / "names.txt"))
    assert named(class_names=str(folder / "names.txt")).names == ("red", "green", "light blue")
