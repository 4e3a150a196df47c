import numpy as np
import pytest

from experiments.robust_losses.ldr_letter import NOISES, ldr_letter
from lnl_jax import data, noise
from lnl_jax.comparison.catalogue import LOSSES
from lnl_jax.comparison.methods import METRICS
from lnl_jax.comparison.noisy_folds import noisy_folds
from lnl_jax.comparison.table_sets import OFFICIAL_TEST_ROWS, official_split
from lnl_jax.runner.outputs import Artifact

SIZE, FOLDS, NUM_CLASSES = 400, 2, 26
TINY = {"epochs": 2, "folds": FOLDS, "learning_rates": (0.1,), "qs": (0.05, 0.7)}
TINY |= {"batch_size": 50}


def made_up(size=SIZE):
    """Letters that follow from their numbers."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 16, (size, 16)).astype(np.uint8)
    labels = (np.int64(x[:, 0]) + x[:, 1]) % NUM_CLASSES
    labels[:NUM_CLASSES] = labels[-NUM_CLASSES:] = np.arange(NUM_CLASSES)
    return x, labels.astype(np.uint8)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A folder with a small letter.npz: three quarters train, official test rows of both parts."""
    folder = tmp_path_factory.mktemp("data")
    x, labels = made_up()
    cut = SIZE * 3 // 4
    arrays = {
        "x_train": x[:cut],
        "y_train": labels[:cut],
        "x_test": x[cut:],
        "y_test": labels[cut:],
    }
    np.savez(folder / "letter.npz", **arrays, **{OFFICIAL_TEST_ROWS: np.arange(5, SIZE, 10)})
    return folder


@pytest.fixture(scope="module")
def outputs(data_dir):
    found = list(ldr_letter(**TINY, loss=LOSSES["generalized_cross_entropy"], data_dir=data_dir))
    rows = [output for output in found if isinstance(output, dict)]
    return rows, {each.name: each.value for each in found if isinstance(each, Artifact)}


def test_the_official_test_rows_are_taken_where_the_file_has_them(data_dir):
    splits = official_split(data.letter(data_dir))
    development, test = splits.train, splits.test
    assert test["index"].tolist() == list(range(5, SIZE, 10))
    rows = np.concatenate([development["index"], test["index"]])
    assert sorted(rows) == list(range(SIZE))
    np.testing.assert_array_equal(test["label"], made_up()[1][5::10])


def test_elsewhere_two_thousand_rows_are_drawn_once_and_for_all():
    rng = np.random.default_rng(0)
    part = {"x": rng.normal(size=(2_500, 3)), "label": np.arange(2_500)}
    splits = data.Splits(part, part, NUM_CLASSES)
    parts = official_split(splits)
    development, test = parts.train, parts.test
    assert len(test["index"]) == 2_000
    assert not set(test["index"]) & set(development["index"])
    np.testing.assert_array_equal(official_split(splits).test["index"], test["index"])


def test_every_fold_validates_once_on_the_same_noisy_labels():
    rows = {"index": np.arange(130), "label": np.arange(130) % NUM_CLASSES}
    matrix = noise.symmetric(NUM_CLASSES, 0.6, include_self=True)
    folds = list(noisy_folds(rows, {"label": "the same"}, matrix, 5, seed=1))
    held = np.concatenate([fold["validation"]["index"] for fold in folds])
    assert held.tolist() == list(range(130))
    labels = {}
    for fold in folds:
        assert fold["test"] == {"label": "the same"}
        for part in ("train", "validation"):
            np.testing.assert_array_equal(fold[part]["clean_label"], fold[part]["index"] % 26)
            for row, label in zip(fold[part]["index"], fold[part]["label"], strict=True):
                assert labels.setdefault(row, label) == label
    changed = np.mean([label != row % 26 for row, label in labels.items()])
    assert 0.4 < changed < 0.75


def test_a_table_sorted_by_class_is_refused_though_noise_hides_it():
    rows = {"index": np.arange(104), "label": np.repeat(np.arange(NUM_CLASSES), 4)}
    matrix = noise.symmetric(NUM_CLASSES, 0.9, include_self=True)
    with pytest.raises(ValueError, match="clean_label: class 7 and 18 other classes of 26 has no"):
        list(noisy_folds(rows, {}, matrix, 4, seed=1))


@pytest.mark.slow
def test_results_have_a_line_per_method_with_detection(outputs):
    rows, artifacts = outputs
    assert [row["method"] for row in rows] == ["cross_entropy", "generalized_cross_entropy"] * 2
    for row in rows:
        assert np.isfinite([row[name] for name in METRICS]).all()
    assert artifacts["history"]["generalized_cross_entropy"].shape == (len(METRICS), 2, FOLDS, 2)
    for line in artifacts["results"]:
        assert 0 < line["AUROC %"] < 100
        assert line["std"] >= 0
    assert "curves" in artifacts
    # No loss here adapts a temperature.
    assert not {"temperatures", "temperature_histogram"} & set(artifacts)


@pytest.mark.slow
def test_clean_labels_leave_nothing_to_detect(data_dir):
    found = list(
        ldr_letter(**TINY, loss=LOSSES["cross_entropy"], noise_rate=0.0, data_dir=data_dir)
    )
    artifacts = {each.name: each.value for each in found if isinstance(each, Artifact)}
    for line in artifacts["results"]:
        assert not {"AUROC %", "memorized %"} & set(line)


def test_class_dependent_noise_swaps_the_pairs_of_the_paper():
    matrix = NOISES["class_dependent"](NUM_CLASSES, 0.3, "letter")
    pairs = {"BD", "CG", "EF", "HN", "IL", "KX", "MW", "OQ", "PR", "UV"}
    for first in range(NUM_CLASSES):
        for second in range(NUM_CLASSES):
            letters = "".join(sorted((chr(65 + first), chr(65 + second))))
            if first != second:
                assert matrix[first, second] == pytest.approx(0.3 if letters in pairs else 0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"seeds": 0}, "seeds must be from 1"),
        ({"folds": 1}, "folds must be from 2 to 20, got 1"),
        ({"noise_rate": 1.5}, "rate must be from 0 to 1, got 1.5"),
        ({"epochs": 0}, "epochs must be from 1"),
        ({"temperatures": ()}, "temperatures must hold"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_raises_with_its_name_before_any_row(arguments, text, data_dir):
    with pytest.raises(ValueError, match=text):
        next(ldr_letter(**TINY | arguments, data_dir=data_dir))
