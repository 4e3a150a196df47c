"""Contrastive heads, projectors and students from noisy labels alone, on frozen features."""

import numpy as np
import pytest

from experiments.distillation.hello_features import FOUNDATIONS, GIVEN, NAMES, TRUE, hello_features
from lnl_jax import data
from lnl_jax.runner import Artifact, StudyError

LOSSES = ("ldr_kl",)
KINDS = ("cross_entropy_weight_decay", *LOSSES)


@pytest.fixture(scope="module")
def found():
    outputs = hello_features(
        noise="symmetric_60",
        losses=LOSSES,
        head_epochs=10,
        projector_epochs=10,
        weight_decays=(1e-2,),
        temperatures=(10.0,),
        batch_size=64,
        per_class=20,
        student_epochs=20,
        student_width=16,
        seeds=2,
    )
    return {output.name: output.value for output in outputs if isinstance(output, Artifact)}


@pytest.mark.slow
def test_projectors_of_every_foundation_are_righter_than_the_labels_they_learned(found):
    rows = found["projectors"]
    kinds = [(row["foundation"], row["loss"]) for row in rows]
    assert kinds == [(one, name) for one in FOUNDATIONS for name in KINDS]
    assert all(row["accuracy %"] > 60 for row in rows)
    first = rows[0]
    assert first["gain"] == 0
    for row in rows:
        assert row["gain"] == pytest.approx(row["accuracy %"] - first["accuracy %"])


@pytest.mark.slow
def test_students_follow_what_their_labels_are_worth(found):
    rows = {row["labels"]: row for row in found["students"]}
    expected = [GIVEN, TRUE, NAMES]
    expected += [f"{one}, {name}" for name in KINDS for one in FOUNDATIONS if one != "clip"]
    assert [*rows] == expected
    assert rows[TRUE]["labels right %"] == 100
    assert rows[GIVEN]["labels right %"] == pytest.approx(40, abs=3)
    assert rows[TRUE]["student %"] > rows["features, ldr_kl"]["student %"] > 30
    assert rows["features, ldr_kl"]["student %"] > rows[GIVEN]["student %"]


def table(data_dir):
    part = {"x": np.zeros((4, 3), np.float32), "label": np.arange(4), "index": np.arange(4)}
    return data.Splits(part, part, 4)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"noise": "best"}, r"noises must be none, symmetric_NN, .* got best"),
        ({"losses": ("ldr",)}, "losses cannot be ldr; did you mean ldr_kl"),
        ({"batch_size": 5000}, "batch_size must be at most the 1,222 training"),
        ({"weight_decays": (0.1, 0.1)}, "weight_decays must not name anything twice"),
        ({"sentences": "nowhere"}, "no model.safetensors in nowhere"),
        ({"tower": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"dataset": table}, "must be images with labels"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_line(given, line):
    with pytest.raises(StudyError, match=line) as error:
        next(hello_features(**given))
    assert "\n" not in str(error.value)
