"""Loaders of sets with many classes or columns: small files in the places of the real ones."""

import hashlib
import io
import zipfile

import numpy as np
import pytest

from lnl_jax.data import downloads, kuzushiji49, many_classes, tiny_imagenet
from tests.data.serving import nobody_there, serving


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


# Kuzushiji-49.


def k49_files(size=98):
    images = np.zeros((size, 28, 28), np.uint8)
    contents = {}
    for key, (name, _) in many_classes.K49_FILES.items():
        buffer = io.BytesIO()
        np.savez(buffer, images if key.startswith("x") else np.uint8(np.arange(size) % 49))
        contents[name] = buffer.getvalue()
    return contents


def test_kuzushiji_is_read_from_the_official_files(tmp_path):
    for name, content in k49_files().items():
        (tmp_path / name).write_bytes(content)
    found = kuzushiji49(tmp_path)
    assert found.train["image"].shape == (98, 28, 28, 1)
    assert found.num_classes == 49
    np.savez(tmp_path / "k49-train-imgs.npz", np.zeros((98, 32, 32), np.uint8))
    np.savez(tmp_path / "k49-test-imgs.npz", np.zeros((98, 32, 32), np.uint8))
    with pytest.raises(ValueError, match=r"must hold images of \(28, 28, 1\), got \(32, 32, 1\)"):
        kuzushiji49(tmp_path)


def test_kuzushiji_is_downloaded_compared_and_kept(monkeypatch, tmp_path):
    contents = k49_files()
    with serving() as server:
        server.files |= contents
        monkeypatch.setattr(many_classes, "K49", server.url)
        sums = {
            key: (name, hashlib.md5(contents[name]).hexdigest())
            for key, (name, _) in many_classes.K49_FILES.items()
        }
        monkeypatch.setattr(many_classes, "K49_FILES", sums)
        assert kuzushiji49(tmp_path).num_classes == 49
    kept = tmp_path / "cache/lnl_jax/kuzushiji49.npz"
    assert kept.is_file()
    # Now without a connection.
    monkeypatch.setattr(many_classes, "K49", nobody_there())
    assert len(kuzushiji49().train["label"]) == 98


def test_a_file_with_another_md5_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as server:
        server.files["a"] = b"other"
        remote = downloads.RemoteFile(f"{server.url}/a", 0, "", "a", "0" * 32)
        with pytest.raises(ValueError, match="with md5 000000000000... expected, 5 bytes with"):
            downloads.download(remote, tmp_path)
    assert not list(tmp_path.glob("a*"))


# Tiny-ImageNet.


def tiny_files(size=64):
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.full((size, size), 7, np.uint8)).save(buffer, "JPEG")
    picture = buffer.getvalue()
    files = {
        "wnids.txt": b"n02\nn01\n",
        "val/val_annotations.txt": b"val_0.JPEG\tn01\t0\t0\t1\t1\n",
    }
    files |= {"val/images/val_0.JPEG": picture}
    return files | {
        f"train/{c}/images/{c}_{k}.JPEG": picture for c in ("n01", "n02") for k in (0, 1)
    }


def write(folder, files):
    for name, content in files.items():
        path = folder / "tiny-imagenet-200" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_tiny_imagenet_is_read_unpacked_and_packed(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write(tmp_path / "a", tiny_files())
    with zipfile.ZipFile(tmp_path / "b/tiny-imagenet-200.zip", "w") as archive:
        for name, content in tiny_files().items():
            archive.writestr(f"tiny-imagenet-200/{name}", content)
    for folder in "ab":
        found = tiny_imagenet(tmp_path / folder)
        # The order of wnids.txt.
        assert found.train["label"].tolist() == [1, 1, 0, 0]
        assert found.test["label"].tolist() == [1]
        assert found.train["image"].shape == (4, 64, 64, 3)
        assert np.unique(found.train["image"]).tolist() == [7]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (tiny_files(32), r"n01_0\.JPEG must be of 64 by 64 pixels, got 32 by 32; resize"),
        ({"wnids.txt": b"n01\n"}, r"n02 is a class that wnids\.txt does not have"),
        ({"val/val_annotations.txt": b"../../a.JPEG\tn01\n"}, "entry 0 of val/val_annotations"),
        ({"val/val_annotations.txt": b"a.JPEG\tn01\n"}, r"val/images/a\.JPEG cannot be read"),
        ({"train/n01/images/n01_0.JPEG": b"no"}, r"n01_0\.JPEG cannot be decoded \(not an image"),
    ],
)
def test_bad_images_are_named_in_one_line(tmp_path, changes, message):
    write(tmp_path, tiny_files() | changes)
    with pytest.raises(ValueError, match=message) as error:
        tiny_imagenet(tmp_path)
    assert "\n" not in str(error.value)


def test_without_a_connection_the_ways_out_of_images_are_named(monkeypatch, tmp_path):
    away = many_classes.TINY_ZIP._replace(url=nobody_there())
    monkeypatch.setattr(many_classes, "TINY_ZIP", away)
    with pytest.raises(FileNotFoundError, match=r"tiny_imagenet is neither in .*Give data_dir, a"):
        tiny_imagenet(tmp_path)
