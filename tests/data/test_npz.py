import numpy as np
import pytest

from lnl_jax.data import Splits, load_npz
from lnl_jax.data.npz import save_npz

N, M = 6, 4


def images(size, seed=0, shape=(5, 5, 3)):
    return np.random.default_rng(seed).integers(0, 256, (size, *shape), np.uint8)


def arrays(**others):
    """A small set of three classes."""
    return {
        "x_train": images(N),
        "y_train": np.array([0, 1, 2, 0, 1, 2], np.uint8),
        "x_test": images(M, 1),
        "y_test": np.array([2, 1, 0, 0], np.uint8),
    } | others


def stored(folder, **others):
    np.savez(folder / "small.npz", **arrays(**others))
    return load_npz(folder, "small")


def test_a_file_comes_back_as_its_two_parts(tmp_path):
    found, given = stored(tmp_path), arrays()
    for part, size in (("train", N), ("test", M)):
        columns = getattr(found, part)
        np.testing.assert_array_equal(columns["image"], given[f"x_{part}"])
        np.testing.assert_array_equal(columns["label"], given[f"y_{part}"])
        np.testing.assert_array_equal(columns["index"], np.arange(size))
        dtypes = {name: values.dtype for name, values in columns.items()}
        assert dtypes == {"image": np.uint8, "label": np.int32, "index": np.int32}
    assert (found.num_classes, found.class_names, found.generated) == (3, (), False)
    assert dict(found.extras) == {}


def test_grey_images_get_a_channel_and_tables_become_float32(tmp_path):
    grey = stored(tmp_path, x_train=images(N, 0, (5, 5)), x_test=images(M, 0, (5, 5)))
    assert grey.train["image"].shape == (N, 5, 5, 1)
    np.testing.assert_array_equal(grey.test["image"][..., 0], images(M, 0, (5, 5)))
    table = stored(tmp_path, x_train=np.full((N, 2), 300), x_test=np.full((M, 2), -7))
    assert (table.train["x"].dtype, table.train["x"].max()) == (np.float32, 300)
    assert (table.test["x"] == -7).all()
    assert "image" not in table.train


def test_other_arrays_go_where_their_name_and_length_say(tmp_path):
    found = stored(
        tmp_path,
        y_train_worse=np.arange(N, dtype=np.uint8),
        y_train_noisy_coarse=np.full(N, 19),
        y_test_human=np.array([2, 2, 0, 0]),
        idx_train=np.arange(N) + 70,
        counts10h_test=np.ones((M, 10), np.uint8),
        idx_ldr_repo_test=np.arange(N),
        fine_to_coarse=np.arange(3),
        words=np.array(["a", "b"]),
        scale_train=np.float32(2),
        x_train_mean=np.arange(3),
    )
    assert {*found.train} == {"image", "label", "index", "idx", "label_worse", "label_noisy_coarse"}
    assert {*found.test} == {"image", "label", "index", "label_human", "counts10h"}
    extras = {"idx_ldr_repo_test", "fine_to_coarse", "words", "scale_train", "x_train_mean"}
    assert {*found.extras} == extras
    assert found.train["label_worse"].dtype == np.int32
    assert found.train["label_noisy_coarse"].tolist() == [19] * N
    assert found.train["idx"].tolist() == [70, 71, 72, 73, 74, 75]
    assert found.test["label_human"].tolist() == [2, 2, 0, 0]
    assert found.num_classes == 3


def test_the_number_of_classes_may_be_given_by_itself_or_by_their_names(tmp_path):
    save_npz(tmp_path / "small.npz", arrays(y_test=np.array([3, 0, 0, 0])))
    assert load_npz(tmp_path, "small", num_classes=4).test["label"].max() == 3
    assert load_npz(tmp_path, "small", class_names=tuple("abcd")).class_names == tuple("abcd")
    save_npz(tmp_path / "gaps.npz", arrays(y_train=np.array([0, 2, 2, 0, 3, 2])))
    assert load_npz(tmp_path, "gaps", num_classes=5).num_classes == 5
    with pytest.raises(ValueError, match=r"y_train has no example of 1 .* num_classes=4\."):
        load_npz(tmp_path, "gaps")
    with pytest.raises(ValueError, match="class_names must name 5 classes, got 2"):
        load_npz(tmp_path, "small", num_classes=5, class_names=("a", "b"))
    with pytest.raises(ValueError, match=r"y_test.*first in row 0: 3.*taken from y_train"):
        load_npz(tmp_path, "small")
    with pytest.raises(ValueError, match=r"y_test must be from 0 to 2.*row 0: 3\.$"):
        load_npz(tmp_path, "small", num_classes=3)


NOT_FINITE = np.zeros((N, 2))
NOT_FINITE[4, 1] = np.nan


@pytest.mark.parametrize(
    ("others", "text"),
    [
        ({"x_train": images(N)[:-1]}, r"y_train must hold one label for each of 5 rows"),
        ({"y_test": np.zeros(M + 1, int)}, r"y_test must hold one label for each of 4 rows"),
        (
            {"y_train": np.zeros(N)},
            r"y_train must be integers.*float64.*numbers: y_train.astype",
        ),
        ({"y_train": np.zeros((N, 3), int)}, r"y_train must be integers.*\(6, 3\).*y_train.argmax"),
        (
            {"y_train": np.array([0, 1, 2, 0, -1, 0])},
            r"y_train must be at least 0.*first in row 4: -1",
        ),
        (
            {"y_train_worse": np.array([0, 1, 2, -1, 1, 0])},
            r"y_train_worse must be .*in row 3: -1; -1 commonly marks",
        ),
        (
            {"y_train": np.zeros(N, int), "y_test": np.zeros(M, int)},
            r"y_train must be of at least 2 classes, got 1; give num_classes",
        ),
        ({"y_train_worse": np.zeros(N - 1, int)}, r"y_train_worse must .* 6 rows, got \(5,\)"),
        ({"y_train_soft": np.zeros(N)}, r"y_train_soft must be integers"),
        (
            {"y_train": np.arange(1, N + 1)},
            r"y_train has no example of 1 of 7 classes: 0\..*_train - 1",
        ),
        (
            {"y_train": np.array([0, 2, 4, 0, 0, 2**31 - 2])},
            r"no example of 2147483643 of 2147483647 classes: 1, 3, 5, 6, .* and 2147483635 more",
        ),
        (
            {"y_train": np.array([0, 1, 2, 0, 1, 255], np.uint8)},
            "no example of 252 of 256 classes.*255 commonly marks",
        ),
        (
            {"y_train": np.array([0, 1, 2, 0, 1, 2**31])},
            r"y_train must be less .*row 5: 2147483648",
        ),
        ({"y_train": np.array([0, 1, 2, 0, 1, 2**32 + 1])}, r"y_train must .*row 5: 4294967297"),
        (
            {"y_train_a": np.array([0, 1, 2, 0, 1, 2**31])},
            r"y_train_a must be less than 2\*\*31 - 1",
        ),
        ({"y_test": np.array([2, 1, 0, 2**32])}, r"y_test must be from 0 to 2.*row 3: 4294967296"),
        ({"y_train": np.array(list("abcabc"))}, r"np.unique\(y_train, return_inverse=True\)"),
        ({"y_train": np.array([0, 1, 2, 0, 1, 2])[:, None]}, r"the last axis: y_train\[:, 0\]"),
        ({"x_test": images(M, 0, (6, 5, 3))}, r"x_train and x_test must agree.*\(4, 6, 5, 3\)"),
        ({"x_test": images(M).astype(int)}, r"agree in dtype.*uint8.*and int64"),
        (
            {"x_train": images(N) / 255, "x_test": images(M) / 255},
            r"x_train holds images of float64; they must be uint8 .*np.rint\(255 \* images\)",
        ),
        (
            {"x_train": images(N, 0, (3, 8, 8)), "x_test": images(M, 0, (3, 8, 8))},
            r"x_train must hold images .* put the channels last: x_train.transpose\(0, 2, 3, 1\)",
        ),
        ({"x_train": NOT_FINITE, "x_test": np.zeros((M, 2))}, r"x_train must be finite.*row 4"),
        ({"x_train": np.full((N, 2), 1e39), "x_test": np.zeros((M, 2))}, r"finite.*row 0"),
        ({"x_train": np.zeros(N), "x_test": np.zeros(M)}, r"x_train must hold numbers: a table"),
        ({"x_train": np.full((N, 2), "a"), "x_test": np.full((M, 2), "a")}, "must hold numbers"),
        ({"x_test": images(0)}, "x_test must hold numbers"),
        ({"index_train": np.arange(N)}, "index_train would replace 'index' of the train part"),
        ({"mask_test": np.ones(M)}, "mask_test would replace 'mask' of the test part"),
        (
            {"label_a_train": np.ones(N, int), "y_train_a": np.ones(N, int)},
            "y_train_a would replace 'label_a'",
        ),
    ],
)
def test_an_array_that_does_not_fit_is_named_with_the_file(tmp_path, others, text):
    with pytest.raises(ValueError, match=rf"small\.npz: {text}|small\.npz: .*{text}"):
        stored(tmp_path, **others)


def test_missing_keys_are_listed_with_those_that_are_there(tmp_path):
    given = arrays()
    np.savez(tmp_path / "small.npz", x_train=given["x_train"], labels=given["y_train"])
    text = r"small\.npz: y_train, x_test, y_test are missing; there are labels, x_train\.$"
    with pytest.raises(ValueError, match=text):
        load_npz(tmp_path, "small")


@pytest.mark.parametrize("damage", ["text", "empty", "truncated", "flipped", "npy", "pickle"])
def test_a_broken_file_is_said_to_be_one(tmp_path, damage):
    path = tmp_path / "small.npz"
    save_npz(path, arrays())
    content = path.read_bytes()
    np.save(tmp_path / "array.npy", images(2))
    damaged = {
        "text": b"x_train,y_train\n",
        "empty": b"",
        "truncated": content[: len(content) // 2],
        "flipped": content[:300] + bytes([content[300] ^ 255]) + content[301:],
        "npy": (tmp_path / "array.npy").read_bytes(),
        "pickle": b"\x80\x04N.",
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(ValueError, match=r"small\.npz is no \.npz .* is broken .*get it again"):
        load_npz(tmp_path, "small")


@pytest.mark.parametrize("key", ["x_train", "others"])
def test_pickled_objects_are_refused(tmp_path, key):
    with pytest.raises(ValueError, match=rf"small\.npz: {key} cannot be read .*pickles.*refused"):
        stored(tmp_path, **{key: np.array([{}, None], object)})


def test_a_folder_or_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="data_dir must be a folder .*'/nowhere/at all'"):
        load_npz("/nowhere/at all", "small")
    save_npz(tmp_path / "other.npz", arrays())
    with pytest.raises(FileNotFoundError, match=r"small\.npz does not exist.* there: other\.npz"):
        load_npz(tmp_path, "small")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "small.npz"
    save_npz(path, arrays())
    before = path.read_bytes()

    class Interrupted:
        def __array__(self, dtype=None, copy=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_npz(path, {"x_train": images(N), "y_train": Interrupted()})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["small.npz"]


def test_nothing_can_be_put_into_the_default_extras():
    first, second = Splits({}, {}, 2), Splits({}, {}, 2)
    with pytest.raises(TypeError):
        first.extras["a"] = 1
    assert dict(second.extras) == {}
