"""Labels read from the depths of a tower: with noise, without, and bad input in a line."""

import functools

import numpy as np
import pytest

from experiments.label_quality.label_leakage import FRESH, NONE, SAME, label_leakage
from lnl_jax import data
from lnl_jax.comparison.own_sets import OWN_SETS
from lnl_jax.runner import Artifact, StudyError

CUT = 4


@pytest.fixture(scope="module")
def found():
    outputs = label_leakage(
        cuts=(CUT,), scales=(0.5, 500.0), columns=200, width=64, train_size=600, judged=40, seeds=2
    )
    return {output.name: output.value for output in outputs if isinstance(output, Artifact)}


def accuracy(found, noise, scale, fitted):
    for row in found["read"]:
        if row["depth"] == f"block {CUT}" and (row["noise"], row["scale"]) == (noise, scale):
            if row["fitted to"] == fitted or noise == NONE:
                return row["probe %"]
    raise KeyError(noise, scale, fitted)


@pytest.mark.slow
def test_a_listener_is_held_off_by_fresh_noise_alone(found):
    plain = accuracy(found, NONE, 0, None)
    assert plain > 80
    # One shift for all is no noise to who has seen what is sent, and is to others.
    assert abs(accuracy(found, SAME, 500, "what is sent") - plain) < 2
    assert accuracy(found, SAME, 500, "maps without noise") < 40
    assert accuracy(found, FRESH, 500, "what is sent") < 40
    # Means over cells average what is small away.
    assert accuracy(found, FRESH, 0.5, "what is sent") > plain - 15


@pytest.mark.slow
def test_the_receiver_gets_what_was_sent_but_for_rounding(found):
    rows = {(row["scale"], row["noise"]): row for row in found["received"]}
    assert rows[0.5, "off, float32"]["same class %"] == 100
    errors = [rows[500, name]["largest error of a score"] for name in ("off, float32", "left")]
    assert errors[0] < errors[1]
    assert rows[500, "left"]["accuracy %"] < rows[500, "left"]["accuracy without noise %"]


def grey(data_dir):
    part = {"image": np.zeros((20, 8, 8, 1), np.uint8), "label": np.arange(20) % 2}
    part["index"] = np.arange(20)
    return data.Splits(part, part, 2)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"pixels": 31}, "pixels must be at least 32"),
        ({"cuts": (3, 16)}, "cuts must be from 0 to 15, the blocks, got 16"),
        ({"cuts": (3, 3)}, "cuts must not name anything twice"),
        ({"dataset": grey}, "must be of colour images, three channels"),
        ({"tower": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"dataset": functools.partial(OWN_SETS["npz"])}, "give --data_dir DIR"),
        ({"train_size": 5}, "train_size"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_line(given, line):
    with pytest.raises(StudyError, match=line) as error:
        next(label_leakage(**given))
    assert "\n" not in str(error.value)
