"""Steps that nothing interrupts: no hidden way from the host to the device, and states in place.

A device-to-host guard is no use on a CPU, where there is no such way; what the loops read there
they read by `jax.device_get`, once an epoch.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lnl_jax import contrastive, data, train
from lnl_jax.distill import projectors
from lnl_jax.distill.projectors._training import _loss, follow_teachers
from lnl_jax.distill.training import initial_state, step_with
from tests.train.problems import (
    CLASSES,
    EXAMPLES,
    FEATURES,
    classification,
    classifier_loss,
    classifier_state,
    optimizer,
)

BATCH, EPOCHS = 8, 3
STEPS = EXAMPLES // BATCH
TEMPERATURES = contrastive.Temperatures(0.4, 0.05, 0.9, (0.05, 1.0), 3.0)


def isogclr_loss(params, extra, rows, batch, key):
    """Both views are one matrix product with noise, and each example has its own temperature."""
    noise = jax.random.normal(key, (2, *batch["x"].shape))
    views = (batch["x"][None] + noise) @ params
    views = views / jnp.linalg.norm(views, axis=-1, keepdims=True)
    where = jnp.tile(batch["mask"], 2)[None]
    options = {"gamma": 0.8, "temperatures": TEMPERATURES, "where": where}
    values, rows, _ = contrastive.isogclr(views, views, rows, **options)
    return values, (extra, rows, {"temperature": rows.temperature})


def encode(params, images, dtype=None):
    kernel = params["fc1"]["kernel"]
    return images.astype(dtype or kernel.dtype) @ kernel


def robust():
    return train.make_train_step(classifier_loss, optimizer()), classifier_state()


def isogclr():
    tx = optax.adam(0.01)
    kernel = jnp.sin(jnp.arange(1.0, FEATURES * 5 + 1)).reshape(FEATURES, 5)
    tables = contrastive.isogclr_table(EXAMPLES, 0.1)
    state = train.init_state(kernel, tx, key=jax.random.key(0), tables=tables)
    return train.make_train_step(isogclr_loss, tx), state


def projector(steps=EPOCHS * STEPS, objective=follow_teachers):
    tower = {"fc1": {"kernel": jnp.sin(jnp.arange(1.0, FEATURES * 5 + 1)).reshape(FEATURES, 5)}}
    words = jnp.cos(jnp.arange(5.0 * CLASSES)).reshape(5, CLASSES)
    foundation = projectors.Foundation(tower, words, jnp.float32(10), encode, "fc1/kernel$")
    start = projectors.initial_projector(foundation, projectors.Adaptation(2, 2), 0)
    inner = step_with(_loss(objective, encode), {"tower": tower, "words": words})
    state = initial_state(start.adapter, learning_rate=0.01, steps=steps)
    targets = jnp.linspace(-1, 1, BATCH * CLASSES).reshape(BATCH, CLASSES)

    def step(inner, targets, state, batch):
        given = {"images": batch["x"], "classes": batch["label"], "targets": targets}
        return inner(state, given | {"mask": batch["mask"]})

    return jax.tree_util.Partial(step, inner, targets), state


FAMILIES = {"robust": robust, "isogclr": isogclr, "projector": projector}


def plan(epoch):
    return data.epoch_plan(EXAMPLES, BATCH, np.random.default_rng((0, epoch)))


def deleted(tree):
    return [leaf.is_deleted() for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("run", [train.scan_steps, train.dispatch_steps])
@pytest.mark.parametrize("family", FAMILIES)
def test_after_the_first_epoch_of_fit_all_transfers_are_explicit(family, run, rng):
    step, state = FAMILIES[family]()
    run_epoch = run(train.gather_batches(step, classification(rng)))
    fitted = train.fit(run_epoch, state, plan, epochs=EPOCHS, steps_per_epoch=STEPS)
    next(fitted)
    with jax.transfer_guard("disallow"):
        for row, _ in fitted:
            assert np.isfinite(row["loss"])
    assert row["epoch"] == EPOCHS


@pytest.mark.parametrize("family", FAMILIES)
def test_a_compiled_step_takes_nothing_from_the_host(family, rng):
    step, state = FAMILIES[family]()
    step = jax.jit(step, donate_argnums=0)
    batch = {name: values[:BATCH] for name, values in classification(rng).items()}
    batch = jax.device_put(batch | {"mask": np.ones(BATCH, bool)})
    state, _ = step(state, batch)
    with jax.transfer_guard("disallow"):
        for _ in range(3):
            before = state
            state, metrics = step(state, batch)
    assert int(state.step) == 4
    assert np.isfinite(float(metrics["loss"]))
    assert all(deleted(before))


@pytest.mark.parametrize("family", FAMILIES)
def test_runs_in_lanes_get_positions_only_and_stay_in_place(family, rng):
    step, _ = FAMILIES[family]()

    def start(setting, data_set):
        del setting, data_set
        return FAMILIES[family]()[1]

    trainer = train.Trainer(
        start,
        lambda setting, data_set, state, batch: step(state, batch),
        lambda setting, data_set, state: {"step": state.step},
    )
    examples = classification(rng)
    parts = {"train": {name: np.stack([values] * 2) for name, values in examples.items()}}
    runs = train.in_lanes(trainer, np.zeros(3, np.float32), parts)
    of_epoch = data.epoch_plans(EXAMPLES, BATCH, range(2))
    epochs = train.fit_together([runs], [runs.state], of_epoch, epochs=EPOCHS)
    _, _, (before,) = next(epochs)
    with jax.transfer_guard("disallow"):
        for _, (report,), _ in epochs:
            assert np.isfinite(report["loss"]).all()
    assert all(deleted(before))
    assert report["step"].tolist() == [[EPOCHS * STEPS] * 3] * 2


def test_runs_in_turn_get_positions_only_and_stay_in_place(rng):
    step, state = robust()
    trainer = train.Trainer(
        lambda setting, data_set: state,
        lambda setting, data_set, state, batch: step(state, batch),
        lambda setting, data_set, state: {"step": state.step},
    )
    runs = train.in_turn(trainer, np.zeros(2, np.float32), [{"train": classification(rng)}])
    of_epoch = data.epoch_plans(EXAMPLES, BATCH, range(1))
    epochs = train.fit_together([runs], [runs.state], of_epoch, epochs=EPOCHS)
    _, _, (before,) = next(epochs)
    with jax.transfer_guard("disallow"):
        for _, (report,), _ in epochs:
            assert np.isfinite(report["loss"]).all()
    assert all(deleted(before))
    assert report["step"].tolist() == [[EPOCHS * STEPS] * 2]


def test_the_batches_of_an_epoch_may_be_on_the_device_already(rng):
    step, state = robust()
    run_epoch = train.dispatch_steps(train.gather_batches(step, classification(rng)))
    expected, _ = run_epoch(jax.tree.map(jnp.copy, state), plan(0))
    rows = jax.device_put(plan(0))
    run_epoch(jax.tree.map(jnp.copy, state), rows)
    copy = jax.tree.map(jnp.copy, state)
    with jax.transfer_guard("disallow"):
        found, _ = run_epoch(copy, rows)
    np.testing.assert_array_equal(found.params["kernel"], expected.params["kernel"])
    assert all(deleted(copy))


def test_evaluation_sends_its_batches_by_name(rng):
    from lnl_jax import metrics

    def metric_fn(params, extra, batch):
        logits = batch["x"] @ params["kernel"]
        return {"accuracy": metrics.accuracy(logits, batch["label"], where=batch["mask"])}

    eval_step = jax.jit(train.make_eval_step(metric_fn))
    state, examples = classifier_state(), classification(rng)
    evaluate = functools.partial(train.evaluate, eval_step, state)
    expected = evaluate(data.batches(examples, BATCH))
    with jax.transfer_guard("disallow"):
        found = evaluate(data.batches(examples, BATCH))
    assert found == expected
