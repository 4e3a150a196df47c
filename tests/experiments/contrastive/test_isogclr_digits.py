import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.contrastive._shared import (
    LearntTemperatures,
    contrasts,
    scent,
)
from experiments.contrastive.isogclr_digits import isogclr_digits, long_tailed_digits
from lnl_jax import contrastive, evaluation
from lnl_jax.comparison import temperatures
from lnl_jax.runner.outputs import Artifact, Checkpoint, Note, Resume
from tests.experiments.snapshots import on_the_host

SETTINGS = {"temperature": 0.1, "starts": (0.1, 0.5), "gamma": 0.8}
SETTINGS |= {"learnt": LearntTemperatures(step=0.05, momentum=0.9)}


def call(**arguments):
    """The rows, the checkpoints and the artifacts by name."""
    rows, states, artifacts = [], [], {}
    for output in isogclr_digits(**arguments):
        if isinstance(output, dict):
            rows.append(output)
        elif isinstance(output, Checkpoint):
            states.append(on_the_host(output.state))
        elif isinstance(output, Artifact):
            artifacts[output.name] = output.value
        else:
            # Before anything is trained, and nothing where nothing is left to train.
            assert isinstance(output, Note)
            assert not rows
    return rows, states, artifacts


def test_classes_shrink_geometrically_and_the_test_part_is_balanced():
    parts = long_tailed_digits(0.05, 3)
    counts = np.sort(np.bincount(parts["train"]["label"]))[::-1]
    assert counts.tolist() == [120, 86, 62, 44, 32, 23, 16, 12, 8, 6]
    assert np.bincount(parts["test"]["label"]).tolist() == [50] * 10
    digits = {row.tobytes() for row in parts["train"]["x"]}
    assert not digits & {row.tobytes() for row in parts["test"]["x"]}
    assert parts["train"]["index"].tolist() == list(range(409))
    order = [np.argsort(np.bincount(long_tailed_digits(0.05, s)["train"]["label"])) for s in (0, 1)]
    assert order[0].tolist() != order[1].tolist()


@pytest.mark.slow
def test_only_isogclr_changes_temperatures_and_only_simclr_has_no_average(rng):
    views = evaluation.unit_rows(jnp.asarray(rng.normal(size=(2, 6, 3)), jnp.float32))
    rows = contrastive.isogclr_table(6, 0.1).values
    where = jnp.ones((1, 12), bool)
    methods = [*contrasts(**SETTINGS), scent(temperature=0.1, log_step=3.0)]
    found = {each.name: each.loss(views, views, rows, where) for each in methods}
    for name, (values, new) in found.items():
        assert values.shape == (6,)
        assert (name == "isogclr") == bool((new.temperature != 0.1).any())
        assert (name == "simclr") == bool((new.log_u == -np.inf).all())
    expected = contrastive.info_nce(views, views, temperature=0.1)
    np.testing.assert_allclose(found["simclr"][0], expected, rtol=1e-6)


def test_correlation_is_of_class_sizes_and_class_means():
    labels = np.array([[0, 0, 0, 1, 1, 3]])
    rising = np.float32([[0.5, 0.9, 0.7, 0.6, 0.4, 0.1]])
    assert temperatures.correlations(rising, labels, 4).tolist() == [1]
    assert temperatures.correlations(-rising, labels, 4).tolist() == [-1]
    assert np.isnan(temperatures.correlations(np.ones_like(rising), labels, 4)).all()


def test_independence_is_the_spread_of_means_over_the_least():
    found = temperatures.independence_table((0.1, 1.0), np.float32([[[0.4, 0.6]], [[0.5, 0.6]]]))
    assert found[0]["seed"] == 0
    np.testing.assert_allclose(found[0]["from 1"], 0.55, rtol=1e-6)
    np.testing.assert_allclose(found[0]["largest difference %"], 10, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"imbalance": 0.0}, "imbalance must be above 0"),
        ({"starts": (2.0,)}, "starts must be from 0.05 to 1.0"),
        ({"starts": ()}, "starts must hold"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"temperatures": LearntTemperatures(range=(0.5, 0.1))}, "two rising numbers"),
        ({"epochs": 0}, "epochs must be from 1"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"seeds": 1}, "seeds must be"),
        ({"log_step": float("nan")}, "log_step must be"),
    ],
)
def test_settings_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        next(isogclr_digits(**arguments))


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_a_run_goes_on_where_it_stopped_and_reports_what_it_is_about():
    tiny = {"epochs": 11, "seeds": 2, "batch_size": 128, "starts": (0.1, 0.5)}
    rows, states, artifacts = call(**tiny)
    names = ["simclr", "sogclr", "scent", "isogclr"]
    assert [row["method"] for row in rows] == names * 2
    assert [row["epoch"] for row in rows] == [10] * 4 + [11] * 4
    assert [line["method"] for line in artifacts["results"]] == [
        "simclr",
        "sogclr",
        "scent",
        "isogclr",
    ]
    # Four times chance, after eleven epochs.
    assert all(line["probe accuracy %"] > 40 for line in artifacts["results"])
    assert artifacts["history"]["temperatures"].shape == (2, 2, 409)
    assert {"temperature_by_class", "temperature_histogram", "neighbours"} <= set(artifacts)
    resume = Resume(rows[:4], lambda like: jax.tree.map(jnp.asarray, states[0]))
    rest, _, again = call(**tiny, resume=resume)
    assert rest == rows[4:]
    np.testing.assert_array_equal(
        again["history"]["temperatures"], artifacts["history"]["temperatures"]
    )
