import collections

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from lnl_jax.data import (
    CroppedImages,
    DecodedImages,
    MiddleImages,
    augment,
    batches,
    check_labels,
    digits,
    epoch_plan,
    fits_on_device,
    shapes32,
    stream,
    take,
)

KEY = jax.random.key(0)
IMAGES = np.zeros((2, 4, 4, 3), np.float32)


def dataset(size=10):
    """Rows that can be told apart: x is ten times the index."""
    index = np.arange(size, dtype=np.int32)
    return {"x": 10.0 * index[:, None], "index": index}


def seeded(*seed):
    return np.random.default_rng(seed or 0)


# Digits and labels.


def test_digits_are_those_of_scikit_learn():
    found, (pixels, labels) = digits(), load_digits(return_X_y=True)
    np.testing.assert_array_equal(16 * found["x"], pixels)
    np.testing.assert_array_equal(found["label"], labels)
    np.testing.assert_array_equal(found["index"], np.arange(1797))
    assert (found["x"].shape, found["x"].min(), found["x"].max()) == ((1797, 64), 0, 1)
    assert np.bincount(found["label"]).tolist() == np.bincount(labels).tolist()
    dtypes = {name: values.dtype for name, values in found.items()}
    assert dtypes == {"x": np.float32, "label": np.int32, "index": np.int32}


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.uint64])
def test_good_labels_become_int32(dtype):
    found = check_labels(np.array([0, 2, 1], dtype), 3)
    assert (found.tolist(), found.dtype) == ([0, 2, 1], np.int32)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([0, 1, 3, 5], "from 0 to 2; 2 of 4 are not, the first in row 2: 3"),
        ([0, -1, 1, 1], "from 0 to 2; 1 of 4 are not, the first in row 1: -1"),
        (np.array([0, 255], np.uint8), "the first in row 1: 255"),
        ([2**31 + 1, 0], "from 0 to 2; 1 of 2 are not, the first in row 0: 2147483649"),
        # Each form with the repair that fits.
        (
            [0.0, 1.0],
            r"integers of shape \[N\], got float64 of .*cast class numbers: lab",
        ),
        ([0.0, np.nan], "1 are no whole numbers, the first in row 1: nan"),
        ([0.2, 1.0], "1 are no whole numbers, the first in row 0: 0.2"),
        ([[0, 1]], r"got int64 of shape \(1, 2\); .*one-hot.*labels.argmax\(-1\)"),
        (np.eye(3), r"got float64 of shape \(3, 3\); .*labels.argmax\(-1\)"),
        ([[0], [1]], r"of shape \(2, 1\); drop the last axis: labels\[:, 0\]"),
        ([True, False], "got bool.*cast class numbers"),
        (["cat", "dog"], r"np.unique\(labels, return_inverse=True\)"),
        (np.array(["cat", None]), r"np.unique\(labels, return_inverse=True\)"),
        ([1, 2, 3], "row 2: 3; they are numbered from 1: subtract it, labels - 1"),
        (np.array([0, 255], np.uint8), "255 commonly marks rows without a label: drop them"),
        (np.array([0, -1]).astype(np.uint32), "4294967295 commonly marks rows without"),
        (np.array([0, -1]).astype(np.uint64), "18446744073709551615 commonly marks rows"),
        ([0, -1], "-1 commonly marks rows without a label: drop them from all arrays"),
    ],
)
def test_bad_labels_raise_with_row_and_value_and_the_repair(labels, text):
    with pytest.raises(ValueError, match=f"labels must be .*{text}"):
        check_labels(labels, 3)


@pytest.mark.parametrize("num_classes", [0, 2.0, True, None])
def test_a_number_of_classes_is_an_integer(num_classes):
    with pytest.raises(ValueError, match=f"num_classes must be an integer.*got {num_classes}"):
        check_labels([0], num_classes)


# Plans and batches.


@pytest.mark.parametrize(("size", "batch_size"), [(10, 3), (9, 3), (2, 5), (1, 1)])
@pytest.mark.parametrize("rng", [None, np.random.default_rng(0)])
def test_a_plan_holds_every_position_once_and_pads_the_end(size, batch_size, rng):
    plan = epoch_plan(size, batch_size, rng)
    steps = -(-size // batch_size)
    assert plan["position"].shape == plan["mask"].shape == (steps, batch_size)
    assert sorted(plan["position"][plan["mask"]]) == list(range(size))
    flat = plan["mask"].ravel()
    assert flat[:size].all()
    assert not flat[size:].any()
    assert (plan["position"][~plan["mask"]] == 0).all()
    assert (plan["position"].dtype, plan["mask"].dtype) == (np.int32, bool)


def test_the_order_is_kept_without_a_generator_and_follows_from_it():
    assert epoch_plan(6, 4)["position"].ravel()[:6].tolist() == list(range(6))
    first, again, other = (epoch_plan(50, 8, seeded(0, e))["position"] for e in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.ravel()[:50].tolist() != list(range(50))


def test_every_order_is_as_likely():
    orders = (epoch_plan(3, 2, np.random.default_rng(seed)) for seed in range(600))
    counts = collections.Counter(tuple(plan["position"].ravel()[:3].tolist()) for plan in orders)
    assert len(counts) == 6
    assert min(counts.values()) > 60


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, 3), "num_examples must be an integer from 1 .*got 0"),
        ((2**31, 3), "num_examples must be .* to 2147483647, got 2147483648"),
        *(
            ((10, batch_size), f"batch_size must be an integer .*got {batch_size}")
            for batch_size in (0, -1, 2.0, 2**40, np.nan, True, None)
        ),
        ((10, 2, 0), "rng must be a numpy.random.Generator, got int"),
    ],
)
def test_numbers_that_make_no_plan_are_named(arguments, text):
    with pytest.raises(ValueError, match=text):
        epoch_plan(*arguments)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: next(batches({"x": IMAGES}, 2)), "dataset must hold index.*np.arange"),
        (lambda: next(batches({"index": IMAGES, "x": [0]}, 2)), "one length, got index 2, x 1"),
        (lambda: stream({}, {}, num_threads=-1), "num_threads must be an integer from 0"),
        (lambda: stream({}, {}, buffer_size=0), "buffer_size must be an integer from 1"),
        (lambda: stream({}, {}, num_threads=1.5), "num_threads must be an integer.*got 1.5"),
        (lambda: fits_on_device({}, fraction=np.nan), "fraction must be .*got nan"),
        (lambda: fits_on_device({}, fraction=0), "fraction must be .*above 0"),
        (lambda: shapes32(num_train=0), "num_train must be an integer from 1 on, got 0"),
        (lambda: shapes32(num_test=1e3), "num_test must be an integer .*got 1000.0"),
        (lambda: shapes32(seed=-1), "seed must be an integer from 0 on, got -1"),
        (lambda: MiddleImages([], 0), "size must be an integer from 1 on, got 0"),
        (lambda: DecodedImages([], 2.5), "size must be an integer from 1 on, got 2.5"),
        (lambda: CroppedImages([], 4, -1), "seed must be an integer from 0 on, got -1"),
        (lambda: CroppedImages([], 4, (0, 1.5)), "seed must be an integer .*got 1.5"),
        (lambda: CroppedImages([], 4, 0, crops=0), "crops must be an integer from 1 on, got 0"),
        (lambda: CroppedImages([], 4, 0, min_area=np.nan), "min_area must be .*got nan"),
        (lambda: CroppedImages([], 4, 0, max_ratio=0.5), "max_ratio must be .*at least 1, got 0.5"),
        (lambda: CroppedImages([], 4, 0, flip_rate=2), "flip_rate must be .*at most 1, got 2"),
        (lambda: augment.cutout(KEY, IMAGES, size=-1), "size must be an integer from 0"),
        (lambda: augment.cutout(KEY, IMAGES, size=1, fill=np.nan), "fill must be a finite number"),
        (lambda: augment.random_crop(KEY, IMAGES, padding=1.5), "padding must be an integer"),
        (lambda: augment.mixup(KEY, IMAGES, np.eye(2), alpha=np.nan), "alpha must be a finite"),
        (lambda: augment.cutmix(KEY, IMAGES, np.eye(2), alpha=np.inf), "alpha must be a finite"),
    ],
)
def test_numbers_without_sense_are_named_before_anything_is_drawn(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_batches_are_the_plan_carried_out():
    full, plan = dataset(), epoch_plan(10, 4, seeded())
    found = list(batches(full, 4, seeded()))
    assert len(found) == 3
    for step, batch in enumerate(found):
        np.testing.assert_array_equal(batch["index"], plan["position"][step])
        np.testing.assert_array_equal(batch["x"][:, 0], 10 * batch["index"])
        np.testing.assert_array_equal(batch["mask"], plan["mask"][step])
    rows = {name: values[1] for name, values in plan.items()}
    np.testing.assert_array_equal(take(full, rows)["x"], found[1]["x"])
