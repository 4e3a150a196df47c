import functools

import jax
import numpy as np
import pytest

from lnl_jax import evaluation
from lnl_jax.comparison import feature_heads, feature_neighbours
from lnl_jax.comparison.leaderboard import board_markdown, leaderboard

CLASSES = 3


def blobs(size=90, test=30):
    """Features of training rows before test rows, true labels, labels of which a third is false."""
    rng = np.random.default_rng(0)
    clean = np.arange(size + test, dtype=np.int32) % CLASSES
    x = np.float32(4 * np.eye(CLASSES)[clean] + rng.normal(size=(size + test, CLASSES)))
    noisy = np.where(rng.random(size) < 1 / 3, rng.integers(0, CLASSES, size), clean[:size])
    return x, clean, noisy.astype(np.int32)


def test_principal_features_are_uncorrelated_the_largest_first_and_know_no_test_row():
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 6)) + rng.normal(size=(300, 6)) / 9
    found = feature_heads.principal_features(columns, 200, 4)
    assert (found.shape, found.dtype) == ((300, 4), np.float32)
    spread = np.cov(found[:200].T, bias=True)
    np.testing.assert_allclose(spread, np.diag(np.sort(np.diag(spread))[::-1]), atol=1e-4)
    assert np.trace(spread) == pytest.approx(4, rel=1e-4)
    # What two axes hold of columns that come from two.
    training = (columns - columns[:200].mean(0)) / columns[:200].std(0)
    left = training - found[:, :2] @ np.linalg.lstsq(found[:, :2], training, rcond=None)[0]
    assert left.var() < 0.05
    changed = columns.copy()
    changed[200:] += 7
    np.testing.assert_array_equal(
        feature_heads.principal_features(changed, 200, 4)[:200], found[:200]
    )
    assert feature_heads.principal_features(columns, 200, None).shape == (300, 6)
    assert feature_heads.principal_features(columns, 200, 99).shape == (300, 6)


def test_noises_of_a_seed_share_their_rows_and_no_row_is_in_two_parts():
    _, clean, noisy = blobs()
    sets = [
        feature_heads.head_data(labels, clean[:90], CLASSES, 0.2, seed)
        for labels, seed in ((noisy, 0), (clean[:90], 0), (noisy, 1))
    ]
    first, same, other = (one["train"]["row"].tolist() for one in sets)
    assert first == same != other
    assert sorted(first + sets[0]["validation"]["row"].tolist()) == [*range(90)]
    for part in ("train", "validation", "probe"):
        rows = sets[0][part]["row"]
        np.testing.assert_array_equal(sets[0][part]["label"], noisy[rows])
        np.testing.assert_array_equal(sets[0][part]["clean_label"], clean[rows])
    assert "clean_label" not in feature_heads.head_data(noisy, None, CLASSES, 0.2, 0)["train"]


def test_neighbours_vote_as_in_the_evaluation_of_features():
    x, clean, noisy = blobs()
    test = {"row": np.arange(90, 120), "label": clean[90:]}
    one = feature_heads.head_data(noisy, clean[:90], CLASSES, 0.2, 0)
    method, values = feature_neighbours.neighbour_values(
        x, test, [one, one], CLASSES, counts=(5, 200), temperatures=(0.1,)
    )
    assert [setting["num_neighbours"] for setting in method.settings] == [5, 200]
    np.testing.assert_array_equal(values[:, :, 0], values[:, :, 1])
    units = np.asarray(jax.jit(evaluation.unit_rows)(x))
    parts = {"accuracy": (test, 0), "validation_accuracy": (one["validation"], 1)}
    for metric, (part, place) in parts.items():
        vote = functools.partial(
            evaluation.knn_scores, num_classes=CLASSES, **method.settings[place]
        )
        given = units[part["row"]], units[one["train"]["row"]], one["train"]["label"]
        scores = jax.jit(vote)(*given)
        hits = (np.asarray(scores).argmax(1) == part["label"]).mean()
        at = feature_heads.HEAD_METRICS.index(metric)
        np.testing.assert_allclose(values[at, 0, 0, place], hits, rtol=1e-6)


@pytest.mark.slow
def test_heads_out_of_fold_find_the_false_labels():
    x, clean, noisy = blobs()
    sets = [feature_heads.head_data(noisy, clean[:90], CLASSES, 0.2, seed) for seed in (0, 1)]
    plan = feature_heads.HeadPlan(10, 16, (0.1,), (0.0,), (1.0,))
    found = feature_heads.out_of_fold(x, sets, "cross_entropy", CLASSES, 4, plan)
    for one, probabilities in zip(sets, found, strict=True):
        np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
        assert (probabilities.argmax(1) == one["train"]["clean_label"]).mean() > 0.9


def test_a_board_is_in_the_order_of_the_mean_rank():
    cells = {"a": (90.0, 70.0), "b": (80.0, 75.0), "c": (95.0, 80.0)}
    results = [
        {"noise": noise, "loss": loss, "accuracy %": values[at], "std": 1.0}
        for at, noise in enumerate(("none", "much"))
        for loss, values in cells.items()
    ]
    board = leaderboard(results, ("none", "much"))
    assert [(row["loss"], row["mean rank"]) for row in board] == [("c", 1), ("a", 2.5), ("b", 2.5)]
    assert board_markdown(board).splitlines()[2] == "| `c` | 1.0 | 95.00 ± 1.00 | 80.00 ± 1.00 |"
