"""The best of several candidates: from a file, from generated voters, and what is refused."""

import csv
import io
import itertools
import re

import numpy as np
import pytest

from experiments.label_quality import candidate_labels as module
from lnl_jax import data
from lnl_jax.runner import Artifact, StudyError

LINES = ["scan,better,worse,who,truth"]
# Of three labels of each scan a is the best; eve always says the opposite.
for scan, (one, two), who in itertools.product("xyz", ("ab", "ac", "bc"), ("ann", "bob", "eve")):
    better, worse = (two, one) if who == "eve" else (one, two)
    LINES.append(f"{scan},{better},{worse},{who},a")
COLUMNS = module.Columns("scan", "better", "worse", "who", "truth")


def call(**arguments):
    """The artifacts: tables, and what is a file by its name."""
    outputs = list(module.candidate_labels(**arguments))
    artifacts = [one for one in outputs if isinstance(one, Artifact)]
    return {one.name: one.value for one in reversed(artifacts)}


def table(value):
    return list(csv.DictReader(io.StringIO(value.decode())))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "votes.csv"
    # A scan with two candidates only, whose names no other has.
    path.write_text("\n".join([*LINES, "w,old,new,ann,old"]) + "\n")
    return path


def test_a_file_of_ones_own_is_ranked_and_a_voter_against_all_counts_nothing(file):
    artifacts = call(votes=str(file), columns=COLUMNS, certainty=0.7)
    assert [row["best found %"] for row in artifacts["results"]] == [100, 100, 100]
    labels = {row["item"]: row for row in table(artifacts["labels.csv"])}
    assert {name: row["label"] for name, row in labels.items()} == dict(
        w="old", x="a", y="a", z="a"
    )
    assert labels["x"]["votes"] == "9"
    # The second of two candidates, not one that only other scans have.
    assert float(labels["w"]["certainty"]) > 0.65
    voters = table(artifacts["voters.csv"])
    assert [row["voter"] for row in voters] == ["eve", "bob", "ann"]
    assert float(voters[0]["agrees"]) < 0.5
    certainty = [float(row["certainty"]) for row in table(artifacts["labels.csv"])]
    assert certainty == sorted(certainty)


def test_without_the_best_nothing_speaks_of_found_or_errors(file):
    artifacts = call(votes=str(file), columns=COLUMNS._replace(best=None, voter=None))
    assert set(artifacts["results"][0]) == {"way", "to review %"}
    assert "reviews" not in artifacts


def test_the_posterior_is_that_of_all_orders_of_merit():
    found = data.generated_candidates(
        np.random.default_rng(0), num_items=3, num_candidates=3, num_voters=4, votes=2
    )
    wanted = np.zeros((3, 3))
    for order in itertools.permutations(range(3)):
        for item in range(3):
            likely = 1.0
            for (at, one, two), voter in zip(found.votes, found.voter, strict=True):
                if at == item:
                    agrees = order.index(one) < order.index(two)
                    likely *= found.skills[voter] if agrees else 1 - found.skills[voter]
            wanted[item, order[0]] += likely
    np.testing.assert_allclose(
        module._posterior(found, 3), wanted / wanted.sum(1, keepdims=True), 1e-9
    )


def test_knowing_the_voters_finds_more_and_more_reviews_mean_fewer_errors():
    artifacts = call(items=300)
    found = {row["way"]: row["best found %"] for row in artifacts["results"]}
    assert found["posterior, known skills"] > found["Bradley-Terry"] + 5
    assert found["Bradley-Terry, voters weighed"] > found["Bradley-Terry"] + 3
    rows = [row for row in artifacts["review"] if row["way"] == "posterior, known skills"]
    assert np.all(np.diff([row["to review %"] for row in rows]) >= 0)
    assert rows[-1]["errors accepted %"] < rows[0]["errors accepted %"] - 10
    # A fifth of them guess.
    skills = {row["voter"]: float(row["skill"]) for row in table(artifacts["voters.csv"])}
    assert min(skills.values()) == 0.5


REFUSED = {
    "a misspelt column": (
        {"columns": COLUMNS._replace(preferred="beter")},
        "columns: preferred: .*did you mean better",
    ),
    "no file": ({"votes": "vote.csv"}, "votes must be a CSV file or generated; there is no file"),
    "more votes than voters": (
        {"votes": "generated", "voters": 2},
        "votes_per_pair must be at most the 2 voters, got 3",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_a_line(file, case):
    arguments, message = REFUSED[case]
    with pytest.raises(StudyError, match=message):
        call(**{"votes": str(file), "columns": COLUMNS} | arguments)


BROKEN = {
    "a candidate against itself": ("x,a,a,ann,a", "row 28 (line 30) compares 'a' with itself"),
    "another best": ("x,a,b,ann,b", "row 28 (line 30) has 'b' of 'a, b, c'"),
    "a best without a vote": ("x,a,b,ann,d", "row 28 (line 30) has 'd' of 'a, b, c'"),
    "no other": ("x,a,,ann,a", "column worse is empty in 1 of 29 rows"),
    "a field more": ("x,a,b,ann,a,a", "row 28 (line 30) has 6 fields"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_lines_that_say_nothing_are_named(file, case):
    line, message = BROKEN[case]
    with file.open("a") as opened:
        opened.write(line + "\n")
    with pytest.raises(StudyError, match=re.escape(message)):
        call(votes=str(file), columns=COLUMNS)
