import functools
import re

import jax
import numpy as np
import pytest

from lnl_jax import comparison, data, losses, models, train
from lnl_jax.comparison import make_trainer, measure, robust_loss, stack_settings, tabular
from lnl_jax.comparison.catalogue import LOSSES, LossEntry
from lnl_jax.comparison.methods import METRICS
from lnl_jax.comparison.statistics import paired_gain, standard_deviation
from lnl_jax.data.splits import stack
from lnl_jax.runner import Resume, StudyError

EPOCHS, SIZE, BATCH = 3, 37, 8
SEEDS = (3, 4)
RATES = (0.1, 0.01)


def part(rng, size):
    labels = rng.integers(0, 4, (2, size))
    x = rng.normal(size=(size, 5)).astype(np.float32)
    return {"x": x, "label": np.int32(labels[0]), "clean_label": np.int32(labels[1])} | {
        # Of a larger set, as `hold_out` leaves them.
        "index": np.arange(size, dtype=np.int32) * 3 + 100
    }


BOUNDED = functools.partial(LOSSES["generalized_cross_entropy"], q=0.5)


def trained(carry_out, loss=BOUNDED, rates=RATES, weight_decay=1e-3, **searched):
    """The last states and all that was measured."""
    rng = np.random.default_rng(0)
    test = part(rng, 11)
    model = models.MLP(num_classes=4, hidden=(6,))
    network = tabular(model)
    params = comparison.initial_variables(model, np.zeros((1, 5), np.float32), SEEDS)
    data_sets = [
        {"train": part(rng, SIZE), "validation": part(rng, 10), "test": test}
        | {"known": {"unused": np.zeros(1)}, "seed": seed}
        | {"params": jax.tree.map(lambda array, at=at: array[at], params)}
        for at, seed in enumerate(SEEDS)
    ]
    steps = -(-SIZE // BATCH) * EPOCHS
    method = robust_loss(loss, rates, network=network, total_steps=steps, **searched)
    schedule = train.staircase_schedule(steps)
    measure_run = functools.partial(measure, network)
    trainer = make_trainer(method, schedule, measure_run, weight_decay=weight_decay)
    runs = carry_out(trainer, stack_settings(method.settings), data_sets)
    plan = data.epoch_plans(SIZE, BATCH, SEEDS)
    measured = []
    epochs = train.fit_together([runs], [runs.state], plan, epochs=EPOCHS)
    for _, (found,), (state,) in epochs:
        measured.append([found[name] for name in METRICS])
        last, examples = state, found["examples"]
    return last, np.array(measured), examples


def in_lanes(trainer, settings, data_sets):
    return train.in_lanes(trainer, settings, stack(data_sets))


def test_a_weight_decay_of_the_setting_stands_for_that_of_the_trainer():
    one_rate = {"loss": LOSSES["cross_entropy"], "rates": RATES[:1]}
    _, searched, _ = trained(in_lanes, **one_rate, weight_decay=9.0, weight_decays=(0.0, 0.3))
    _, alone, _ = trained(in_lanes, **one_rate, weight_decay=0.3)
    np.testing.assert_allclose(searched[..., 1:], alone, rtol=1e-5, atol=1e-6)
    assert not np.allclose(searched[..., 0], searched[..., 1])


# Losses with state per example, of which every run has a table of its own.
WITH_ROWS = {
    "elr_step": functools.partial(LOSSES["elr_step"], momentum=0.7, weight=3.0),
    "sop_step": functools.partial(LOSSES["sop_step"], rate_u=0.1, rate_v=0.5),
    "scent_step": functools.partial(LOSSES["scent_step"], log_step=1.0),
}


@pytest.mark.parametrize("name", WITH_ROWS)
def test_every_run_keeps_the_rows_of_its_own_examples(name):
    state, *_ = trained(in_lanes, WITH_ROWS[name])
    for rows in jax.tree.leaves(state.tables.values):
        # Two data sets, two rates, and what the table of a run holds.
        runs = np.asarray(rows).reshape(4, SIZE, -1)
        assert np.isfinite(runs).all()
        assert len(np.unique(runs.sum(-1), axis=0)) == 4
        assert (runs.std(1) > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, *WITH_ROWS])
def test_runs_one_after_the_other_are_the_runs_side_by_side(name):
    chosen = () if name is None else (WITH_ROWS[name],)
    together, expected, examples = trained(in_lanes, *chosen)
    in_turn, found, as_many = trained(train.in_turn, *chosen)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert as_many == examples == SIZE * len(SEEDS) * len(RATES)
    for one, other in zip(
        jax.tree.leaves(in_turn.params), jax.tree.leaves(together.params), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    # Every run is one of its own.
    kernels = np.asarray(jax.tree.leaves(in_turn.params)[1]).reshape(4, -1)
    assert len(np.unique(kernels, axis=0)) == 4


def test_a_caller_compares_losses_of_their_own_on_arrays_of_their_own():
    rng = np.random.default_rng(0)
    x, clean = rng.normal(size=(90, 4)).astype(np.float32), np.arange(90, dtype=np.int32) % 3
    x[np.arange(90), clean] += 4
    rows = {"x": x, "label": clean, "index": np.arange(90, dtype=np.int32)}

    def shifted(logits, labels, *, shift, axis=-1):
        return losses.ldr_kl(logits - shift, labels, temperature=1.0, margin=0.0, axis=axis)

    model = models.MLP(num_classes=3, hidden=(8,))
    network = tabular(model)
    own = LossEntry(shifted, [{"shift": 0.0}, {"shift": 1.0}])
    methods = [
        robust_loss(loss, [0.1], network=network, total_steps=12)
        for loss in (LOSSES["cross_entropy"], own)
    ]
    folds = list(comparison.noisy_folds(rows, rows, np.eye(3), 2, seed=0))
    # Labels as they are: nobody knows the clean ones.
    for fold in folds:
        del fold["train"]["clean_label"]
    params = comparison.initial_variables(model, x[:1], range(2))
    run = functools.partial(measure, network)
    outcome = comparison.finish(
        comparison.search_in_lanes(methods, params, folds, run, epochs=4, batch_size=15)
    )
    table = comparison.results_table(outcome)
    assert [row["method"] for row in table] == ["cross_entropy", "shifted"]
    assert all(row["accuracy %"] > 60 for row in table)
    assert table[1]["chosen"].startswith("learning_rate 0.1, shift ")
    assert "memorized %" not in table[0]


def test_a_search_says_its_memory_first_and_is_refused_where_the_device_has_less(monkeypatch):
    rng = np.random.default_rng(0)
    folds = list(comparison.noisy_folds(part(rng, 20), part(rng, 9), np.eye(4), 2, seed=0))
    model = models.MLP(num_classes=4, hidden=(3,))
    network = tabular(model)
    methods = [robust_loss(BOUNDED, [0.1], network=network, total_steps=4)]
    params = comparison.initial_variables(model, np.zeros((1, 5), np.float32), range(2))
    run = functools.partial(measure, network)

    def search(**more):
        return comparison.search_in_lanes(
            methods, params, folds, run, epochs=1, batch_size=5, **more
        )

    note, row, _ = search()
    assert re.fullmatch(r"about \d+ MB on the device", note.text)
    assert row["epoch"] == 1
    # Nothing is compiled where nothing is left to train.
    finished = Resume([row])
    assert not list(search(resume=finished))
    monkeypatch.setattr(train, "device_bytes", lambda: 1000)
    with pytest.raises(StudyError, match="needs about 0 MB of the device's 0 MB"):
        next(search())


def test_data_sets_of_unlike_sizes_are_named():
    data_sets = [{"train": {"x": np.zeros((size, 2))}} for size in (3, 4)]
    with pytest.raises(ValueError, match=r"one size, got train.x of shapes \(3, 2\), \(4, 2\)"):
        stack(data_sets)


def test_a_single_run_has_no_deviation():
    assert standard_deviation(np.array([1.0])) is None
    assert standard_deviation(np.array([1.0, 3.0])) == pytest.approx(2**0.5)
    gain = paired_gain(np.array([3.0]), np.array([1.0]))
    assert gain == {"gain": 2.0, "std of gain": None, "gain / its s.e.": None}
