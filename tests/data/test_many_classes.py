"""Loaders of sets with many classes or columns: small files in the places of the real ones."""

import bz2
import hashlib
import io
import zipfile

import numpy as np
import pytest

from lnl_jax.data import downloads, kuzushiji49, many_classes, news20, tiny_imagenet
from tests.data.serving import nobody_there, serving


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def words_of(rows=40, columns=7):
    rng = np.random.default_rng(0)
    counts = rng.poisson(np.linspace(3, 0.1, columns), (rows, columns))
    return counts.astype(np.float32), np.arange(rows) % 20


def compressed(counts):
    from scipy.sparse import csr_matrix

    rows = csr_matrix(counts)
    return {"data": rows.data, "indices": rows.indices, "indptr": rows.indptr}


# A bag of words.


def test_a_bag_of_words_is_read_dense_compressed_and_from_libsvm(tmp_path):
    counts, labels = words_of()
    y = {"y_train": labels, "y_test": labels[:20]}
    found = {}
    for form in ("dense", "compressed", "libsvm"):
        folder = tmp_path / form
        folder.mkdir()
        if form == "dense":
            np.savez(folder / "news20.npz", x_train=counts, x_test=counts[:20], **y)
        elif form == "compressed":
            parts = {"train": counts, "test": counts[:20]}
            arrays = {
                f"x_{part}_{name}": values
                for part, rows in parts.items()
                for name, values in compressed(rows).items()
            }
            np.savez(folder / "news20.npz", **arrays, **y)
        else:
            lines = [
                f"{label + 1} " + " ".join(f"{k + 1}:{v:g}" for k, v in enumerate(row) if v)
                for row, label in zip(counts, labels, strict=True)
            ]
            (folder / "news20").write_text("\n".join(lines))
            (folder / "news20.t.bz2").write_bytes(bz2.compress("\n".join(lines[:20]).encode()))
        found[form] = news20(folder, words=4)
    kept = np.sort(np.argsort(-(counts > 0).sum(0), kind="stable")[:4])
    expected = np.log1p(counts[:, kept])
    expected /= np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1e-30)
    for splits in found.values():
        np.testing.assert_allclose(splits.train["x"], expected, rtol=1e-5)
        np.testing.assert_array_equal(splits.test["label"], labels[:20])
        assert splits.num_classes == 20


def test_bad_files_of_words_are_named_in_one_line(tmp_path):
    counts, labels = words_of()
    np.savez(tmp_path / "news20.npz", x_train=counts, y_train=labels)
    with pytest.raises(ValueError, match=r"news20\.npz must hold y_test and x_test, dense, or"):
        news20(tmp_path)
    broken = counts.copy()
    broken[3, 0] = np.nan
    np.savez(tmp_path / "news20.npz", x_train=broken, x_test=counts, y_train=labels, y_test=labels)
    with pytest.raises(ValueError, match=r"x_train must be finite.*first is row 3"):
        news20(tmp_path)
    arrays = {f"x_{part}_{name}": v for part in ("train", "test") for name, v in
              compressed(counts).items()}  # fmt: skip
    arrays["x_train_indptr"] = arrays["x_train_indptr"][:-1]
    np.savez(tmp_path / "news20.npz", **arrays, y_train=labels, y_test=labels)
    with pytest.raises(ValueError, match="are no compressed rows"):
        news20(tmp_path)
    (tmp_path / "news20.npz").unlink()
    for name in ("news20", "news20.t"):
        (tmp_path / name).write_text("comp.graphics hello world\n")
    with pytest.raises(ValueError, match="must be in LIBSVM's format") as error:
        news20(tmp_path)
    assert "\n" not in str(error.value)


def test_without_a_connection_the_ways_out_of_words_are_named(monkeypatch, tmp_path):
    def fetch(**settings):
        raise OSError("no route")

    monkeypatch.setattr("sklearn.datasets.fetch_20newsgroups_vectorized", fetch)
    with pytest.raises(FileNotFoundError, match="no route.*Give data_dir, a folder with news20"):
        news20(tmp_path)


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
