import numpy as np
import pytest
from PIL import Image

from lnl_jax.data import (
    CroppedImages,
    MiddleImages,
    epoch_plan,
    image_folder,
    stream,
    train_and_val,
)


def coordinates(height, width):
    """A picture that says of every pixel where it is."""
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return np.stack([rows, columns, np.full_like(rows, 7)], -1).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two classes with two and one images, and things that are neither."""
    for name in ("train/b/1.JPEG", "train/b/0.png", "train/a/2.jpg", "val/a/0.png", "val/b/0.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coordinates(120, 200)).save(path)
    (tmp_path / "train/a/notes.txt").write_text("no image")
    (tmp_path / "train/a/.hidden.png").write_text("no image")
    (tmp_path / "train/.cache").mkdir()
    return tmp_path


def test_classes_and_files_are_in_the_order_of_their_names(folder):
    train, val = train_and_val(folder)
    assert train.classes == val.classes == ("a", "b")
    ends = [file.removeprefix(str(folder / "train")) for file in train.files]
    assert ends == ["/a/2.jpg", "/b/0.png", "/b/1.JPEG"]
    assert train.label.tolist() == [0, 1, 1]
    assert val.skipped == ()
    # Nothing is passed over without a name, but what is hidden.
    (folder / "train/b/2.bmp").write_bytes(b"")
    (folder / "train/b/more.png").mkdir()
    (folder / "train/3.png").write_bytes(b"")
    skipped = image_folder(folder / "train").skipped
    assert [line.removeprefix(str(folder / "train")) for line in skipped] == [
        "/3.png: in no folder of a class",
        "/a/notes.txt: no image by its name",
        "/b/2.bmp: no image by its name",
        "/b/more.png: a folder in that of a class",
    ]
    assert train.take(np.array([0])).skipped == train.skipped != ()
    some = train.take(np.array([2, 0]))
    assert (some.files, some.label.tolist()) == ((train.files[2], train.files[0]), [1, 0])


def test_the_middle_is_a_square_of_the_shorter_side(folder):
    found = MiddleImages(image_folder(folder / "val").files, 60)[[1]]
    assert (found.shape, found.dtype) == ((1, 60, 60, 3), np.uint8)
    # 120 of 200 columns, from 40 to 160, halved.
    np.testing.assert_allclose(found[0, 30, :, 1], 40 + 2 * np.arange(60) + 0.5, atol=1.5)


def test_a_part_is_a_box_of_the_image_within_its_bounds(folder):
    files = image_folder(folder / "val").files * 200
    source = CroppedImages(files, 8, 3, min_area=0.2, max_ratio=2.0, flip_rate=0.0)
    found = source[np.arange(400)].astype(float)
    # Of a linear ramp the middle is exact, and the extent is 8/7 of that between outer pixels.
    tops, lefts = found[:, 0, :, 0].mean(1), found[:, :, 0, 1].mean(1)
    bottoms, rights = found[:, -1, :, 0].mean(1), found[:, :, -1, 1].mean(1)
    rows, columns = (bottoms - tops) * 8 / 7, (rights - lefts) * 8 / 7
    area = rows * columns / (120 * 200)
    # Sides that are cut at the image make the part smaller than was drawn.
    assert 0.1 < area.min() < 0.25
    assert 0.8 < area.max() <= 1.05
    assert 0.45 < (rows / columns).min()
    assert (rows / columns).max() < 2.1
    assert tops.min() >= 0
    assert rights.max() <= 199
    assert np.std(lefts) > 10


def test_squares_are_cut_where_no_ratio_is_allowed(folder):
    source = CroppedImages(image_folder(folder / "val").files, 8, 0, crops=50, max_ratio=1.0)
    found = source[[1]].astype(float)
    assert found.shape == (1, 50, 8, 8, 3)
    rows = np.abs(np.diff(found[0, ..., 0], axis=1)).mean((1, 2))
    columns = np.abs(np.diff(found[0, ..., 1], axis=2)).mean((1, 2))
    inside = rows < 0.95 * 120 / 8
    # Sides are whole numbers of pixels, and so are the differences before their mean.
    np.testing.assert_allclose(rows[inside], columns[inside], rtol=0.05, atol=0.3)
    mirrored = np.diff(found[0, :, 0, :, 1]).mean(-1) < 0
    assert 10 < mirrored.sum() < 40


def test_parts_depend_on_seed_and_position_alone(folder):
    files = image_folder(folder / "val").files * 4
    source = CroppedImages(files, 8, (1, 2))
    plan = epoch_plan(len(files), 3, np.random.default_rng(0))
    rows = {"image": source, "index": np.arange(len(files))}
    batches = list(stream(rows, plan, num_threads=2))
    again = CroppedImages(files, 8, (1, 2))
    for batch, positions in zip(batches, plan["position"], strict=True):
        np.testing.assert_array_equal(batch["image"], again[positions])
    other = CroppedImages(files, 8, (1, 3))
    assert not np.array_equal(other[[0, 2]], again[[0, 2]])
    # The same image in two places.
    assert not np.array_equal(again[[0]], again[[2]])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda at: at / "nowhere",
            FileNotFoundError,
            "there is no folder .*nowhere: it takes train/CL",
        ),
        (
            lambda at: at / "train",
            FileNotFoundError,
            "there is no folder .*train/train: it takes tra",
        ),
        (lambda at: (at / "val/c").mkdir() or at, ValueError, "val/c has no image"),
        (
            lambda at: (at / "val/b").rename(at / "val/c") and at,
            ValueError,
            "classes of .* differ: only in train are b; only in val are c",
        ),
    ],
)
def test_a_folder_that_cannot_be_read_is_named(folder, change, error, message):
    with pytest.raises(error, match=message):
        train_and_val(change(folder))


def test_a_folder_without_classes_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="has 1 folders of classes, 2 are needed: it takes CLASS/"):
        image_folder(tmp_path)


def test_a_folder_of_parts_is_not_taken_for_one_of_classes(folder):
    with pytest.raises(ValueError, match=r"train has no image: it takes CLASS/.*if a is a class, "):
        image_folder(folder)


@pytest.mark.parametrize("num_threads", [0, 2])
@pytest.mark.parametrize("content", [b"words", None])
def test_a_file_that_is_no_image_is_named_from_threads_too(folder, content, num_threads):
    path = folder / "val/b/0.png"
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    files = image_folder(folder / "val").files
    for source in (MiddleImages(files, 4), CroppedImages(files, 4, 0)):
        rows = {"image": source, "index": np.arange(2)}
        with pytest.raises(ValueError, match=r"val/b/0.png cannot be decoded \(.*\); remove it"):
            list(stream(rows, epoch_plan(2, 1), num_threads=num_threads))
