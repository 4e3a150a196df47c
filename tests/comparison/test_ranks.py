import numpy as np
import pytest

from lnl_jax.comparison.conditions import ACCURACIES
from lnl_jax.comparison.ranks import rank_board, ranks_by, ranks_of_draws, read_runs
from lnl_jax.runner.files import csv_bytes

# Accuracies by loss, table and draw: `b` is first on one table, and in one draw of the other.
FOUND = {
    ("a", "t"): (0.9, 0.8),
    ("b", "t"): (0.8, 0.9),
    ("c", "t"): (0.1, 0.1),
    ("a", "u"): (0.5, 0.5),
    ("b", "u"): (0.6, 0.6),
    ("c", "u"): (0.2, 0.2),
}


def runs():
    for (loss, dataset), values in FOUND.items():
        for seed, value in enumerate(values):
            # A second setting that is better on clean labels and worse on validation.
            for setting, validated, got in (("x 1", 0.7, value), ("x 2", 0.6, 1.0)):
                yield {"dataset": dataset, "noise": "clean", "rate": 0.0, "loss": loss} | {
                    "setting": setting, "learning_rate": 0.1, "fold": 0, "seed": seed,
                    "validation_accuracy": validated, **dict.fromkeys(ACCURACIES, got),
                }  # fmt: skip


def write(folder, rows):
    folder.mkdir()
    (folder / "runs.csv").write_bytes(csv_bytes(rows))


def test_ranks_over_tables_and_draws(tmp_path):
    for table in "tu":
        write(tmp_path / table, [row for row in runs() if row["dataset"] == table])
    rows = read_runs([str(tmp_path)])
    # On t the two are equal over both draws: 1.5 each.
    board = {line["loss"]: line for line in rank_board(rows, "abc")}
    assert [board[loss]["top_1"] for loss in "abc"] == [1.75, 1.25, 3.0]
    assert list(board) == ["b", "a", "c"]
    assert (board["a"]["first"], board["b"]["first"], board["c"]["last three"]) == (1, 2, 2)
    draws = ranks_of_draws(rows, "abc")["top_1"]
    assert draws["a"].tolist() == [1.5, 2.0]
    assert board["a"]["std over draws"] == pytest.approx(np.std([1.5, 2.0], ddof=1))
    by_table = {line["loss"]: (line["t"], line["u"]) for line in ranks_by(rows, "abc", "dataset")}
    assert by_table == {"a": (1.5, 2.0), "b": (1.5, 1.0), "c": (3.0, 3.0)}
    # A loss that a table does not have takes it out of the ranks.
    less = [row for row in rows if (row["loss"], row["dataset"]) != ("c", "u")]
    assert [line["top_1"] for line in rank_board(less, "ab")] == [1.25, 1.75]
    assert rank_board(less, "abc")[0]["top_1"] == 1.5


def test_files_of_something_else_and_of_the_same_runs_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"runs must be files or folders with runs\.csv, got"):
        read_runs([str(tmp_path)])
    write(tmp_path / "one", list(runs()))
    write(tmp_path / "two", list(runs()))
    with pytest.raises(ValueError, match="hold the same run, a on t; give one"):
        read_runs([str(tmp_path)])
    write(tmp_path / "three", [{"epoch": 1}])
    with pytest.raises(ValueError, match=r"three/runs\.csv lacks the column dataset"):
        read_runs([str(tmp_path / "three")])
