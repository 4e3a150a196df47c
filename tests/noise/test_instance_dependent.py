import numpy as np
import pytest
from scipy import special, stats

from lnl_jax.noise import corrupt, instance_dependent

EXAMPLES, CLASSES, SIZE = 20_000, 5, 8


@pytest.fixture(scope="module")
def examples():
    rng = np.random.default_rng(0)
    return rng.normal(size=(EXAMPLES, SIZE)) / np.sqrt(SIZE), rng.integers(CLASSES, size=EXAMPLES)


def drawn(examples, rate=0.4, seed=1):
    features, labels = examples
    return instance_dependent(features, labels, CLASSES, rate, np.random.default_rng(seed))


def own_entries(rows, labels):
    return rows[np.arange(len(labels)), labels]


def off_label(rows, labels):
    """The distribution over the other classes, which the rate of the example does not enter."""
    others = np.where(np.arange(rows.shape[1]) == labels[:, None], 0, rows)
    return others / others.sum(1, keepdims=True)


def test_rows_are_those_of_the_definition(examples):
    features, labels = (part[:50] for part in examples)
    rng = np.random.default_rng(1)
    found = instance_dependent(features, labels, CLASSES, 0.4, np.random.default_rng(1))
    matrices = [rng.standard_normal((SIZE, CLASSES)) for _ in range(CLASSES)]
    # At 0.4 the truncation is four deviations away: no number is drawn again.
    rates = rng.normal(0.4, 0.1, 50)
    for row, x, y, q in zip(found, features, labels, rates, strict=True):
        p = x @ matrices[y]
        p[y] = -np.inf
        expected = q * special.softmax(p)
        expected[y] = 1 - q
        np.testing.assert_allclose(row, expected, rtol=1e-12)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4, 0.95])
def test_rates_are_those_of_the_truncated_normal_distribution(examples, rate):
    rows = drawn(examples, rate)
    assert rows.dtype == np.float64
    assert (rows >= 0).all()
    np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-12)
    bounds = -rate / 0.1, (1 - rate) / 0.1
    expected = stats.truncnorm(*bounds, loc=rate, scale=0.1)
    rates = 1 - own_entries(rows, examples[1])
    assert stats.kstest(rates, expected.cdf).pvalue > 1e-4
    np.testing.assert_allclose(rates.mean(), expected.mean(), atol=0.003)


def test_the_mean_rate_is_the_one_asked_for_and_so_is_the_fraction_of_false_labels(examples):
    rows = drawn(examples, 0.4)
    assert abs(1 - own_entries(rows, examples[1]).mean() - 0.4) < 0.003
    noisy = corrupt(examples[1], rows, np.random.default_rng(2))
    low, high = stats.binom.interval(1 - 1e-6, EXAMPLES, 0.4)
    assert low <= noisy.changed.sum() <= high


def test_noisy_labels_of_every_class_follow_the_mean_of_its_rows(examples):
    labels, rows = examples[1], drawn(examples)
    noisy = corrupt(labels, rows, np.random.default_rng(2)).labels
    for label in range(CLASSES):
        of_class = labels == label
        counts = np.bincount(noisy[of_class], minlength=CLASSES)
        expected = rows[of_class].sum(0)
        assert stats.chisquare(counts, expected).pvalue > 1e-5


def test_examples_of_a_class_that_look_alike_are_mistaken_alike(examples):
    features, labels = examples[0][:2000], np.zeros(2000, np.int64)
    near = features + 0.01
    both = instance_dependent(
        np.concatenate([features, near]),
        np.concatenate([labels, labels]),
        CLASSES,
        0.4,
        np.random.default_rng(1),
    )
    rows, close = np.split(off_label(both, np.zeros(4000, np.int64)), 2)
    to_near = np.abs(rows - close).sum(1)
    to_others = np.abs(rows - np.roll(rows, 1, 0)).sum(1)
    assert to_near.max() < 0.1
    assert to_others.mean() > 10 * to_near.mean()


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(examples):
    few = tuple(part[:100] for part in examples)
    np.testing.assert_array_equal(drawn(few), drawn(few))
    assert (drawn(few) != drawn(few, seed=2)).all()


def test_neither_the_rate_nor_the_other_examples_change_what_an_example_is_mistaken_for(examples):
    few = tuple(part[:100] for part in examples)
    expected = off_label(drawn(few), few[1])
    for rows in (drawn(few, rate=0.1), drawn(examples)[:100]):
        np.testing.assert_allclose(off_label(rows, few[1]), expected, rtol=1e-9)


def test_no_generator_but_the_given_one_is_drawn_from(examples):
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    drawn(tuple(part[:100] for part in examples), rate=0.0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_images_are_flattened_and_huge_scores_do_not_overflow(examples):
    labels = examples[1][:100]
    images = np.random.default_rng(0).integers(256, size=(100, 4, 4, 3), dtype=np.uint8)
    rows = instance_dependent(images, labels, CLASSES, 0.4, np.random.default_rng(1))
    flat = images.reshape(100, -1).astype(np.float32)
    again = instance_dependent(flat, labels, CLASSES, 0.4, np.random.default_rng(1))
    np.testing.assert_allclose(rows, again, atol=1e-12)
    np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-12)
    # What the docstring warns of.
    assert np.mean(off_label(rows, labels).max(1) > 0.999) > 0.95


def test_two_classes_and_no_examples():
    rows = instance_dependent(
        np.ones((3, 2)), np.array([0, 1, 1]), 2, 0.4, np.random.default_rng(0)
    )
    np.testing.assert_allclose(rows.sum(1), 1)
    assert (rows > 0.01).all()
    nothing = np.zeros(0, np.int64)
    empty = instance_dependent(np.zeros((0, 4, 4)), nothing, 3, 0.4, np.random.default_rng(0))
    assert empty.shape == (0, 3)


FEATURES, LABELS = np.ones((4, 2)), np.array([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"features": FEATURES[:3]}, r"shape \[4, \.\.\.\].*got float64 of shape \(3, 2\)"),
        ({"features": np.float64(1)}, r"got float64 of shape \(\)"),
        ({"features": FEATURES.astype(complex)}, "features must be real numbers.*complex128"),
        ({"features": np.array([[1.0], [1.0], [np.inf], [1.0]])}, "1 of 4 rows.*row 2"),
        ({"features": np.full((4, 2), np.nan)}, "features must be finite; 4 of 4 rows.*row 0"),
        ({"labels": LABELS + 1}, "labels must be from 0 to 2.*numbered from 1: subtract"),
        ({"labels": LABELS - 1}, "labels must be from 0 to 2.*first in row .: -1"),
        ({"labels": LABELS * 1.0}, r"integers of shape \[N\], got float64"),
        ({"labels": LABELS[None]}, r"got int64 of shape \(1, 4\)"),
        ({"rate": 1.1}, "rate must be from 0 to 1, got 1.1"),
        ({"rate": float("nan")}, "rate must be from 0 to 1, got nan"),
        ({"num_classes": 1}, "num_classes must be an integer from 2 to 32768, got 1"),
    ],
)
def test_impossible_arguments_raise_and_say_why(changes, text):
    arguments = {"features": FEATURES, "labels": LABELS, "num_classes": 3, "rate": 0.4}
    with pytest.raises(ValueError, match=text):
        instance_dependent(**(arguments | changes), rng=np.random.default_rng(0))
