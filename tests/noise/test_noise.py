import numpy as np
import pytest
from scipy import stats

from lnl_jax.noise import corrupt, pairflip, symmetric

EXAMPLES, CLASSES = 20_000, 10


@pytest.fixture
def labels(rng):
    return rng.integers(CLASSES, size=EXAMPLES)


def seeded(seed=1):
    return np.random.default_rng(seed)


def assert_plausible(count, trials, probability):
    """Within what all but one in a million binomial draws are."""
    low, high = stats.binom.interval(1 - 1e-6, trials, probability)
    assert low <= count <= high


@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("classes", [2, 10])
def test_rows_are_distributions_and_the_diagonal_is_what_the_convention_says(
    classes, rate, include_self
):
    matrix = symmetric(classes, rate, include_self=include_self)
    assert matrix.shape == (classes, classes)
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-12)
    false = rate * (classes - 1) / classes if include_self else rate
    np.testing.assert_allclose(np.diag(matrix), 1 - false, atol=1e-12)
    others = matrix[~np.eye(classes, dtype=bool)]
    np.testing.assert_allclose(others, false / (classes - 1), rtol=1e-12)


@pytest.mark.parametrize(("include_self", "share"), [(False, 1.0), (True, (CLASSES - 1) / CLASSES)])
@pytest.mark.parametrize("rate", [0.2, 0.6, 0.9])
def test_the_realised_rate_is_that_of_the_convention(labels, rate, include_self, share):
    matrix = symmetric(CLASSES, rate, include_self=include_self)
    noisy = corrupt(labels, matrix, seeded())
    assert_plausible(noisy.changed.sum(), EXAMPLES, rate * share)
    np.testing.assert_array_equal(noisy.changed, noisy.labels != labels)
    assert noisy.rate == noisy.changed.mean()


def test_labels_follow_the_matrix(labels, rng):
    """Every row of transitions passes a chi-square test; one class is never left, one never met."""
    matrix = rng.dirichlet(np.ones(CLASSES), size=CLASSES)
    matrix[3] = np.eye(CLASSES)[3]
    matrix[:, 7] = 0
    matrix /= matrix.sum(1, keepdims=True)
    noisy = corrupt(labels, matrix, seeded()).labels
    transitions = np.zeros((CLASSES, CLASSES))
    np.add.at(transitions, (labels, noisy), 1)
    assert (transitions[matrix == 0] == 0).all()
    for row, expected in zip(transitions, matrix, strict=True):
        possible = expected > 0
        if possible.sum() > 1:
            found = stats.chisquare(row[possible], row.sum() * expected[possible])
            assert found.pvalue > 1e-5


def test_the_same_seed_gives_the_same_labels_and_another_seed_others(labels):
    matrix = symmetric(CLASSES, 0.5)
    first = corrupt(labels, matrix, seeded()).labels
    np.testing.assert_array_equal(first, corrupt(labels, matrix, seeded()).labels)
    assert (first != corrupt(labels, matrix, seeded(2)).labels).any()


@pytest.mark.parametrize("include_self", [False, True])
def test_a_larger_rate_changes_a_superset(labels, include_self):
    changed = [
        corrupt(labels, symmetric(CLASSES, rate, include_self=include_self), seeded()).changed
        for rate in (0.0, 0.1, 0.5, 0.51, 1.0)
    ]
    assert changed[0].sum() == 0
    for fewer, more in zip(changed, changed[1:], strict=False):
        assert (fewer <= more).all()
        assert fewer.sum() < more.sum()


def test_a_larger_rate_changes_a_superset_also_of_another_kind_of_noise(labels):
    some = corrupt(labels, symmetric(CLASSES, 0.3), seeded()).changed
    to_the_class_before = 0.4 * np.eye(CLASSES) + 0.6 * np.eye(CLASSES)[np.arange(CLASSES) - 1]
    more = corrupt(labels, to_the_class_before, seeded()).changed
    assert (some <= more).all()


def test_noise_of_one_class_leaves_all_others_alone(labels):
    matrix = np.eye(CLASSES)
    matrix[4] = np.eye(CLASSES)[[4, 9]].mean(0)
    noisy = corrupt(labels, matrix, seeded())
    np.testing.assert_array_equal(noisy.labels[labels != 4], labels[labels != 4])
    assert set(noisy.labels[labels == 4]) == {4, 9}
    assert_plausible(noisy.changed.sum(), (labels == 4).sum(), 0.5)


def test_a_row_per_example_replaces_the_row_of_its_class(labels, rng):
    target = rng.integers(CLASSES, size=EXAMPLES)
    noisy = corrupt(labels, np.eye(CLASSES)[target], seeded())
    np.testing.assert_array_equal(noisy.labels, target)
    # The rows of the classes, spelled out.
    matrix = symmetric(CLASSES, 0.4)
    np.testing.assert_array_equal(
        corrupt(labels, matrix[labels], seeded()).labels, corrupt(labels, matrix, seeded()).labels
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64, np.uint64])
def test_the_labels_keep_their_dtype_and_the_originals_their_values(labels, dtype):
    labels = labels.astype(dtype)
    before = labels.copy()
    noisy = corrupt(labels, symmetric(CLASSES, 0.5), seeded())
    assert noisy.labels.dtype == dtype
    assert set(noisy.labels.tolist()) == set(range(CLASSES))
    np.testing.assert_array_equal(labels, before)
    assert_plausible(noisy.changed.sum(), EXAMPLES, 0.5)


def test_float32_matrices_are_distributions_too(labels):
    matrix = symmetric(CLASSES, 0.7).astype(np.float32)
    assert_plausible(corrupt(labels, matrix, seeded()).changed.sum(), EXAMPLES, 0.7)


def test_no_labels_give_no_labels():
    noisy = corrupt(np.zeros(0, np.int64), symmetric(3, 0.5), seeded())
    assert (len(noisy.labels), noisy.rate) == (0, 0.0)


@pytest.mark.parametrize("rate", [1.5, -0.1, float("nan")])
def test_a_rate_out_of_range_raises(rate):
    with pytest.raises(ValueError, match=f"rate must be from 0 to 1, got {rate}"):
        symmetric(CLASSES, rate)


def test_noise_needs_two_classes():
    with pytest.raises(ValueError, match="num_classes must be at least 2, got 1"):
        symmetric(1, 0.5)


LABELS = np.array([0, 1, 2, 0])
MATRIX = symmetric(3, 0.5)


@pytest.mark.parametrize(
    ("labels", "matrix", "text"),
    [
        (LABELS, MATRIX - 0.5 * np.eye(3) + 0.5 * np.eye(3)[[1, 2, 0]] * 2 - 0.5, "at least 0"),
        (LABELS, 0.9 * MATRIX, "distributions: at least 0, summing to 1"),
        (LABELS, np.full((3, 3), np.nan), "distributions"),
        (LABELS, MATRIX[:2], r"\[K, K\] or \[4, K\].*got \(2, 3\)"),
        (LABELS, MATRIX[0], r"got \(3,\)"),
        (np.array([0, 3, 1, 1]), MATRIX, "labels must be from 0 to 2.*got 0 to 3"),
        (np.array([0, -1, 1, 1]), MATRIX, "labels must be from 0 to 2.*got -1 to 1"),
        (np.array([0.0, 1.0]), MATRIX, r"labels must be integers of shape \[N\], got float64"),
        (np.array([True, False]), MATRIX, "got bool"),
        (np.eye(3, dtype=int), MATRIX, r"got int64 of shape \(3, 3\)"),
    ],
)
def test_impossible_labels_and_matrices_raise_and_say_why(labels, matrix, text):
    with pytest.raises(ValueError, match=text):
        corrupt(labels, matrix, seeded())


@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
def test_pairflip_sends_every_class_to_the_next_one_and_nowhere_else(labels, rate):
    matrix = pairflip(CLASSES, rate)
    np.testing.assert_array_equal(matrix.sum(1), 1)
    noisy = corrupt(labels, matrix, seeded())
    assert_plausible(noisy.changed.sum(), EXAMPLES, rate)
    following = (labels + 1) % CLASSES
    np.testing.assert_array_equal(noisy.labels, np.where(noisy.changed, following, labels))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((10, 1.5), "rate must be from 0 to 1, got 1.5"),
        ((1, 0.1), "num_classes must be at least 2"),
    ],
)
def test_pairflip_out_of_range_raises(arguments, text):
    with pytest.raises(ValueError, match=text):
        pairflip(*arguments)
