"""Distilled images out of a folder of JPEGs: its parts, and patches that are stitched."""

import functools

import numpy as np
import pytest
from PIL import Image

from lnl_jax import data, distill
from lnl_jax.distill import images

CLASSES = {"n01": (250, 40, 40), "n02": (40, 250, 40), "n03": (40, 40, 250)}


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


@pytest.mark.slow
def test_the_best_crops_of_a_class_are_stitched_as_they_were_scored(folder):
    parts = images.folder_parts(str(folder), class_names=None, validation_per_class=1, seed=0)
    pool, reading = images.PatchPool(2, 5, 3, 0), images.Reading(16, 8, 0)

    def colors(shown):
        return 9 * shown[:, 4:12, 4:12].mean((1, 2))

    chosen = images.choose_patches(parts.train, colors, 4, pool, reading)
    crops = data.CroppedImages(
        parts.train.files, 8, (0, 5), crops=3, min_area=0.25, max_ratio=1.0, flip_rate=0.0
    )
    found_images = images.stitched_jpegs(parts.train, chosen, 1, pool, reading)
    for label, (rows, numbers) in enumerate(chosen.transpose(0, 2, 1)):
        assert len(set(rows)) == 4
        assert (parts.train.label[rows] == label).all()
        found = crops[rows]
        scores = 9 * found.mean((2, 3)) / 255
        losses = np.log(np.exp(scores).sum(-1)) - scores[..., label]
        assert (losses.argmin(1) == numbers).all()
        assert (np.diff(losses.min(1)) >= 0).all()
        whole = distill.images.stitch(found[np.arange(4), numbers], 1, 2)[0].astype(float)
        assert np.abs(found_images[[label]][0] - whole).mean() < 12


def test_names_of_missing_classes_are_asked_for(folder, tmp_path):
    (tmp_path / "names.txt").write_text("n01 red\nn02\n")
    named = functools.partial(images.folder_parts, str(folder), validation_per_class=1, seed=0)
    with pytest.raises(ValueError, match="names.txt has no words for n02, n03; each line"):
        named(class_names=str(tmp_path / "names.txt"))
    assert named(class_names=str(folder / "names.txt")).names == ("red", "green", "light blue")
