import numpy as np
import pytest
from scipy import stats

from experiments.robust_losses._shared import several_noises
from experiments.robust_losses.ldr_digits import ldr_digits
from experiments.robust_losses.loss_leaderboard import loss_leaderboard
from lnl_jax.comparison.catalogue import LOSSES
from lnl_jax.comparison.methods import METRICS, best_setting
from lnl_jax.runner.outputs import Artifact, Checkpoint, Resume

ONLY = ("forward_correction", "truncated_generalized_cross_entropy")
TINY = {"epochs": 2, "seeds": 2, "learning_rates": (0.1,), "batch_size": 128}
# In the order of LOSSES.
METHODS = ["cross_entropy", *ONLY]
NOISES = [*several_noises(10)]


def call(**arguments):
    """The rows, and the artifacts by name."""
    outputs = list(loss_leaderboard(**arguments))
    rows = [output for output in outputs if isinstance(output, dict)]
    return rows, {output.name: output.value for output in outputs if isinstance(output, Artifact)}


@pytest.fixture(scope="module")
def tiny():
    return call(**TINY, only=ONLY)


def accuracies(artifacts, name):
    """Of every noise at its best setting, ``[noises, seeds]``."""
    values = artifacts["history"][name]
    accuracy = values[METRICS.index("accuracy")]
    return np.stack([accuracy[i, :, best_setting(values[:, i])] for i in range(len(NOISES))])


@pytest.mark.slow
def test_every_method_has_a_row_per_epoch_with_the_accuracy_at_each_noise(tiny):
    rows, artifacts = tiny
    assert [(row["method"], row["epoch"]) for row in rows] == [
        (method, epoch) for method in METHODS for epoch in (1, 2)
    ]
    for row in rows[1::2]:
        means = accuracies(artifacts, row["method"]).mean(1)
        np.testing.assert_allclose([row[name] for name in NOISES], means, rtol=1e-6)
        np.testing.assert_allclose(row["accuracy"], means.mean(), rtol=1e-6)


@pytest.mark.slow
def test_the_board_is_in_the_order_of_the_mean_rank(tiny):
    _, artifacts = tiny
    means = np.array([accuracies(artifacts, name).mean(1) for name in METHODS])
    ranks = dict(zip(METHODS, stats.rankdata(-means, axis=0).mean(1), strict=True))
    board = artifacts["leaderboard"]
    assert [row["mean rank"] for row in board] == sorted(ranks.values())
    assert all(row["mean rank"] == ranks[row["loss"]] for row in board)
    lines = artifacts["leaderboard.md"].decode().splitlines()
    assert len(lines) == 2 + len(METHODS)
    assert all(line.count("|") == lines[0].count("|") for line in lines)


@pytest.mark.slow
def test_cross_entropy_is_that_of_ldr_digits(tiny):
    outputs = list(ldr_digits(**TINY, loss=LOSSES["cross_entropy"], noise_rate=0.6))
    history = next(o.value for o in outputs if isinstance(o, Artifact) and o.name == "history")
    position = list(NOISES).index("uniform 60%")
    found = tiny[1]["history"]["cross_entropy"][:, position]
    np.testing.assert_allclose(found, history["cross_entropy"][:, -1], rtol=1e-5)


@pytest.mark.slow
def test_without_noise_the_correction_is_cross_entropy_and_with_noise_it_is_not(tiny):
    history = tiny[1]["history"]
    difference = abs(history["forward_correction"] - history["cross_entropy"])
    assert difference[METRICS.index("loss"), 0].max() < 1e-4
    assert difference[METRICS.index("loss"), 1:].min() > 1e-3


@pytest.mark.slow
def test_truncation_starts_in_the_second_half_of_the_training(tiny):
    """In the first half it is the plain loss; from then on unlikely labels have no gradient."""
    plain, _ = call(**TINY, only=("generalized_cross_entropy",))
    rows = [row for row in tiny[0] if row["method"] == "truncated_generalized_cross_entropy"]
    rows_of_plain = [row for row in plain if row["method"] == "generalized_cross_entropy"]
    assert rows[0]["accuracy"] == pytest.approx(rows_of_plain[0]["accuracy"], abs=1e-6)
    assert rows[1]["accuracy"] != rows_of_plain[1]["accuracy"]


@pytest.mark.slow
def test_a_resumed_run_goes_on_at_the_next_method(tiny):
    rows, state = [], None
    for output in loss_leaderboard(**TINY, only=ONLY):
        if isinstance(output, Checkpoint):
            state = [np.array(values) for values in output.state]
            break
        rows.append(output)
    later, artifacts = call(**TINY, only=ONLY, resume=Resume(rows, lambda fresh: state))
    assert rows + later == tiny[0]
    assert artifacts["leaderboard"] == tiny[1]["leaderboard"]


def test_unknown_losses_are_refused():
    with pytest.raises(ValueError, match="only cannot be ldr; did you mean .*ldr_kl"):
        next(loss_leaderboard(only=("ldr",)))


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_every_loss_trains():
    _, artifacts = call(epochs=10, seeds=2, learning_rates=(0.1,))
    assert set(artifacts["history"]) == set(LOSSES)
    clean = {row["loss"]: float(row["clean"].split()[0]) for row in artifacts["leaderboard"]}
    # The slowest, by some way, is plain normalised cross-entropy. Chance is 10.
    assert min(clean.values()) > 20
