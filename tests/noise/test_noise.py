import numpy as np
import pytest
from scipy import stats

from lnl_jax.noise import (
    LETTER_SWAPS,
    NEWS20_SWAPS,
    VOWEL_SWAPS,
    cifar10_asymmetric,
    class_dependent,
    corrupt,
    cyclic,
    instance_dependent,
    pairflip,
    symmetric,
)

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
    with pytest.raises(ValueError, match="num_classes must be an integer from 2 to 32768, got 1"):
        symmetric(1, 0.5)


LABELS = np.array([0, 1, 2, 0])
MATRIX = symmetric(3, 0.5)


@pytest.mark.parametrize(
    ("labels", "matrix", "text"),
    [
        (LABELS, MATRIX - 0.5 * np.eye(3) + 0.5 * np.eye(3)[[1, 2, 0]] * 2 - 0.5, "at least 0"),
        (LABELS, 0.9 * MATRIX, "at least 0, summing to 1; row 0 sums to 0.9"),
        (LABELS, MATRIX * [[1.0], [1.5], [2.0]], "row 1 sums to 1.5"),
        (LABELS, np.array([[1.0, 0, 0], [0, 1, 0], [1.5, 0, -0.5]]), "row 2 has the entry -0.5"),
        (LABELS, np.full((3, 3), np.nan), "row 0 has the entry nan"),
        (LABELS, np.array([[0.5, 0.5], [np.inf, -np.inf]]), "row 1 has the entry inf"),
        (LABELS, np.array([[0.0, 1.0]] * 3 + [[0.3, 0.6]]), "row 3 sums to 0.9"),
        (LABELS, MATRIX[:2], r"\[K, K\] or \[4, K\].*got \(2, 3\)"),
        (LABELS, MATRIX[0], r"got \(3,\)"),
        (np.array([0, 3, 1, 1]), MATRIX, "labels must be from 0 to 2.*first in row .: 3"),
        (np.array([0, -1, 1, 1]), MATRIX, "labels must be from 0 to 2.*first in row .: -1"),
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
        ((1, 0.1), "num_classes must be an integer from 2"),
    ],
)
def test_pairflip_out_of_range_raises(arguments, text):
    with pytest.raises(ValueError, match=text):
        pairflip(*arguments)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.35, 1.0])
@pytest.mark.parametrize("classes", [2, 26])
def test_class_dependent_noise_of_the_cyclic_mapping_is_pairflip(classes, rate):
    matrix = class_dependent(classes, rate, cyclic(classes))
    np.testing.assert_array_equal(matrix, pairflip(classes, rate))


def test_class_dependent_noise_goes_the_way_that_is_given_and_no_other():
    matrix = class_dependent(4, 0.25, {0: 2, 3: 0, np.int64(1): 1})
    expected = [[0.75, 0, 0.25, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0.25, 0, 0, 0.75]]
    np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize(
    ("swaps", "classes", "clean"),
    [
        (LETTER_SWAPS, 26, "AJSTYZ"),
        (VOWEL_SWAPS, 11, [10]),
        (NEWS20_SWAPS, 20, [0, 1, 6, 13, 14, 16, 17, 19]),
    ],
)
def test_swaps_go_both_ways_and_the_rest_stays_clean(swaps, classes, clean):
    assert all(swaps[new] == old != new for old, new in swaps.items())
    clean = [ord(label) - ord("A") if isinstance(label, str) else label for label in clean]
    assert sorted([*swaps, *clean]) == list(range(classes))
    matrix = class_dependent(classes, 0.3, swaps)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.flatnonzero(matrix.diagonal() == 1), clean)


def test_swaps_are_those_of_the_official_code():
    letters = {chr(old + 65) + chr(new + 65) for old, new in LETTER_SWAPS.items() if old < new}
    assert letters == {"BD", "CG", "EF", "HN", "IL", "KX", "MW", "OQ", "PR", "UV"}
    assert {(old, new) for old, new in NEWS20_SWAPS.items() if old < new} == {
        (2, 5),
        (3, 4),
        (7, 8),
        (9, 10),
        (11, 12),
        (15, 18),
    }
    assert all(old // 2 == new // 2 for old, new in VOWEL_SWAPS.items())


def test_cifar10_classes_become_what_they_look_like(labels):
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    noisy = corrupt(labels, cifar10_asymmetric(0.4), seeded())
    pairs = {(names[old], names[new]) for old, new in zip(labels, noisy.labels, strict=True)}
    assert {(old, new) for old, new in pairs if old != new} == {
        ("truck", "automobile"),
        ("bird", "airplane"),
        ("deer", "horse"),
        ("cat", "dog"),
        ("dog", "cat"),
    }
    mistaken = np.isin(labels, [2, 3, 4, 5, 9])
    assert_plausible(noisy.changed.sum(), mistaken.sum(), 0.4)
    np.testing.assert_array_equal(cifar10_asymmetric(0.4).sum(1), 1)


@pytest.mark.parametrize("pair", [(3, 0), (0, 3), (-1, 0), (0, 1.0), (0, True), ("a", 0)])
def test_a_mapping_of_what_is_no_class_raises_and_names_the_pair(pair):
    old, new = pair
    with pytest.raises(ValueError, match=f"integers from 0 to 2; got {old!r}: {new!r}"):
        class_dependent(3, 0.2, {1: 2, old: new})


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: class_dependent(3, 1.5, {}), "rate must be from 0 to 1, got 1.5"),
        (
            lambda: class_dependent(1, 0.5, {}),
            "num_classes must be an integer from 2 to 32768, got 1",
        ),
        (lambda: cifar10_asymmetric(-0.1), "rate must be from 0 to 1, got -0.1"),
        (lambda: cyclic(1), "num_classes must be an integer from 2 to 32768, got 1"),
    ],
)
def test_class_dependent_noise_out_of_range_raises(call, text):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        *(
            (lambda rate=rate: symmetric(3, rate), f"rate must be from 0 to 1, got {shown}")
            for rate, shown in (("0.5", "'0.5'"), (None, "None"), (np.ones(3), "array"), (1j, "1j"))
        ),
        *(
            (
                lambda number=number: pairflip(number, 0.5),
                "num_classes must be an integer from",
            )
            for number in (3.0, True, "3", np.array([3]))
        ),
        (
            lambda: class_dependent(3, 0.5, [(0, 1)]),
            "mapping must be from class to class.*got list",
        ),
        (lambda: corrupt([0, 1], np.eye(2), 0), "rng must be a numpy.random.Generator, got int"),
        (lambda: corrupt([0, 1], np.eye(2, dtype=str), seeded()), "matrix must hold real numbers"),
        (lambda: corrupt([0, 1], np.eye(2) * 1j, seeded()), "matrix must hold real numbers"),
        (
            lambda: corrupt([0.0, 1.0], np.eye(2), seeded()),
            r"labels must be integers.*cast class num",
        ),
        (lambda: corrupt(np.eye(2), np.eye(2), seeded()), r"labels must be .*labels.argmax"),
        (lambda: corrupt([1, 2], np.eye(2), seeded()), "numbered from 1: subtract it, labels - 1"),
        (lambda: corrupt([0, 2**32], np.eye(2), seeded()), "labels must be .*row 1: 4294967296"),
        (
            lambda: corrupt(np.uint8([0, 255]), np.eye(2), seeded()),
            "255 commonly marks rows without a label",
        ),
        (
            lambda: instance_dependent(np.eye(2), [0, 1], 2, 0.5, 1),
            "rng must be a numpy.random.Gen",
        ),
    ],
)
def test_arguments_of_another_kind_are_named_with_the_repair(call, text):
    with pytest.raises(ValueError, match=text):
        call()
