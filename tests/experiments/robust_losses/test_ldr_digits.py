import functools

import jax
import numpy as np
import pytest

from experiments import EXPERIMENTS, SWEEPS
from experiments.robust_losses.ldr_digits import ldr_digits
from lnl_jax.comparison.catalogue import LOSSES, unnormalized
from lnl_jax.comparison.methods import BASELINE, METRICS, best_setting
from lnl_jax.comparison.protocol import COMPARED
from lnl_jax.runner import command_line
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume
from tests.experiments.snapshots import on_the_host

TINY = {"epochs": 2, "seeds": 2, "learning_rates": (0.1, 0.01), "temperatures": (1.0, 10.0)}
TINY |= {"qs": (0.7,), "batch_size": 128}
ONE = TINY | {"loss": LOSSES["ldr_kl"]}
METHODS = [BASELINE, "ldr_kl"]
# Examples of the training part: 64% of 1,797.
SIZE = 1150


def call(**arguments):
    """The rows, and the artifacts by name."""
    outputs = list(ldr_digits(**arguments))
    rows = [output for output in outputs if isinstance(output, dict)]
    return rows, {output.name: output.value for output in outputs if isinstance(output, Artifact)}


def metric(values, name):
    return values[METRICS.index(name)].astype(np.float64)


@pytest.fixture(scope="module")
def every_method():
    with jax.numpy_rank_promotion("raise"):
        return call(**TINY)


@pytest.fixture(scope="module")
def one_method():
    with jax.numpy_rank_promotion("raise"):
        return call(**ONE)


def assert_same_history(found, expected):
    assert list(found) == list(expected)
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])


def test_every_epoch_has_a_finite_row_per_method(one_method):
    rows, _ = one_method
    assert [(row["epoch"], row["method"]) for row in rows] == [
        (epoch, method) for epoch in (1, 2) for method in METHODS
    ]
    for row in rows:
        assert set(row) == {"epoch", "method", "examples", *METRICS}
        assert np.isfinite([row[name] for name in METRICS]).all()
        assert 0 <= row["memorized"] <= 1
    # Settings per method: learning rates by temperatures or qs.
    visits = np.cumsum([2 * SIZE * settings for settings in (2, 4)] * 2)
    assert [row["examples"] for row in rows] == visits.tolist()


def test_rows_are_means_over_seeds_at_the_setting_that_is_best_on_validation(one_method):
    rows, artifacts = one_method
    for row in rows:
        values = artifacts["history"][row["method"]][:, row["epoch"] - 1]
        best = metric(values, "validation_accuracy").mean(0).argmax()
        for name in METRICS:
            np.testing.assert_allclose(row[name], metric(values, name)[:, best].mean(), rtol=1e-5)


def test_settings_are_chosen_by_validation_and_not_by_what_is_reported():
    values = np.zeros((len(METRICS), 2, 3), np.float32)
    values[METRICS.index("validation_accuracy")] = [[0.5, 0.9, 0.8], [0.5, 0.5, 0.8]]
    values[METRICS.index("accuracy"), :, 0] = 1
    assert best_setting(values) == 2


def test_the_table_holds_a_line_per_method_with_its_gain_paired_over_seeds(one_method):
    _, artifacts = one_method
    assert [line["method"] for line in artifacts["results"]] == METHODS
    accuracies = {}
    for line in artifacts["results"]:
        last = artifacts["history"][line["method"]][:, -1]
        best = metric(last, "validation_accuracy").mean(0).argmax()
        accuracy = accuracies[line["method"]] = 100 * metric(last, "accuracy")[:, best]
        expected = {"accuracy %": accuracy.mean(), "std": abs(accuracy[0] - accuracy[1]) / 2**0.5}
        if line["method"] != "cross_entropy":
            gains = accuracy - accuracies["cross_entropy"]
            spread = abs(gains[0] - gains[1]) / 2**0.5
            expected |= {"gain": gains.mean(), "std of gain": spread}
            expected |= {"gain / its s.e.": gains.mean() / (spread / 2**0.5)}
        for name, value in expected.items():
            np.testing.assert_allclose(line[name], value, rtol=1e-5)


def test_curves_show_one_method(one_method):
    figure = one_method[1]["curves"]
    for axis in figure.axes:
        assert [line.get_label() for line in axis.lines] == METHODS
        assert all(len(line.get_ydata()) == 2 for line in axis.lines)


@pytest.mark.slow
def test_all_losses_share_the_data_so_that_the_baseline_is_always_the_same(
    every_method, one_method
):
    expected = every_method[1]["history"]
    assert list(expected) == [BASELINE, *COMPARED]
    assert_same_history(
        one_method[1]["history"], {name: expected[name] for name in ("cross_entropy", "ldr_kl")}
    )


def test_every_seed_has_data_of_its_own(one_method):
    for values in one_method[1]["history"].values():
        accuracy = metric(values, "accuracy")
        assert (accuracy[:, 0] != accuracy[:, 1]).any()


@pytest.mark.slow
def test_the_same_call_gives_the_same_numbers(one_method):
    rows, artifacts = call(**ONE)
    assert rows == one_method[0]
    assert artifacts["results"] == one_method[1]["results"]
    assert_same_history(artifacts["history"], one_method[1]["history"])


def test_a_resumed_run_ends_as_an_uninterrupted_one(one_method):
    rows, state = [], None
    for output in ldr_digits(**ONE):
        if isinstance(output, Checkpoint):
            state = on_the_host(output.state)
            break
        rows += [output] if isinstance(output, dict) else []
    assert len(rows) == 2
    later, artifacts = call(**ONE, resume=Resume(rows, lambda fresh: state))
    assert rows + later == one_method[0]
    assert artifacts["results"] == one_method[1]["results"]
    assert_same_history(artifacts["history"], one_method[1]["history"])


@pytest.mark.slow
def test_a_hyperparameter_set_on_the_loss_is_not_searched():
    fixed = functools.partial(LOSSES["ldr_kl"], temperature=10.0, margin=0.5)
    _, found = call(**TINY | {"loss": fixed, "margin": 0.0})
    _, expected = call(**ONE | {"temperatures": (10.0,), "margin": 0.5})
    for name, values in expected["history"].items():
        np.testing.assert_allclose(found["history"][name], values, rtol=1e-5)
    chosen = [artifacts["results"][1]["chosen"] for artifacts in (found, expected)]
    assert chosen[1] == chosen[0] + ", temperature 10"


@pytest.mark.slow
def test_a_normalisation_applies_to_the_compared_loss_and_not_to_the_baseline(one_method):
    _, artifacts = call(**ONE | {"normalize": unnormalized})
    expected = one_method[1]["history"]
    np.testing.assert_array_equal(artifacts["history"]["cross_entropy"], expected["cross_entropy"])
    assert (artifacts["history"]["ldr_kl"] != expected["ldr_kl"]).any()


@pytest.mark.slow
def test_clean_labels_have_nothing_to_memorise_and_cross_entropy_may_stand_alone():
    rows, artifacts = call(**TINY | {"noise_rate": 0.0, "loss": LOSSES["cross_entropy"]})
    (line,) = artifacts["results"]
    assert line["gain"] is None
    assert not any("memorized" in row for row in rows)
    assert "memorized %" not in line
    assert rows[-1]["accuracy"] > 0.5


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"noise_rate": 1.5}, "noise_rate must be from 0 to 1, got 1.5"),
        ({"noise_rate": -0.1}, "noise_rate must be from 0 to 1, got -0.1"),
        ({"seeds": 1}, "seeds must be from 2 to"),
        ({"epochs": 0}, "epochs must be from 1 to .*, got 0"),
        ({"batch_size": 0}, "batch_size must be from 1 to .*, got 0"),
        ({"learning_rates": ()}, "learning_rates"),
        ({"learning_rates": (0.1, -0.1)}, "learning_rates must be above 0"),
        ({"temperatures": (1.0, 0.0)}, "temperatures must be .*got 0"),
        ({"temperatures": ()}, "temperatures"),
        ({"qs": (2.0,)}, "qs must be .*got 2"),
        ({"qs": ()}, "qs"),
        ({"margin": -0.1}, "margin must be .*got -0.1"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"loss": functools.partial(LOSSES["aldr_kl"], alpha=0.5)}, "alpha must be .*got 0.5"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_raises_with_its_name_before_any_row(arguments, text):
    with pytest.raises(ValueError, match=text):
        next(ldr_digits(**arguments))


def test_a_loss_that_is_not_on_the_list_is_refused():
    with pytest.raises(ValueError, match="loss must be one of cross_entropy, "):
        next(ldr_digits(loss=unnormalized))


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_point_of_a_sweep_is_accepted_and_differs(sweep):
    name, points = SWEEPS[sweep]
    calls = [command_line.bind(EXPERIMENTS[name], point) for point in points()]
    assert len(calls) > 1
    assert len({str(call.arguments) for call in calls}) == len(calls)


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_a_distributionally_robust_loss_beats_cross_entropy_on_noisy_labels():
    _, artifacts = call()
    ratios = {line["method"]: line["gain / its s.e."] for line in artifacts["results"]}
    assert max(ratios["ldr_kl"], ratios["aldr_kl"]) > 2
