"""Linear heads by contrast: any features, bad input in a line, and what comes out."""

import functools

import numpy as np
import pytest

from experiments.contrastive.isogclr_features import Steps, isogclr_features
from lnl_jax.comparison.own_sets import OWN_SETS
from lnl_jax.comparison.temperatures import correlations
from lnl_jax.runner import Artifact, StudyError

CLASSES = 8
QUICK = {"seeds": 2, "epochs": 30, "batch_size": 32, "width": 0, "embedding": 16}
QUICK |= {"temperatures": (0.1, 0.3), "rhos": (0.3, 2.0)}


def arrays():
    rng = np.random.default_rng(0)
    labels = np.arange(560) % CLASSES
    means = rng.normal(size=(CLASSES, 12))
    x = np.float32(means[labels] + 0.7 * rng.normal(size=(560, 12)))
    parts = {"x_train": x[:400], "y_train": labels[:400], "x_test": x[400:], "y_test": labels[400:]}
    texts = {"class_text": rng.normal(size=(CLASSES, 6)), "group_text": rng.normal(size=(2, 6))}
    return parts | texts | {"class_groups": np.arange(CLASSES) // 4}


def run(folder, arrays, **changes):
    np.savez(folder / "own.npz", **arrays)
    own = functools.partial(OWN_SETS["npz"], name="own")
    outputs = isogclr_features(dataset=own, data_dir=str(folder), **(QUICK | changes))
    return {output.name: output.value for output in outputs if isinstance(output, Artifact)}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return run(tmp_path_factory.mktemp("texts"), arrays(), imbalance=0.1)


@pytest.mark.slow
def test_every_setting_has_a_row_and_all_find_far_more_than_by_chance(found):
    methods = [(row["method"], row["setting"]) for row in found["results"]]
    fixed = ["temperature 0.1", "temperature 0.3"]
    expected = [(name, one) for name in ("clip", "sogclr") for one in fixed]
    expected += [("isogclr", "rho 0.3"), ("isogclr", "rho 2")]
    assert methods[:6] == expected
    assert all(row["all %"] > 3 * 100 / CLASSES for row in found["results"])
    assert all(row["many %"] > row["few %"] for row in found["results"][:6])
    ways = dict.fromkeys(row["way"] for row in found["retrieval"])
    assert [*ways] == ["image to class", "class to image", "image to group", "group to image"]


@pytest.mark.slow
def test_temperatures_fall_with_rho_and_are_told_of_the_images_of_all_seeds(found):
    small, large = (row for row in found["results"] if row["method"] == "isogclr")
    assert small["temperature"] > large["temperature"]
    temperatures, labels = found["history"]["temperatures"], found["history"]["labels"]
    assert temperatures.shape == (2, 2, labels.shape[1])
    means = temperatures.mean((0, 2))
    np.testing.assert_allclose(means, [small["temperature"], large["temperature"]], rtol=1e-5)
    ranks = correlations(temperatures[:, 0], labels, CLASSES)
    assert small["spearman"] == pytest.approx(ranks.mean())
    assert small["least spearman"] == pytest.approx(ranks.min())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"rhos": (4.0,)}, "rhos must be below 3.43, the log of a batch's negatives, got 4"),
        ({"learnt": Steps(start=2.0)}, "learnt.start must be from 0.01 to 1.0"),
        ({"learnt": Steps(range=(0.1, 0.05))}, "learnt.range must be two rising numbers"),
        ({"batch_size": 5000, "imbalance": None}, "batch_size must be at most the 400 training"),
        ({"temperatures": (0.1, 0.1)}, "temperatures must not name anything twice"),
        ({"sentences": "nowhere"}, "no model.safetensors in nowhere"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_line(changes, line, tmp_path):
    given = {name: one for name, one in arrays().items() if not name.endswith("text")}
    given["class_names"] = np.array([f"kind_{number}" for number in range(CLASSES)])
    with pytest.raises(StudyError, match=line) as error:
        run(tmp_path, given, **changes)
    assert "\n" not in str(error.value)
