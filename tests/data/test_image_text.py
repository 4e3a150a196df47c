import csv
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
        ({"0.tar": {"0.png": b"", "1.txt": b"words"}}, r"0.tar, 0.png: no caption"),
        ({"0.tar": {"0.png": b"", "0.txt": b" "}}, r"0.tar, 0.png: no caption"),
        ({"0.tar": {"0.png": b"", "0.json": b"["}}, r"0.tar, 0.json: no caption that can be read"),
        ({"0.tar": {"0.md": b""}}, "no image with a caption in"),
        ({"0.tar": b"not a tar file"}, r"0.tar is no uncompressed tar file"),
        ({"0.tar": {}, "a.tsv": b""}, "1 .tar and 1 .tsv"),
        ({"a.tsv": b"path\tcaption\n"}, r"a.tsv must begin with a line that names"),
        ({"a.tsv": b"filepath\ttitle\nx.png\twords\n"}, r"a.tsv, line 2: there is no file"),
        ({"a.tsv": b"filepath\ttitle\nx.png\n"}, r"a.tsv, line 2: no caption"),
        # Nothing is cut or left out without a word.
        (
            {"a.tsv": b"filepath\ttitle\nx.png\ta cat\twith a tab\n"},
            r"a.tsv, line 2: 3 fields, where the first line names 2; a field with a tab",
        ),
        (
            {"a.tsv": b'filepath\ttitle\nx.png\t"a" cat\nx.png\tb\n'},
            r"a.tsv, line 2: .*quotes are doubled \(1 more are no whole pairs\).*skip_unreadable",
        ),
        (
            {"a.tsv": "filepath\ttitle\nx.png\tun café\n".encode("latin-1")},
            r"a.tsv is not UTF-8 \(after line .*iconv -f LATIN1 -t UTF-8",
        ),
        (
            {"0.tar": {"0.png": b"", "0.txt": "café".encode("latin-1")}},
            "0.txt: no caption that can",
        ),
        ({"0.tar": {"0.png": b"", "0.txt": b"a", "1.txt": b"b"}}, "0.tar, 1: a caption without an"),
        (
            {"0.tar": {"0.png": b"", "0.jpg": b"", "0.txt": b"a"}},
            r"0.tar, 0.jpg: the key has another image, .*0.tar, 0.png",
        ),
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


def test_fields_are_read_as_csv_and_pandas_quote_them(tmp_path):
    captions = ['a "green" thing', "two\nlines", "a tab\there", '"', "un café, grün", " spaces "]
    (tmp_path / "green.png").write_bytes(png(PICTURES["green"]))
    with (tmp_path / "pairs.tsv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerows([("filepath", "title"), *(("green.png", one) for one in captions)])
    assert image_text(tmp_path, image_size=2).caption == tuple(map(str.strip, captions))


def test_keys_may_have_dots_beside_others_without(tmp_path):
    red, blue = png(PICTURES["red"]), png(PICTURES["blue"])
    members = {"img.v2.png": red, "img.v2.txt": b"version two", "img.png": blue, "img.txt": b"one"}
    members |= {"a.b/0.PNG": red, "a.b/0.TXT": b"in a folder"}
    write_shard(tmp_path / "0.tar", members)
    pairs = image_text(tmp_path, image_size=2)
    assert pairs.caption == ("version two", "one", "in a folder")
    assert pairs.image[[0, 1]][:, 0, 0].tolist() == [[255, 0, 0], [0, 0, 255]]
    assert pairs.skipped == ()


def test_what_is_left_out_is_named(tmp_path):
    picture = png(PICTURES["red"])
    members = {"0.png": picture, "0.txt": b"zero", "0.mask.png": picture, "notes.md": b"?"}
    write_shard(tmp_path / "0.tar", members)
    pairs = image_text(tmp_path, image_size=2)
    assert pairs.caption == ("zero",)
    assert sorted(line.rpartition("0.tar, ")[2] for line in pairs.skipped) == [
        "0.mask.png: another image of a pair",
        "notes.md: neither image nor caption",
    ]
    faults = {"1.png": picture, "2.txt": b"two", "3.png": picture, "3.txt": b"\xff"}
    write_shard(tmp_path / "1.tar", faults)
    with pytest.raises(ValueError, match=r"1.tar, 3.txt: no caption .*\(2 more are no whole pairs"):
        image_text(tmp_path, image_size=2)
    pairs = image_text(tmp_path, image_size=2, skip_unreadable=True)
    assert pairs.caption == ("zero",)
    assert len(pairs.skipped) == 2 + 3


@pytest.mark.parametrize("damage", ["between members", "in a header", "in an image"])
def test_a_shard_that_is_cut_off_or_damaged_is_said_to_be(tmp_path, damage):
    path = tmp_path / "0.tar"
    members = {f"{key}.{ending}": b"x" * 600 for key in range(3) for ending in ("png", "txt")}
    write_shard(path, members)
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as shard:
        header = shard.getmembers()[4].offset
    if damage == "in a header":
        content[header + 100 : header + 200] = b"?" * 100
    else:
        del content[header + (700 if damage == "in an image" else 0) :]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"0.tar(, 2.png)?: cut off"):
        image_text(tmp_path, image_size=2)
    pairs = image_text(tmp_path, image_size=2, skip_unreadable=True)
    assert len(pairs.caption) == 2
    assert any("cut off" in line for line in pairs.skipped)


@pytest.mark.parametrize("content", [b"no image", png((1, 2, 3))[:45]])
@pytest.mark.parametrize("num_threads", [0, 2])
def test_an_image_that_cannot_be_decoded_is_named_from_threads_too(tmp_path, content, num_threads):
    write_shard(tmp_path / "0.tar", {"7.png": content, "7.txt": b"words"})
    rows = {"image": image_text(tmp_path, image_size=4).image, "index": np.arange(1)}
    with pytest.raises(ValueError, match=r"0.tar, 7.png cannot be decoded"):
        list(stream(rows, epoch_plan(1, 1), num_threads=num_threads))
