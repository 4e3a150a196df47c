import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import models, train
from lnl_jax.comparison import runs
from lnl_jax.comparison.catalogue import LOSSES
from lnl_jax.comparison.methods import METRICS, measure, robust_loss
from lnl_jax.comparison.networks import tabular
from lnl_jax.comparison.statistics import paired_gain, spread
from lnl_jax.data.splits import stack

EPOCHS, SIZE, BATCH = 3, 37, 8
SEEDS = (3, 4)
RATES = (0.1, 0.01)


def part(rng, size):
    labels = rng.integers(0, 4, (2, size))
    x = rng.normal(size=(size, 5)).astype(np.float32)
    return {"x": x, "label": np.int32(labels[0]), "clean_label": np.int32(labels[1])} | {
        "index": np.arange(size, dtype=np.int32)
    }


def trained(make, *, test_is_shared):
    """The last states and all that was measured."""
    rng = np.random.default_rng(0)
    test = part(rng, 11)
    known = {"unused": np.zeros(1)}
    parts = stack(
        [{"train": part(rng, SIZE), "validation": part(rng, 10), "known": known} for _ in SEEDS]
    )
    model = models.MLP(num_classes=4, hidden=(6,))
    network = tabular(model)
    extra = {"shared": {"test": test}} if test_is_shared else {}
    if not test_is_shared:
        parts["test"] = stack([test] * len(SEEDS))
    steps = -(-SIZE // BATCH)
    loss = functools.partial(LOSSES["generalized_cross_entropy"], q=0.5)
    method = robust_loss(loss, RATES, network=network, total_steps=steps * EPOCHS)
    study = make(
        method,
        runs.initial_params(model, parts["train"]["x"], SEEDS),
        parts,
        SEEDS,
        schedule=functools.partial(runs.staircase, total_steps=steps * EPOCHS),
        weight_decay=1e-3,
        measure=functools.partial(measure, network),
        **extra,
    )
    plan = functools.partial(runs.epoch_plans, SIZE, BATCH, SEEDS)
    measured = []
    epochs = train.fit_together([study], [study.state], plan, epochs=EPOCHS)
    for _, (found,), (state,) in epochs:
        measured.append([found[name] for name in METRICS])
        last, examples = state, found["examples"]
    return last, np.array(measured), examples


@pytest.mark.slow
def test_runs_one_after_the_other_are_the_runs_side_by_side():
    together, expected, examples = trained(runs.make_study, test_is_shared=False)
    in_turn, found, as_many = trained(runs.make_study_in_turn, test_is_shared=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert as_many == examples == SIZE * len(SEEDS) * len(RATES)
    for one, other in zip(
        jax.tree.leaves(in_turn.params), jax.tree.leaves(together.params), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    # Every run is one of its own.
    kernels = np.asarray(jax.tree.leaves(in_turn.params)[1]).reshape(4, -1)
    assert len(np.unique(kernels, axis=0)) == 4


@pytest.mark.parametrize("at", [(1 / 2, 3 / 4), (1 / 3, 2 / 3)])
def test_the_staircase_falls_tenfold_at_two_fractions(at):
    total = 12
    factors = runs.staircase(jnp.arange(total), total_steps=total, at=at)
    first, second = (round(fraction * total) for fraction in at)
    expected = [1.0] * first + [0.1] * (second - first) + [0.01] * (total - second)
    np.testing.assert_array_equal(factors, np.float32(expected))


def test_an_unshuffled_plan_keeps_the_order_in_every_epoch():
    fixed = [runs.epoch_plans(6, 2, SEEDS, epoch, shuffle=False) for epoch in (0, 1)]
    for plan in fixed:
        for position in range(len(SEEDS)):
            assert plan["position"][:, position].ravel().tolist() == list(range(6))
    shuffled = [runs.epoch_plans(6, 2, SEEDS, epoch)["position"] for epoch in (0, 1)]
    assert (shuffled[0] != shuffled[1]).any()


def test_a_single_run_has_no_deviation():
    assert spread(np.array([1.0])) is None
    assert spread(np.array([1.0, 3.0])) == pytest.approx(2**0.5)
    gain = paired_gain(np.array([3.0]), np.array([1.0]))
    assert gain == {"gain": 2.0, "std of gain": None, "gain / its s.e.": None}
