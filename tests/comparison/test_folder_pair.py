import numpy as np
import pytest
from PIL import Image

from lnl_jax.comparison.catalogue import IMAGE_SETS
from lnl_jax.runner.arguments import StudyError


def write(folder, counts):
    for at, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(np.full((40, 50, 3), 40 * at + number, np.uint8))
            image.save(folder / name / f"{number}.png")


def test_images_of_the_web_and_right_ones_are_a_pair_of_folders(tmp_path):
    write(tmp_path / "web", {"cat": 3, "dog": 2})
    write(tmp_path / "val", {"cat": 1, "dog": 2})
    found = IMAGE_SETS["folder_pair"](str(tmp_path), train="web", size=16)
    assert found.train["label"].tolist() == [0, 0, 0, 1, 1]
    assert found.test["label"].tolist() == [0, 1, 1]
    assert found.train["image"].shape == (5, 16, 16, 3)
    assert found.test["index"].tolist() == [0, 1, 2]
    assert (found.class_names, found.given) == (("cat", "dog"), True)


def test_folders_of_other_classes_are_refused_in_one_line(tmp_path):
    write(tmp_path / "train", {"cat": 1, "dog": 1, "eel": 1})
    write(tmp_path / "val", {"cat": 1, "dog": 1})
    with pytest.raises(StudyError, match="same classes, got 3 and 2; eel is in one alone") as error:
        IMAGE_SETS["folder_pair"](str(tmp_path))
    assert "\n" not in str(error.value)
