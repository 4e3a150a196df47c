"""Which labels are wrong: the study from a user's file to its tables, and what it refuses."""

import csv

import numpy as np
import pytest
from PIL import Image

from experiments.label_quality.label_issues import label_issues
from lnl_jax.comparison.whole_sets import WHOLE_SETS
from lnl_jax.runner.outputs import Artifact
from tests.experiments import commands

QUICK = "--epochs 20 --learning_rates 0.1 --folds 2 --num_neighbours 4".split()
# Words that would claim to know what is true.
CLAIMS = ("clean", "correct", "memori", "false", "true ")


def write(file, rows):
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows(rows)
    return file


def insects():
    """A table of two classes far apart; the labels of rows 7 and 14 are swapped."""
    rng = np.random.default_rng(0)
    rows = [["legs", "wings", "kind"]]
    for number in range(40):
        is_bee = number % 2
        legs, wings = 4 * is_bee + rng.normal(size=2) / 2
        rows.append([legs, wings, ("ant", "bee")[is_bee if number not in (7, 14) else 1 - is_bee]])
    return rows


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the study in an empty folder: status, the folder of results, what was printed."""

    def started(*options):
        monkeypatch.chdir(tmp_path)
        status = commands.main(["--exp", "label_issues", *options])
        printed = capsys.readouterr()
        folders = list((tmp_path / "results/label_issues").glob("*"))
        return status, folders[0] if folders else None, printed.out + printed.err

    return started


@pytest.mark.slow
def test_a_table_of_ones_own_becomes_a_list_of_issues(run, tmp_path):
    write(tmp_path / "insects.csv", insects())
    options = "--dataset csv --dataset.file insects.csv --dataset.label kind --seeds 2".split()
    status, folder, printed = run(*options, *QUICK)
    assert status == 0, printed
    with (folder / "issues.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert {rows[0]["row"], rows[1]["row"]} == {"7", "14"}
    by_row = {row["row"]: row for row in rows}
    assert (by_row["7"]["given"], by_row["7"]["suggested"]) == ("ant", "bee")
    assert by_row["7"]["flagged"] == by_row["14"]["flagged"] == "True"
    # No column, caption or metric claims to know which labels are true.
    tables = {file.stem: file.read_text() for file in folder.glob("*.csv")}
    assert set(tables) == {"issues", "detectors", "noise_matrix", "classes", "neighbours", "gains"}
    tables["noise_matrix"] = tables["noise_matrix"].replace("estimated true class", "")
    for name, text in tables.items():
        headings = text.partition("\n")[0].lower()
        assert not [claim for claim in CLAIMS if claim in headings], name
    with (folder / "neighbours.csv").open() as file:
        nearest = {row["row"]: row for row in csv.DictReader(file)}["7"]
    assert nearest["neighbour 1"].startswith("bee (row ")


def test_a_folder_of_images_becomes_a_grid_with_names(run, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(24):
        place = tmp_path / "animals" / ("cat", "dog")[number % 2 if number != 5 else 0]
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 60, (8, 8, 3)) + 150 * (number % 2)
        Image.fromarray(np.uint8(pixels)).save(place / f"{number:02}.png")
    options = "--dataset folder --dataset.path animals --dataset.size 8 --seeds 0".split()
    status, folder, printed = run(*options, *QUICK)
    assert status == 0, printed
    with (folder / "issues.csv").open() as file:
        first = next(csv.DictReader(file))
    assert (first["file"], first["given"]) == ("animals/cat/05.png", "cat")
    assert first["suggested"] == "dog"
    assert (folder / "suspicious.png").is_file()


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (insects()[:1], "", "has no rows"),
        (insects(), "--dataset.label kinds", "did you mean kind"),
        (
            insects()[:3],
            "--dataset.label kind",
            "5 examples of a class are needed for 5 folds and 5 parts of seeds; 2 of 2 classes "
            "have fewer, the first is ant with 1: leave it out, or use fewer folds, or set seeds "
            "to 0, or judge labels of fewer classes.",
        ),
        (
            [*insects(), [1, 2, "wasp"]],
            "--dataset.label kind --seeds 0 --folds 2",
            "2 examples of a class are needed for 2 folds; 1 of 3 classes have fewer, the first is "
            "wasp with 1: leave it out.",
        ),
        ([*insects(), [1, "x", "bee"]], "--dataset.label kind", "row 40 (line 42), column wings"),
        ([*insects(), [1, 2, 3, "bee"]], "--dataset.label kind", "row 40 (line 42) has 4 fields"),
        (insects(), "--dataset.label kind --num_neighbours 40", "num_neighbours must be less"),
        (insects(), "--dataset.label kind --labels worse", "labels must be one of none, got worse"),
    ],
    ids=["empty", "no column", "few", "one alone", "text", "ragged", "neighbours", "labels"],
)
def test_what_is_wrong_is_one_line(run, tmp_path, rows, options, message):
    write(tmp_path / "insects.csv", rows)
    status, _, printed = run(*"--dataset csv --dataset.file insects.csv".split(), *options.split())
    assert status == 2
    # Besides the folder and, on a slow machine, a line of progress.
    (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in printed


def test_an_image_that_is_missing_is_named_or_skipped(run, tmp_path):
    for number in range(12):
        pixels = np.full((8, 8, 3), 200 * (number % 2), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    rows = [[f"{number}.png", number % 2] for number in range(13)]
    write(tmp_path / "labels.csv", [["path", "label"], *rows])
    options = "--dataset csv --dataset.image path --seeds 0".split()
    status, _, printed = run(*options, *QUICK)
    assert (status, "row 12 (line 14): 12.png cannot be read" in printed) == (2, True)
    status, folder, printed = run(*options, *QUICK, "--dataset.skip_unreadable", "true")
    assert status == 0, printed
    skipped = (folder / "skipped.csv").read_text()
    assert "row 12 (line 14)" in skipped
    assert len(skipped.splitlines()) == 2


@pytest.mark.slow
def test_false_labels_of_digits_are_found_and_cost_less():
    found, answer = {}, None
    study = label_issues(seeds=2)
    while True:
        try:
            output, answer = study.send(answer), None
        except StopIteration:
            break
        if isinstance(output, Artifact):
            found[output.name] = output.value
    areas = {row["detector"]: row["AUROC %"] for row in found["detectors"]}
    assert min(areas["knn_shapley"], areas["simifeat"]) > 99
    assert areas["self_confidence"] > 98
    accuracy = {row["training"]: row["agrees with true labels %"] for row in found["gains"]}
    assert accuracy["cross_entropy without flagged"] > accuracy["cross_entropy"]


def test_a_named_set_and_the_own_ones_are_choices():
    assert {"digits", "csv", "folder", "npz", "tfds"} <= set(WHOLE_SETS)
