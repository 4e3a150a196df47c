import csv
import io

import numpy as np
import pytest

from experiments import is_generated
from experiments.label_quality.crowd_labels import Columns, crowd_labels
from lnl_jax.runner import Artifact, StudyError

MODELS = ["majority", "normalised votes", "softmax of votes", "WaWA", "zero-based skill"]
MODELS += ["Dawid-Skene", "GLAD", "MACE", "average"]


def call(**arguments):
    """The rows, and the artifacts by name; of two with one name the first."""
    outputs = list(crowd_labels(**arguments))
    artifacts = [output for output in outputs if isinstance(output, Artifact)]
    rows = [output for output in outputs if isinstance(output, dict)]
    return rows, {one.name: one.value for one in reversed(artifacts)}


def table(value):
    return list(csv.DictReader(io.StringIO(value.decode())))


@pytest.fixture
def file(tmp_path):
    """Twenty items, three annotators, the last of whom is wrong half of the time."""
    lines = ["picture,who,label,class"]
    for item in range(20):
        true = "cat" if item % 3 else "dog"
        other = "dog" if item % 3 else "cat"
        for who in ("ann", "bob", "eve"):
            lines.append(f"{item:02},{who},{other if who == 'eve' and item % 2 else true},{true}")
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_file_of_ones_own_is_scored_where_the_truth_is_known(file):
    columns = Columns(item="picture", annotator="who", truth="class")
    rows, artifacts = call(annotations=str(file), columns=columns)
    assert [row["method"] for row in rows] == MODELS
    assert [row["labels"] for row in artifacts["results"]] == MODELS
    assert all(row["accuracy %"] == 100 for row in artifacts["results"])
    items = table(artifacts["labels.csv"])
    assert len(items) == 20
    assert {item["label"] for item in items} == {"cat", "dog"}
    # Those on which one disagreed are the least certain.
    assert all(int(item["item"]) % 2 for item in items[:10])
    annotators = table(artifacts["annotators.csv"])
    assert annotators[0]["annotator"] == "eve"
    assert artifacts["distributions"]["average"].shape == (20, 2)


def test_without_the_truth_nothing_speaks_of_right_or_accurate(file):
    columns = Columns(item="picture", annotator="who")
    rows, artifacts = call(annotations=str(file), columns=columns, certainty=0.6)
    assert set(rows[0]) == {"method", "accepted %"}
    assert set(artifacts["results"][0]) == {"labels", "accepted %"}


def test_generated_annotators_are_said_to_be_generated():
    assert is_generated("generated")
    assert not is_generated("rte")
    assert not is_generated(3)


REFUSED = {
    "a misspelt column": (
        {"columns": Columns(item="pictur", annotator="who")},
        "columns.item|item: .*did you mean picture",
    ),
    "no file": ({"annotations": "label.csv"}, "annotations must be a CSV file or a set"),
    "a set by half its name": ({"annotations": "bluebrd"}, "did you mean bluebird"),
    "a set without a folder": ({"annotations": "rte"}, "crowd_rte.npz: give data_dir"),
    "a set that is not there": (
        {"annotations": "rte", "data_dir": "."},
        "crowd_rte.npz does not exist",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_a_line(file, case):
    arguments, message = REFUSED[case]
    with pytest.raises(StudyError, match=message):
        call(**{"annotations": str(file)} | arguments)


BROKEN = {
    "one annotator": (["a,ann,x", "b,ann,y"], "at least two annotators"),
    "one class": (["a,ann,x", "a,bob,x"], "at least two classes"),
    "a label given twice": (["a,ann,x", "a,ann,y", "b,bob,x"], "one label of an annotator"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_labels_that_say_nothing_are_refused_in_a_line(tmp_path, case):
    lines, message = BROKEN[case]
    file = tmp_path / "labels.csv"
    file.write_text("\n".join(["item,annotator,label", *lines]))
    with pytest.raises(StudyError, match=message):
        call(annotations=str(file))


@pytest.mark.slow
def test_networks_are_scored_on_items_held_out_elsewhere_and_shifted():
    rows, artifacts = call(epochs=3, hidden=8, seeds=2, restarts=2)
    kinds = [*MODELS, "CROWDLAB", "true labels"]
    sets = ["held out", "test", "moved", "held out, noisy"]
    lines = artifacts["classifiers"]
    assert [(row["scored on"], row["trained on"]) for row in lines] == [
        (name, kind) for name in sets for kind in kinds
    ]
    assert [row["epoch"] for row in rows if "epoch" in row] == [1, 2, 3]
    means = {
        (row["scored on"], row["trained on"]): float(row["accuracy %"].split()[0]) for row in lines
    }
    assert means["test", "true labels"] > means["moved", "true labels"]
    accuracy = {row["labels"]: row["accuracy %"] for row in artifacts["results"]}
    assert accuracy["CROWDLAB"] > accuracy["majority"]


@pytest.mark.slow
def test_networks_are_scored_on_given_labels_where_the_truth_is_not_known(file, tmp_path):
    rng = np.random.default_rng(0)
    features = tmp_path / "features.csv"
    lines = [f"{item:02},{(item % 3 > 0) + rng.normal() / 9},{rng.normal()}" for item in range(20)]
    features.write_text("\n".join(["picture,one,two", *lines]))
    columns = Columns(item="picture", annotator="who")
    arguments = {"epochs": 2, "hidden": 0, "seeds": 2, "features": str(features)}
    _, artifacts = call(annotations=str(file), columns=columns, **arguments)
    assert {"as given %"} <= set(artifacts["classifiers"][0])
    assert not [name for name in artifacts["classifiers"][0] if "accuracy" in name]
