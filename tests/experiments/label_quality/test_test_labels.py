"""Given and corrected test labels: what is read, what is refused, and who is first."""

import numpy as np
import pytest

from experiments import EXPERIMENTS, is_generated
from lnl_jax.comparison import corrected_tests, judged_tests
from lnl_jax.runner import Artifact, StudyError

ROWS = np.arange(12) % 3


@pytest.fixture
def folder(tmp_path):
    """A set of three classes whose test labels 1 and 4 are wrong, and what is known of them."""
    x = np.eye(3)[ROWS]
    given, right = ROWS.copy(), ROWS.copy()
    given[[1, 4]] = (ROWS[[1, 4]] + 1) % 3
    votes = {"s_id": [101, 104, 107, 999], "s_given": [*given[[1, 4, 7]], 0]}
    votes |= {"s_guess": [*right[[1, 4]], 0, 1]}
    votes |= {"s_votes": [[0, 5, 0, 0], [1, 3, 1, 0], [1, 1, 0, 3], [0, 5, 0, 0]]}
    counts = 4 * np.eye(3, dtype=int)[right] + 1
    arrays = {"x_train": x, "y_train": ROWS, "x_test": x, "y_test": given, "right": right}
    arrays |= {"idx_test": np.arange(100, 112), "counts": counts, "short": right[:5]}
    arrays |= {"unknown": right * 0 - 1, "large": right + 1}
    np.savez(tmp_path / "own.npz", **arrays)
    np.savez(tmp_path / "votes.npz", **votes)
    other = votes | {"s_given": [*right[[1, 4, 7]], 0]}
    np.savez(tmp_path / "other.npz", **other)
    np.savez(tmp_path / "strange.npz", **votes | {"s_id": [1, 4, 7, 9]})
    np.savez(tmp_path / "flat.npz", **votes | {"s_votes": np.zeros((4, 3), int)})
    return tmp_path


def read(folder, corrections, **more):
    return corrected_tests.corrected_test_npz(str(folder), "own", corrections=corrections, **more)


def test_right_classes_come_from_an_array_counts_or_votes(folder):
    for corrections in ("right", "counts"):
        found = read(folder, corrections)
        np.testing.assert_array_equal(found.corrected, ROWS)
        assert np.flatnonzero(found.wrong).tolist() == [1, 4]
    found = read(folder, "votes/s", people="counts")
    # Of the third that was reviewed both classes are there; the fourth is no example of the set.
    assert found.corrected.tolist() == [*ROWS[:7], -1, *ROWS[8:]]
    assert np.flatnonzero(found.wrong).tolist() == [1, 4]
    assert not found.right[7]
    np.testing.assert_allclose(found.people.sum(1), 1)


def test_generated_errors_are_the_next_class_and_the_own_labels_are_right(folder):
    found = read(folder, None, rates=(0.0, 1.0))
    np.testing.assert_array_equal(found.given, (found.corrected + 1) % 3)
    np.testing.assert_array_equal(found.label[found.train], ROWS)


def test_a_network_that_repeats_the_errors_is_first_only_by_given_labels(folder):
    tests = read(folder, "votes/s", people="counts")
    follows = 0.8 * np.eye(3)[tests.given] + 0.2 / 3
    avoids = 0.8 * np.eye(3)[ROWS] + 0.2 / 3
    avoids[0] = [0.1, 0.8, 0.1]
    probabilities = np.stack([follows, avoids])[:, None].repeat(2, 1)
    table = judged_tests.judge_networks(["follows", "avoids"], probabilities, tests)
    winners = judged_tests.winner_rows(table, tests)
    assert [row["winner"] for row in winners] == ["follows", "avoids", "avoids"]
    assert [row["changed ranks"] for row in winners] == [0, 2, 2]
    assert (winners[0]["wrong labels"], winners[0]["no single class"]) == (2, 1)
    right, wrong = judged_tests.accuracies_by_part(probabilities, tests)
    np.testing.assert_allclose((right, wrong), ([1, 8 / 9], [0, 1]))
    (row,) = judged_tests.crossing_rows(["follows", "avoids"], right, wrong, 2 / 11)
    assert row["ahead where labels are right"] == "follows"
    np.testing.assert_allclose(row["alike at wrong labels %"], 10, rtol=1e-5)
    assert table[1]["at least %"] < 100 * 10 / 11 < table[1]["at most %"]


REFUSED = {
    "nothing known of digits": ({"corrections": "right"}, "corrections and people are of a file"),
    "no folder": ({"dataset": "own"}, "read from own.npz: give data_dir"),
    "no array": ({"corrections": "rihgt"}, "corrections: .* has no array rihgt; it has counts, "),
    "few classes": ({"corrections": "short"}, "a class from 0 to 2 for each of 12 test examples"),
    "a class too many": ({"corrections": "large"}, "from 0 to 2 .*, or -1; got 3 in row 2"),
    "nothing corrected": ({"corrections": "unknown"}, "is -1, no class, for every test example"),
    "no counts": ({"people": "right"}, r"people: right of .* shape \(12, 3\).*got the shape \(12,"),
    "no file of votes": ({"corrections": "vote/s"}, "vote.npz does not exist"),
    "votes of another set": ({"corrections": "other/s"}, "is of another set: test example 101"),
    "votes of no example": (
        {"corrections": "strange/s"},
        "none of the 4 examples in s_id of .*own",
    ),
    "votes of a wrong shape": ({"corrections": "flat/s"}, r"shape \[4, 4\].*got \(4, 3\)"),
    "an unknown loss": ({"losses": ("ldr",)}, "losses cannot be ldr"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_a_line(folder, case):
    arguments, message = REFUSED[case]
    where = {"dataset": "own", "data_dir": str(folder)}
    if case in ("nothing known of digits", "no folder"):
        where = {}
    with pytest.raises(StudyError, match=message) as error:
        next(EXPERIMENTS["test_labels"](**where | arguments))
    assert "\n" not in str(error.value)


def test_generated_errors_are_said_to_be_generated():
    assert is_generated("generated")


@pytest.mark.slow
def test_generated_errors_cost_every_network_agreement_and_the_bounds_hold():
    found = EXPERIMENTS["test_labels"](losses=("cross_entropy",), widths=(0, 64), seeds=2)
    artifacts = {one.name: one.value for one in found if isinstance(one, Artifact)}
    for row in artifacts["results"]:
        given, corrected = (float(row[f"{kind} %"].split()[0]) for kind in ("given", "corrected"))
        assert given < corrected - 3
        assert row["at least %"] < corrected < row["at most %"]
    assert artifacts["predictions"]["probabilities"].shape[:2] == (2, 2)
