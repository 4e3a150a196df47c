"""Confident learning against cleanlab 2.9, and what it has to keep to.

`golden/confident_learning.npz` is of the problems below, with sorts that keep equal values in the
order of the rows: cleanlab's own order of them is that of NumPy's build.
"""

import functools
import pathlib

import numpy as np
import pytest

from lnl_jax import label_models

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden/confident_learning.npz")
FLAGS = {
    "prune_by_noise_rate": label_models.prune_by_noise_rate,
    "prune_by_class": label_models.prune_by_class,
    "both": label_models.prune_by_both,
    "confident_learning": label_models.confident_issues,
    "predicted_neq_given": label_models.differing_issues,
    "low_self_confidence": label_models.lowest_scores,
    "low_normalized_margin": functools.partial(
        label_models.lowest_scores, score=label_models.normalized_margin
    ),
    "half": functools.partial(label_models.prune_by_noise_rate, min_examples=70, fraction=0.5),
}
SIZES = {
    "plain": (300, 4),
    "ties": (400, 5),
    "unpredicted": (300, 4),
    "unlabelled": (300, 4),
    "binary": (200, 2),
}


def normalised(shares):
    return shares / shares.sum(-1, keepdims=True)


def problem(name):
    """Probabilities of a model that is often right, and labels of which a quarter is moved."""
    size, num_classes = SIZES[name]
    rows, columns = np.arange(size)[:, None], np.arange(num_classes)
    true = (rows[:, 0] * 7 // 3) % num_classes
    labels = np.where(rows[:, 0] % 4 == 1, (rows[:, 0] * 11 // 2) % num_classes, true)
    waves = 2 * np.sin(1.7 * rows**1.5 + 0.9 * columns**2)
    probabilities = normalised(np.exp(waves + 2 * np.eye(num_classes)[true]))
    if name == "ties":
        probabilities = normalised(np.round(probabilities, 1) + 0.01)
    if name == "unpredicted":
        probabilities[:, 1] = 0
        probabilities = normalised(probabilities)
    if name == "unlabelled":
        labels = np.where(labels == 1, 0, labels)
    return probabilities, labels


@pytest.mark.parametrize("name", SIZES)
def test_counts_and_noise_are_those_of_cleanlab(name):
    probabilities, labels = problem(name)
    joint = label_models.confident_joint(probabilities, labels)
    calibrated = label_models.calibrate_joint(joint.counts, labels)
    np.testing.assert_array_equal(joint.counts, GOLDEN[f"{name}/joint"])
    np.testing.assert_array_equal(calibrated, GOLDEN[f"{name}/calibrated"])
    np.testing.assert_allclose(joint.thresholds, GOLDEN[f"{name}/thresholds"], rtol=1e-12)
    found = {
        "prior": label_models.class_prior(calibrated, labels),
        "noise": label_models.noise_matrix(calibrated).T,
        "inverse": label_models.inverse_noise_matrix(calibrated).T,
    }
    # Where nothing was counted cleanlab has a column of 0, which is no distribution.
    found["noise"][:, calibrated.sum(0) == 0] = 0
    found["inverse"][:, calibrated.sum(1) == 0] = 0
    for key, values in found.items():
        np.testing.assert_allclose(values, GOLDEN[f"{name}/{key}"], atol=1e-12, err_msg=key)


@pytest.mark.parametrize("name", SIZES)
def test_flags_ranking_and_scores_are_those_of_cleanlab(name):
    probabilities, labels = problem(name)
    joint = label_models.confident_joint(probabilities, labels)
    for key, flag in FLAGS.items():
        found = np.flatnonzero(flag(probabilities, labels, joint=joint))
        np.testing.assert_array_equal(found, GOLDEN[f"{name}/{key}"], err_msg=key)
        np.testing.assert_array_equal(np.flatnonzero(flag(probabilities, labels)), found)
    issues = label_models.find_label_issues(probabilities, labels)
    flagged = issues.ranking[: issues.flags.sum()]
    np.testing.assert_array_equal(flagged, GOLDEN[f"{name}/ranking"])
    for key in ("normalized_margin", "confidence_weighted_entropy"):
        found = getattr(label_models, key)(probabilities, labels)[:20]
        np.testing.assert_allclose(found, GOLDEN[f"{name}/{key}"], rtol=1e-9, atol=1e-15)


def test_certain_and_right_predictions_leave_nothing_to_flag():
    labels = np.arange(12) % 3
    probabilities = np.eye(3)[labels]
    for flag in FLAGS.values():
        assert not flag(probabilities, labels).any()
    issues = label_models.find_label_issues(probabilities, labels)
    np.testing.assert_array_equal(issues.noise_matrix, np.eye(3))
    np.testing.assert_array_equal(issues.suggested, labels)


def test_classes_in_another_order_are_counted_in_that_order():
    probabilities, labels = problem("plain")
    order = np.array([2, 0, 3, 1])
    joint = label_models.confident_joint(probabilities, labels)
    moved = label_models.confident_joint(probabilities[:, order], np.argsort(order)[labels])
    np.testing.assert_array_equal(moved.counts, joint.counts[order][:, order])


def test_a_class_without_a_label_gets_no_counts_and_a_row_that_is_a_distribution():
    probabilities, labels = problem("unlabelled")
    joint = label_models.confident_joint(probabilities, labels)
    assert joint.thresholds[1] == 2
    assert not (joint.classes == 1).any()
    issues = label_models.find_label_issues(probabilities, labels)
    np.testing.assert_allclose(issues.noise_matrix.sum(-1), 1)
    np.testing.assert_array_equal(issues.noise_matrix[1], [0, 1, 0, 0])


def test_narrow_probabilities_are_read_and_the_labels_may_be_of_any_integers():
    probabilities, labels = problem("plain")
    wide = label_models.find_label_issues(probabilities, labels)
    for dtype in (np.float32, np.float16):
        found = label_models.find_label_issues(
            probabilities.astype(dtype), labels.astype(np.uint8).tolist()
        )
        assert (found.flags != wide.flags).sum() <= 4
        np.testing.assert_allclose(found.noise_matrix, wide.noise_matrix, atol=0.02)


def test_blocks_of_rows_change_nothing(monkeypatch):
    probabilities, labels = problem("ties")
    whole = label_models.find_label_issues(probabilities, labels)
    monkeypatch.setattr("lnl_jax.label_models._probabilities.BLOCK", 35)
    for field, part in zip(
        whole._fields, label_models.find_label_issues(probabilities, labels), strict=True
    ):
        np.testing.assert_array_equal(part, getattr(whole, field), err_msg=field)


def test_an_adjusted_score_is_taken_like_any_other():
    probabilities, labels = problem("plain")
    joint = label_models.confident_joint(probabilities, labels)

    def score(probabilities, labels):
        adjusted = label_models.adjusted_probabilities(probabilities, joint.thresholds)
        return label_models.self_confidence(adjusted, labels)

    issues = label_models.find_label_issues(probabilities, labels, score=score)
    flagged = issues.ranking[: issues.flags.sum()]
    np.testing.assert_array_equal(np.sort(flagged), GOLDEN["plain/prune_by_noise_rate"])
    assert (np.diff(issues.scores[flagged]) >= 0).all()
