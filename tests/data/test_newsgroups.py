"""A table of words: from a user's file of each form, and what is wrong with one."""

import bz2

import numpy as np
import pytest

from lnl_jax.data import news20, newsgroups
from tests.data.serving import nobody_there, serving


def words_of(rows=40, columns=7):
    rng = np.random.default_rng(0)
    counts = rng.poisson(np.linspace(3, 0.1, columns), (rows, columns))
    return counts.astype(np.float32), np.arange(rows) % 20


def compressed(counts):
    from scipy.sparse import csr_matrix

    rows = csr_matrix(counts)
    return {"data": rows.data, "indices": rows.indices, "indptr": rows.indptr}


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


def test_what_would_fill_the_memory_or_is_half_of_it_is_refused(monkeypatch, tmp_path):
    (tmp_path / "news20").write_text("1 1:2\n2 2:1\n")
    with pytest.raises(ValueError, match=r"must stand beside news20\.t or news20"):
        news20(tmp_path)
    (tmp_path / "news20.t.bz2").write_bytes(bz2.compress(bytes(20_001)))
    monkeypatch.setattr(newsgroups, "MOST_BYTES", 20_000)
    with pytest.raises(ValueError, match=r"news20\.t\.bz2 is too large: at most 20,000 bytes"):
        news20(tmp_path)
    (tmp_path / "news20.t.bz2").unlink()
    (tmp_path / "news20.t").write_text("1 2000000000:1\n")
    with pytest.raises(ValueError, match="a word has the number 2,000,000,000; words are numbered"):
        news20(tmp_path)
    (tmp_path / "news20.npz").mkdir()
    with pytest.raises(ValueError, match=r"news20\.npz is a folder and no file"):
        news20(tmp_path)


def test_without_a_connection_the_ways_out_of_words_are_named(monkeypatch, tmp_path):
    def fetch(**settings):
        raise OSError("no route" if settings.get("download_if_missing", True) else "not there")

    monkeypatch.setattr("sklearn.datasets.fetch_20newsgroups_vectorized", fetch)
    with serving() as server:
        monkeypatch.setattr(newsgroups, "NEWS_URL", server.url)
        with pytest.raises(FileNotFoundError, match="no route.*Give data_dir, a folder"):
            news20(tmp_path)
    # Nobody is asked for the texts where nobody answers.
    monkeypatch.setattr(newsgroups, "NEWS_URL", nobody_there())
    with pytest.raises(FileNotFoundError, match="refused.*Give data_dir, a folder with news20"):
        news20(tmp_path)
