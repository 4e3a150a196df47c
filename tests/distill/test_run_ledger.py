"""The ledger of ImageNet-1K, and the scores of a table of students."""

import numpy as np
import pytest

from lnl_jax.distill import ledger
from lnl_jax.distill.projectors import Foundation


@pytest.mark.slow
def test_the_ledger_of_imagenet_has_the_published_sizes():
    lines = {(line["per class"], line["what"]): line for line in ledger.imagenet_ledger()}
    assert lines[1, "instead: stored logits"]["size"] == "572.2 MiB"
    assert lines[200, "instead: stored logits"]["size"] == "111.8 GiB"
    # LPLD prints 28.33 GiB and 0.71 GB.
    stored = "instead: stored logits and geometry (SRe2L, LPLD)"
    assert lines[50, stored]["bytes"] == pytest.approx(28.33 * 2**30, rel=2e-3)
    assert lines[50, "instead: one in 40 of them (LPLD)"]["bytes"] == pytest.approx(
        0.71 * 2**30, rel=5e-3
    )
    assert lines[1, "adapter, RN50"]["bytes"] == 2 * (847_360 + 2)
    assert lines[1, "instead: the teacher"]["size"] == "22.3 MiB"
    claimed = {line["per class"]: line for line in ledger.imagenet_claims()}
    assert claimed[50]["millions of parameters / MiB of labels, %"] == pytest.approx(
        0.0028, abs=5e-5
    )


def test_scores_are_those_whose_rows_were_run():
    found = {("a", 1): 0.5, ("b", 1): 0.6, ("c", 1): 0.4, ("b", 2): 0.3, ("c", 2): 0.3}
    found |= {("d", 2): 0.2, ("e", 2): 0.1, ("f", 3): 0.1}
    lines = ledger.robust_score_table(
        found, teacher=0.9, rows=("a", "b", "c"), plain_rows=("d", "e"), per_class=(1, 2, 3)
    )
    assert [sorted(line) for line in lines] == [
        ["label-robust score", "per class"],
        ["augmentation-robust score", "per class"],
    ]
    assert lines[1]["augmentation-robust score"] == pytest.approx(
        ledger.augmentation_robust_score(
            synthetic_augmented=0.3, random_augmented=0.3, synthetic_plain=0.2, random_plain=0.1
        )
    )


def test_the_report_counts_the_files_of_each_size_and_compares_their_students():
    rows = {"hard": (None, 40.0), "soft": (70, 60.0), "control": (None, 50.0)}
    results = [
        {"row": row, "per class": count, "test %": percent + count, "std": 1.0}
        | {"labels' file, bytes": size and size * count}
        for count in (1, 2)
        for row, (size, percent) in rows.items()
    ]
    tower = {"kernel": np.zeros((3, 2), np.float32)}
    report = ledger.students_report(
        results,
        num_classes=4,
        epochs=5,
        image_files={1: b"x" * 10, 2: b"x" * 20},
        adapter_file=b"y" * 7,
        foundation=Foundation(tower, np.zeros((2, 4), np.float32), 1.0, None, "kernel"),
        teacher=tower,
        teacher_percent=90.0,
        scored=("hard", "soft", "control"),
        label_names={"soft": "teacher float16"},
    )
    assert report["adapter.npy"] == b"y" * 7
    for count in (1, 2):
        lines = {line["what"]: line for line in report["storage"] if line["per class"] == count}
        assert lines["images and classes, file"]["bytes"] == 10 * count
        assert lines["instead: teacher float16 labels, file"]["bytes"] == 70 * count
        assert lines["public tower"]["bytes"] == 24
        assert lines["total of what counts"]["bytes"] == 10 * count + 7
    found = [line["label-robust score"] for line in report["robust_scores"]]
    expected = [
        ledger.label_robust_score(
            real_hard=0.9,
            synthetic_hard=0.4 + count / 100,
            synthetic_any=0.6 + count / 100,
            random_any=0.5 + count / 100,
        )
        for count in (1, 2)
    ]
    assert found == pytest.approx(expected)
