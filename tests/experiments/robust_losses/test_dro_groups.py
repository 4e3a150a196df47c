import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.robust_losses._shared import BACKGROUNDS, colored_digits
from experiments.robust_losses.dro_groups import METRICS, NUM_GROUPS, _best, dro_groups
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume

TINY = {"epochs": 2, "seeds": 2, "learning_rates": (0.1,), "fractions": (0.1, 0.5)}
TINY |= {"radii": (1.0,), "temperatures": (1.0,), "step_sizes": (0.1,)}
METHODS = ["erm", "cvar", "chi2", "kl", "group_dro"]


def call(**arguments):
    """The rows, and the artifacts by name."""
    outputs = list(dro_groups(**arguments))
    rows = [output for output in outputs if isinstance(output, dict)]
    return rows, {output.name: output.value for output in outputs if isinstance(output, Artifact)}


def metric(values, name):
    return values[METRICS.index(name)].astype(np.float64)


@pytest.fixture(scope="module")
def tiny():
    with jax.numpy_rank_promotion("raise"):
        return call(**TINY)


@pytest.mark.parametrize("aligned", [0.5, 0.95])
def test_the_colour_agrees_with_the_class_as_often_as_asked_in_training_alone(aligned):
    shares = {"train": aligned, "validation": 0.5, "test": 0.5}
    for name, part in colored_digits(aligned, 0).items():
        color = part["group"] - 2 * part["label"]
        assert set(color) == {0, 1}
        agree = (color == part["label"]).mean()
        # Five standard deviations of that many draws.
        spread = (shares[name] * (1 - shares[name]) / len(color)) ** 0.5
        assert abs(agree - shares[name]) < 5 * spread
        # The corner of an image is background nearly everywhere.
        corner = part["x"].reshape(-1, 8, 8, 3)[:, 0, 0]
        nearest = ((corner[:, None] - BACKGROUNDS) ** 2).sum(-1).argmin(-1)
        np.testing.assert_array_equal(nearest, color)


@pytest.mark.slow
def test_every_epoch_has_a_finite_row_per_method(tiny):
    rows, _ = tiny
    assert [(row["epoch"], row["method"]) for row in rows] == [
        (epoch, method) for epoch in (1, 2) for method in METHODS
    ]
    for row in rows:
        assert np.isfinite([row[name] for name in METRICS]).all()
        assert row["worst"] <= min(row["aligned"], row["conflicting"]) + 1e-6
        np.testing.assert_allclose(
            row["accuracy"], (row["aligned"] + row["conflicting"]) / 2, atol=1e-6
        )


@pytest.mark.slow
def test_weights_that_may_not_leave_the_uniform_ones_train_as_erm_does():
    _, artifacts = call(**TINY | {"fractions": (1.0,), "radii": (0.0,), "temperatures": (1e8,)})
    expected = artifacts["history"]["erm"]
    for name in ("cvar", "chi2", "kl"):
        np.testing.assert_allclose(artifacts["history"][name], expected, atol=5e-3)


@pytest.mark.slow
def test_robust_weights_change_the_training(tiny):
    history = tiny[1]["history"]
    for name in METHODS[1:]:
        assert abs(metric(history[name], "loss") - metric(history["erm"], "loss")).max() > 0.05


def test_settings_are_chosen_by_the_worst_group_of_the_validation_part():
    values = np.zeros((len(METRICS), 2, 3), np.float32)
    values[METRICS.index("validation_worst")] = [[0.5, 0.9, 0.8], [0.5, 0.5, 0.8]]
    values[METRICS.index("worst"), :, 0] = 1
    assert _best(values) == 2


@pytest.mark.slow
def test_the_table_holds_a_line_per_method_with_its_gain_paired_over_seeds(tiny):
    _, artifacts = tiny
    assert [line["method"] for line in artifacts["results"]] == METHODS
    worst = {}
    for line in artifacts["results"]:
        last = artifacts["history"][line["method"]][:, -1]
        worst[line["method"]] = 100 * metric(last, "worst")[:, _best(last)]
        np.testing.assert_allclose(line["worst group %"], worst[line["method"]].mean(), rtol=1e-5)
        if line["method"] != "erm":
            gain = (worst[line["method"]] - worst["erm"]).mean()
            np.testing.assert_allclose(line["gain"], gain, rtol=1e-5, atol=1e-9)


@pytest.mark.slow
def test_figures_show_every_method_and_every_group(tiny):
    _, artifacts = tiny
    for axis in artifacts["curves"].axes:
        assert [line.get_label() for line in axis.lines] == METHODS
    assert len(artifacts["examples"].axes) == NUM_GROUPS


@pytest.mark.slow
def test_a_resumed_run_ends_as_an_uninterrupted_one(tiny):
    rows, state = [], None
    for output in dro_groups(**TINY):
        if isinstance(output, Checkpoint):
            state = jax.tree.map(
                lambda leaf: (
                    jnp.copy(leaf)
                    if isinstance(leaf, jax.Array)
                    and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
                    else np.array(leaf)
                ),
                output.state,
            )
            break
        rows += [output] if isinstance(output, dict) else []
    later, artifacts = call(**TINY, resume=Resume(rows, lambda fresh: state))
    assert rows + later == tiny[0]
    assert artifacts["results"] == tiny[1]["results"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"aligned": 0.2}, "aligned must be at least 0.5 and below 1, got 0.2"),
        ({"aligned": 1.0}, "aligned must be at least 0.5 and below 1"),
        ({"seeds": 1}, "seeds must be from 2 to"),
        ({"fractions": (0.0,)}, "fractions must be .*got 0"),
        ({"fractions": ()}, "fractions must hold at least one number"),
        ({"radii": (-1.0,)}, "radii must be .*got -1"),
        ({"temperatures": (0.0,)}, "temperatures must be .*got 0"),
        ({"step_sizes": (-1.0,)}, "step_sizes must be .*got -1"),
        ({"learning_rates": (0.0,)}, "learning_rates must be above 0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_raises_with_its_name_before_any_row(arguments, text):
    with pytest.raises(ValueError, match=text):
        next(dro_groups(**arguments))


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_robust_weights_help_the_worst_group():
    _, artifacts = call()
    ratios = {line["method"]: line["gain / its s.e."] for line in artifacts["results"]}
    assert ratios["group_dro"] > 2
    assert max(ratios["cvar"], ratios["chi2"], ratios["kl"]) > 1
