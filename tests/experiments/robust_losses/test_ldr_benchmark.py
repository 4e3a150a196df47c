import copy

import numpy as np
import pytest

from experiments.robust_losses.ldr_benchmark import MEASURED, ldr_benchmark
from lnl_jax import data
from lnl_jax.comparison.catalogue import CATALOGUE, PAPER_LOSSES
from lnl_jax.comparison.noisy_folds import transition_matrix
from lnl_jax.comparison.table_sets import TABLE_SETS
from lnl_jax.noise import VOWEL_SWAPS
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume

TINY = {
    "dataset": TABLE_SETS["digits"],
    "losses": ("cross_entropy", "aldr_kl_step"),
    "noises": ("clean",),
}
TINY |= {"folds": 2, "epochs": 1, "learning_rates": (0.1,), "batch_size": 200}


def four_classes(data_dir):
    found = TABLE_SETS["digits"](data_dir)
    parts = [
        {name: values[part["label"] < 4] for name, values in part.items()}
        for part in (found.train, found.test)
    ]
    return data.Splits(*parts, 4)


def test_the_grids_are_the_39_settings_of_the_paper():
    assert len(PAPER_LOSSES) == 15
    assert set(PAPER_LOSSES) <= set(CATALOGUE)
    assert sum(len(CATALOGUE[name].grid) for name in PAPER_LOSSES) == 39


def test_class_dependent_noise_is_that_of_the_data_set():
    vowel = transition_matrix("vowel", "class_dependent", 0.3, 11)
    for old, new in VOWEL_SWAPS.items():
        assert vowel[old, new] == pytest.approx(0.3)
    assert vowel[10, 10] == 1
    assert transition_matrix("satimage", "class_dependent", 0.3, 6)[5, 0] == pytest.approx(0.3)
    assert transition_matrix("letter", "clean", 0.0, 26).trace() == 26


def test_a_table_whose_classes_stand_by_themselves_is_mixed_before_its_folds(tmp_path):
    labels = np.repeat(np.arange(6), 30)
    x = np.random.default_rng(0).normal(size=(180, 36)) + labels[:, None]
    arrays = {"x_train": x, "y_train": labels, "x_test": x, "y_test": labels}
    np.savez(tmp_path / "satimage.npz", **arrays)
    splits = TABLE_SETS["satimage"](tmp_path)
    development, test = splits.train, splits.test
    for training, validation in data.k_fold(development, 5):
        assert len(np.unique(training["label"])) == len(np.unique(validation["label"])) == 6
    # A row stays with its label and its number.
    np.testing.assert_array_equal(development["label"], labels[development["index"]])
    np.testing.assert_array_equal(development["x"], test["x"][development["index"]])


def test_a_rare_class_is_in_every_contiguous_fold(tmp_path):
    labels = np.repeat(np.arange(7), [100, 6, 5, 6, 6, 6, 6])
    x = np.arange(135 * 9.0).reshape(135, 9)
    arrays = {"x_train": x, "y_train": labels, "x_test": x[:7], "y_test": np.arange(7)}
    np.savez(tmp_path / "shuttle.npz", **arrays)
    for training, validation in data.k_fold(TABLE_SETS["shuttle"](tmp_path).train, 5):
        assert len(np.unique(training["label"])) == len(np.unique(validation["label"])) == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": ("ldr_k",)}, "losses cannot be ldr_k; did you mean .*ldr_kl"),
        ({"losses": ("ldr_k5",), "dataset": four_classes}, "loss ldr_k5: top_k must be .* 4"),
        ({"losses": ()}, "losses must hold at least one of"),
        ({"noises": ("pairs",)}, "noises cannot be pairs; there is clean"),
        ({"learning_rates": ()}, "learning_rates must hold at least one number"),
        ({"seeds": 0}, "seeds must be from 1"),
        pytest.param(
            {"memory": 1e-9}, "memory must hold a data set per device", marks=pytest.mark.slow
        ),
    ],
)
def test_bad_input_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        next(ldr_benchmark(**TINY | changes))


@pytest.mark.slow
def test_an_interrupted_benchmark_ends_as_a_whole_one():
    outputs, states = [], []
    for output in ldr_benchmark(**TINY):
        outputs.append(output)
        if isinstance(output, Checkpoint):
            states.append(copy.deepcopy(output.state))
    final = {each.name: each.value for each in outputs if isinstance(each, Artifact)}
    lines = final["runs.csv"].decode().splitlines()
    assert len(lines) == 1 + 2 * (1 + 3)
    assert set(MEASURED) <= set(lines[0].split(","))
    resumed = list(ldr_benchmark(**TINY, resume=Resume((), lambda state: states[0])))
    again = {each.name: each.value for each in resumed if isinstance(each, Artifact)}
    assert again["runs.csv"] == final["runs.csv"]
    assert len(resumed) < len(outputs)
