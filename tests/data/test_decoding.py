import io

import numpy as np
import pytest
from PIL import Image

from lnl_jax.data import MiddleImages, image_folder, image_text, readable
from lnl_jax.data.decoding import decode
from tests.data.test_image_text import write_shard


def stored(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def decoded(content):
    return decode(content, "it", lambda image: image)


def test_grey_of_16_bits_is_scaled_and_not_cut_off():
    levels = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    found = decoded(stored(Image.fromarray(levels), "png"))
    np.testing.assert_array_equal(found, np.rint(levels / 257)[..., None].repeat(3, -1))
    assert found.mean() == pytest.approx(127.5, abs=0.1)


@pytest.mark.parametrize(
    ("mode", "form"), [("L", "png"), ("1", "png"), ("LA", "png"), ("P", "png"), ("CMYK", "jpeg")]
)
def test_other_modes_come_out_in_colours_from_black_to_white(mode, form):
    ramp = Image.fromarray(np.uint8([[0] * 8, [255] * 8]).repeat(8, 0))
    # Pillow makes the last two of colours only.
    ramp = ramp.convert("RGB") if mode in ("P", "CMYK") else ramp
    found = decoded(stored(ramp.convert(mode), form))
    assert found.shape == (16, 8, 3)
    assert found[0].max() < 30
    assert found[-1].min() > 225


# What turns a stored picture upright, by its EXIF orientation.
TURNS = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: np.rot90(image),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_pictures_are_turned_as_their_exif_orientation_says(orientation):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 7, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decoded(stored(Image.fromarray(pixels), "png", exif=exif))
    np.testing.assert_array_equal(found, TURNS[orientation](pixels))


@pytest.mark.filterwarnings("ignore:.*EXIF data:UserWarning")
def test_a_broken_exif_block_leaves_the_picture_as_it_is():
    pixels = np.full((4, 7, 3), 9, np.uint8)
    for block in (b"Exif\0\0MM\0*\0\0\0\x08\0\x01", b"Exif\0\0not exif at all"):
        found = decoded(stored(Image.fromarray(pixels), "jpeg", exif=block))
        assert found.shape == (4, 7, 3)


# Broken pictures, before they are needed.


@pytest.fixture
def folder(tmp_path):
    """Two classes of four and two pictures, two of which are broken: one is cut off."""
    for number in range(6):
        path = tmp_path / ("cat" if number < 4 else "dog") / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        picture = np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)
        path.write_bytes(stored(Image.fromarray(picture), "jpeg"))
    whole = (tmp_path / "cat/1.jpg").read_bytes()
    (tmp_path / "cat/1.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "dog/5.jpg").write_bytes(b"words")
    return tmp_path


def test_broken_pictures_are_counted_and_named_before_they_are_needed(folder):
    images = image_folder(folder)
    with pytest.raises(ValueError, match=r"cat/1.jpg cannot be decoded .*Of 6 images 2 cannot"):
        readable(images)
    kept, skipped = readable(images, skip_unreadable=True)
    assert [file.rpartition("/")[2] for file in kept.files] == ["0.jpg", "2.jpg", "3.jpg", "4.jpg"]
    assert kept.label.tolist() == [0, 0, 0, 1]
    assert [line.split(" ")[0].rpartition("/")[2] for line in skipped] == ["1.jpg", "5.jpg"]
    assert MiddleImages(kept.files, 4)[np.arange(4)].shape == (4, 4, 4, 3)
    assert readable(kept) == (kept, ())


def test_more_pictures_than_are_looked_at_are_named_when_drawn(folder):
    images = image_folder(folder)
    assert readable(images, check_at_most=5) == (images, ())
    assert len(readable(images, check_at_most=5, skip_unreadable=True)[0].files) == 4


def test_a_class_that_loses_all_its_pictures_is_named(folder):
    (folder / "dog/4.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="no image of the class dog can be decoded"):
        readable(image_folder(folder), skip_unreadable=True)
    for path in folder.glob("cat/*"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="none of 6 images can be decoded; the first: .*0.jpg"):
        readable(image_folder(folder), skip_unreadable=True)


def test_pairs_lose_their_captions_with_their_pictures(folder):
    pictures = [path.read_bytes() for path in sorted(folder.glob("*/*.jpg"))]
    members = {f"{key}.jpg": picture for key, picture in enumerate(pictures)}
    write_shard(folder / "0.tar", members | {f"{key}.txt": b"%d" % key for key in range(6)})
    pairs = image_text(folder, image_size=4)
    with pytest.raises(ValueError, match=r"0.tar, 1.jpg cannot be decoded"):
        readable(pairs)
    kept, skipped = readable(pairs, skip_unreadable=True)
    assert kept.caption == ("0", "2", "3", "4")
    assert kept.image[np.arange(4)].shape == (4, 4, 4, 3)
    assert len(skipped) == 2
