"""Projectors against stored labels: what is written, counted and resumed, in a tiny run."""

import io

import numpy as np
import pytest

from experiments.distillation.hello_digits import hello_digits
from lnl_jax.comparison.label_plan import ROWS, Projector, Students
from lnl_jax.distill import labels, ledger
from tests.experiments.replays import first_stages, play

TINY = {
    "foundation_steps": 3,
    "teacher_steps": 9,
    "projector": Projector(steps=2),
    "students": Students(count=1, epochs=4),
    "per_class": (1, 2),
    "rows": tuple(ROWS),
}


@pytest.fixture(scope="module")
def whole():
    return play(hello_digits(**TINY))


@pytest.mark.slow
def test_the_ledger_counts_the_files(whole):
    outputs = whole.artifacts
    sizes = {name: len(value) for name, value in outputs.items() if isinstance(value, bytes)}
    for count in TINY["per_class"]:
        lines = {row["what"]: row for row in outputs["storage"] if row["per class"] == count}
        images, adapter = lines["images and classes, file"], lines["adapter, file"]
        assert images["bytes"] == sizes[f"images_{count}.npz"]
        assert adapter["bytes"] == sizes["adapter.npy"]
        total = lines["total of what counts"]["bytes"]
        assert total == sizes[f"images_{count}.npz"] + sizes["adapter.npy"]
        assert lines["public tower"]["counted"] == "no"
        for form in labels.FORMS:
            line = lines[f"instead: teacher {form} labels, file"]
            assert line["bytes"] == sizes[f"labels_{count}_{form}.npz"]
            assert line["counted"] == "no"
    with np.load(io.BytesIO(outputs["labels_2_float16.npz"]), allow_pickle=False) as file:
        assert file["logits"].nbytes == ledger.label_bytes(20, TINY["students"].epochs, 10)
    vector = np.load(io.BytesIO(outputs["adapter.npy"]), allow_pickle=False)
    listed = {row["projector"]: row for row in outputs["projectors"]}
    assert listed["LoRA, text, low-rank head"]["parameters"] == vector.size
    assert listed["LoRA, text, low-rank head"]["bytes as float16"] == vector.nbytes


@pytest.mark.slow
def test_every_row_is_run_at_every_size(whole):
    rows, outputs = whole.rows, whole.artifacts
    found = [(row["row"], row["per class"]) for row in outputs["results"]]
    assert sorted(found) == sorted((row, count) for row in ROWS for count in TINY["per_class"])
    assert all(0 <= row["label-robust score"] <= 1 for row in outputs["robust_scores"])
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))


@pytest.mark.slow
@pytest.mark.parametrize("stages", [1, 3, 9])
def test_an_interrupted_run_ends_alike(whole, stages):
    again = play(hello_digits(**TINY), first_stages(whole, stages))
    assert again.computed == list(whole.kept)[stages:]
    assert again.rows == whole.rows
    for name in ("results", "storage", "projectors", "robust_scores", "adapter.npy"):
        assert again.artifacts[name] == whole.artifacts[name]
    files = {name for name in whole.artifacts if name.startswith("images_")}
    assert all(again.artifacts[name] == whole.artifacts[name] for name in files)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": ("hardest",)}, "rows cannot be hardest; did you mean hard"),
        ({"rows": ("hard", "hard")}, "rows must not name anything twice"),
        ({"per_class": (0,)}, "per_class must be from 1 to"),
        ({"per_class": (1, 107)}, "per_class must be from 1 to the 106 images"),
        ({"per_class": ()}, "per_class must hold at least one number"),
        ({"students": Students(learning_rates=(0.0,))}, "students.learning_rates must be above"),
        ({"students": Students(epochs=3)}, "students.epochs must be at least 4, .* got 3"),
        ({"teacher_steps": 8}, "teacher_steps must be from 9"),
        ({"students": Students(count=0)}, "students.count must be from 1"),
        ({"projector": Projector(rank=0)}, "projector.rank must be from 1"),
        ({"students": Students(temperature=0.0)}, "students.temperature must be above 0"),
        ({"students": Students(ce_weight=-1.0)}, "students.ce_weight must be at least 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        next(hello_digits(**arguments))
