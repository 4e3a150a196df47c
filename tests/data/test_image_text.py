import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from lnl_jax.data import epoch_plan, image_text, stream


def png(color, size=(8, 6)):
    """A picture of one colour, as bytes."""
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "png")
    return file.getvalue()


def write_shard(path, members):
    with tarfile.open(path, "w") as shard:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            shard.addfile(info, io.BytesIO(content))


PICTURES = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture
def shards(tmp_path):
    """Two shards with captions in both forms."""
    caption = json.dumps({"caption": "something blue"}).encode()
    first = {"0.png": png(PICTURES["red"]), "0.txt": b" something red\n"}
    second = {"b/1.json": caption, "b/1.png": png(PICTURES["blue"]), "b/notes.md": b"?"}
    write_shard(tmp_path / "00001.tar", second)
    write_shard(tmp_path / "00000.tar", first)
    return tmp_path


def test_pairs_come_from_shards_in_the_order_of_their_names(shards):
    pairs = image_text(shards, image_size=4)
    assert pairs.caption == ("something red", "something blue")
    found = pairs.image[np.array([1, 0, 1])]
    assert (found.shape, found.dtype) == ((3, 4, 4, 3), np.uint8)
    assert found[:, 0, 0].tolist() == [[0, 0, 255], [255, 0, 0], [0, 0, 255]]
    assert pairs.take([1]).caption == ("something blue",)
    assert pairs.take([1]).image[[0]][0, 0, 0].tolist() == [0, 0, 255]


def test_pairs_come_from_a_table(tmp_path):
    (tmp_path / "green.png").write_bytes(png(PICTURES["green"]))
    table = 'title\tfilepath\tmore\na "green" thing\tgreen.png\tx\n'
    (tmp_path / "pairs.tsv").write_text(table)
    pairs = image_text(tmp_path, image_size=2)
    assert pairs.caption == ('a "green" thing',)
    assert pairs.image[[0]][0, 1, 1].tolist() == [0, 255, 0]


def test_the_middle_of_an_image_is_kept_and_grey_becomes_coloured(tmp_path):
    picture = Image.new("L", (9, 3), 0)
    picture.paste(200, (3, 0, 6, 3))
    file = io.BytesIO()
    picture.save(file, "png")
    write_shard(tmp_path / "0.tar", {"0.png": file.getvalue(), "0.txt": b"grey"})
    assert (image_text(tmp_path, image_size=3).image[[0]] == 200).all()


def test_threads_decode_the_images_of_a_plan(shards):
    pairs = image_text(shards, image_size=4)
    rows = {"image": pairs.image, "index": np.arange(2)}
    batches = list(stream(rows, epoch_plan(2, 2), num_threads=2))
    np.testing.assert_array_equal(batches[0]["image"], pairs.image[[0, 1]])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no .tar and no .tsv in"),
        ({"0.tar": {"0.png": b"", "1.txt": b"words"}}, r"0.tar, 0.png has no caption"),
        ({"0.tar": {"0.png": b"", "0.txt": b" "}}, r"0.tar, 0.png has no caption"),
        ({"0.tar": {"0.png": b"", "0.json": b"["}}, r"0.tar, 0.json holds no caption"),
        ({"0.tar": {"0.md": b""}}, "no image in"),
        ({"0.tar": b"not a tar file"}, r"0.tar is no uncompressed tar file"),
        ({"0.tar": {}, "a.tsv": b""}, "1 .tar and 1 .tsv"),
        ({"a.tsv": b"path\tcaption\n"}, r"a.tsv must begin with a line that names"),
        ({"a.tsv": b"filepath\ttitle\nx.png\twords\n"}, r"a.tsv, line 2: there is no file"),
        ({"a.tsv": b"filepath\ttitle\nx.png\n"}, r"a.tsv, line 2: no caption"),
    ],
)
def test_a_folder_that_cannot_be_read_is_named(tmp_path, files, message):
    for name, content in files.items():
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        else:
            write_shard(tmp_path / name, content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        image_text(tmp_path, image_size=4)


@pytest.mark.parametrize("content", [b"no image", png((1, 2, 3))[:45]])
@pytest.mark.parametrize("num_threads", [0, 2])
def test_an_image_that_cannot_be_decoded_is_named_from_threads_too(tmp_path, content, num_threads):
    write_shard(tmp_path / "0.tar", {"7.png": content, "7.txt": b"words"})
    rows = {"image": image_text(tmp_path, image_size=4).image, "index": np.arange(1)}
    with pytest.raises(ValueError, match=r"0.tar, 7.png cannot be decoded"):
        list(stream(rows, epoch_plan(1, 1), num_threads=num_threads))
