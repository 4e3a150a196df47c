import numpy as np
import pytest

from lnl_jax.data import (
    batches,
    hold_out,
    k_fold,
    long_tailed,
    long_tailed_parts,
    shapes32,
    subset,
)


def dataset(size=10):
    """Rows that can be told apart: x is ten times the index."""
    index = np.arange(size, dtype=np.int32)
    return {"x": 10.0 * index[:, None], "index": index}


def sorted_by_class(*counts):
    """Rows class by class, as files often have them."""
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    return dataset(len(labels)) | {"label": labels}


def seeded(*seed):
    return np.random.default_rng(seed or 0)


def is_disjoint_complete_and_in_the_old_order(rest, part, size):
    assert sorted([*rest["index"], *part["index"]]) == list(range(size))
    for side in (rest, part):
        assert (np.diff(side["index"]) > 0).all()
        np.testing.assert_array_equal(side["x"][:, 0], 10 * side["index"])


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.9])
def test_a_split_is_disjoint_complete_and_in_the_old_order(fraction):
    rest, part = hold_out(dataset(40), fraction, seeded())
    assert len(part["index"]) == round(40 * fraction)
    is_disjoint_complete_and_in_the_old_order(rest, part, 40)


def test_a_split_follows_from_the_generator():
    first, again, other = (hold_out(dataset(40), 0.5, seeded(s))[1]["index"] for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_index_stays_the_row_of_the_full_set_through_splits_and_batches():
    rest, _ = hold_out(dataset(40), 0.2, seeded(0))
    training, validation = hold_out(rest, 0.5, seeded(1))
    assert not set(training["index"]) & set(validation["index"])
    seen = []
    for batch in batches(training, 5, seeded(2)):
        np.testing.assert_array_equal(batch["x"][:, 0], 10 * batch["index"])
        seen += batch["index"][batch["mask"]].tolist()
    assert sorted(seen) == training["index"].tolist()
    assert max(seen) >= len(seen)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 1.5, 0.01, 0.99])
def test_a_split_that_leaves_a_side_empty_raises(fraction):
    with pytest.raises(ValueError, match=f"some but not all of 10 examples, got {fraction}"):
        hold_out(dataset(10), fraction, seeded())


@pytest.mark.parametrize(
    ("counts", "folds"), [((30, 30, 30), 5), ((40, 7, 3), 3), ((6, 6, 6), 5), ((9, 5, 8), 4)]
)
def test_folds_of_a_set_sorted_by_class_have_all_classes_in_proportion(counts, folds):
    rows = sorted_by_class(*counts)
    size, found = sum(counts), k_fold(rows, folds, seeded(0))
    held = np.concatenate([part["index"] for _, part in found])
    assert len(found) == folds
    assert len(np.unique(held)) == len(held) == size // folds * folds
    for rest, part in found:
        is_disjoint_complete_and_in_the_old_order(rest, part, size)
        assert len(part["index"]) == size // folds
    per_fold = np.stack([np.bincount(part["label"], minlength=3) for _, part in found])
    assert per_fold.min() >= 1
    assert np.ptp(per_fold, axis=0).max() <= 1


def test_folds_are_shuffled_by_the_generator_within_each_class():
    rows = sorted_by_class(50, 50)
    first, again, other = (k_fold(rows, 5, seeded(s))[0][1]["index"] for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert np.diff(first).max() > 5


def test_contiguous_folds_are_for_data_in_random_order():
    assert [part["index"].tolist() for _, part in k_fold(dataset(5), 2)] == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="label: class 1 of 2 has no example in fold 0 of 2; mix"):
        k_fold(sorted_by_class(5, 5), 2)


def test_a_class_too_small_for_the_folds_is_named():
    with pytest.raises(
        ValueError, match="label: class 1 has 4 of 34 examples, so that a fold of 5"
    ):
        k_fold(sorted_by_class(30, 4), 5, seeded())
    noted = dataset(10) | {"noted": np.array(["a"] * 8 + ["b"] * 2)}
    with pytest.raises(ValueError, match="noted: class b has 2 of 10"):
        k_fold(noted, 3, seeded(), by="noted")


def test_a_part_without_a_class_is_named():
    with pytest.raises(ValueError, match="label: class 1 of 2 has no example held out"):
        hold_out(sorted_by_class(99, 1), 0.01, np.random.default_rng(3))
    with pytest.raises(ValueError, match="label: class 0 and 2 other classes of 4 has no example"):
        subset(sorted_by_class(1, 1, 1, 97), 2, seeded())


@pytest.mark.parametrize(("counts", "size"), [((30, 30, 30), 9), ((80, 15, 5), 20), ((3, 4), 7)])
def test_a_subset_of_a_set_sorted_by_class_has_its_classes_in_proportion(counts, size):
    found = subset(sorted_by_class(*counts), size, seeded(1))
    assert len(found["index"]) == size
    assert (np.diff(found["index"]) > 0).all()
    np.testing.assert_array_equal(found["x"][:, 0], 10 * found["index"])
    shares = size * np.array(counts) / sum(counts)
    assert (np.abs(np.bincount(found["label"]) - shares) < 1).all()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda rows: k_fold(rows, 1), "folds must be an integer from 2 on, got 1"),
        (lambda rows: k_fold(rows, 2.0, seeded()), "folds must be an integer.*got 2.0"),
        (
            lambda rows: k_fold(rows, 61, seeded()),
            "folds must be from 2 to the 60 examples, got 61",
        ),
        (lambda rows: k_fold(rows | {"x": [1.0]}, 2), "of one length, got x 1, index 60, label 60"),
        (lambda rows: hold_out({}, 0.5, seeded()), "columns of one length, got none"),
        (lambda rows: k_fold(rows, 2, 0), "rng must be a numpy.random.Generator, got int"),
        (lambda rows: hold_out(rows, 0.5, 7), "rng must be a numpy.random.Generator, got int"),
        (
            lambda rows: hold_out(rows, np.nan, seeded()),
            "fraction must be a finite number, got nan",
        ),
        (
            lambda rows: hold_out(rows, "0.5", seeded()),
            "fraction must be a finite number, got '0.5'",
        ),
        (
            lambda rows: subset(rows, 3, seeded(), by="fine"),
            "by must be a column of the data set, one of .*label.*; got 'fine'",
        ),
        (lambda rows: subset(rows, 61, seeded()), "size must be at most the 60 examples"),
        (lambda rows: subset(rows, 0, seeded()), "size must be an integer from 1 on, got 0"),
        (
            lambda rows: subset(rows, 2.5, seeded()),
            "size must be an integer from 1 on, got 2.5",
        ),
    ],
)
def test_numbers_that_make_no_split_are_named(call, text):
    with pytest.raises(ValueError, match=text):
        call(sorted_by_class(30, 30))


def test_classes_shrink_along_their_numbers():
    splits = shapes32(num_classes=10, num_train=500, num_test=10, seed=0)
    part = long_tailed(splits.train, 0.02, np.random.default_rng(0), num_classes=10)
    assert np.bincount(part["label"]).tolist() == [50, 32, 20, 13, 8, 5, 3, 2, 1, 1]
    assert part["index"].tolist() == list(range(135))
    for image, label in zip(part["image"][:5], part["label"], strict=False):
        same = (splits.train["image"] == image).all((1, 2, 3))
        assert label in splits.train["label"][same]


def test_parts_of_a_long_tail_share_nothing_and_their_order_is_drawn():
    dataset = {"label": np.repeat(np.arange(4), 90), "x": np.arange(360)}
    sizes = {"num_classes": 4, "largest": 64, "test_per_class": 20}
    orders = set()
    for seed in range(5):
        train, test = long_tailed_parts(dataset, 1 / 64, np.random.default_rng(seed), **sizes)
        counts = np.bincount(train["label"])
        assert sorted(counts) == [1, 4, 16, 64]
        assert np.bincount(test["label"]).tolist() == [20] * 4
        assert not set(train["x"]) & set(test["x"])
        for part in (train, test):
            assert (dataset["label"][part["x"]] == part["label"]).all()
            assert part["index"].tolist() == list(range(len(part["x"])))
        orders.add(tuple(counts))
    assert len(orders) > 1


def test_a_class_too_small_for_both_parts_is_named():
    dataset = {"label": np.repeat(np.arange(2), [90, 70])}
    sizes = {"num_classes": 2, "largest": 64, "test_per_class": 20}
    with pytest.raises(ValueError, match="class 1 has 70 examples, but 20 for the test and 64"):
        long_tailed_parts(dataset, 1.0, np.random.default_rng(0), **sizes)
