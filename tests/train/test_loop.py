import tracemalloc

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lnl_jax import data, metrics, models, train
from lnl_jax.train import loop
from lnl_jax.train.loop import has_convolution
from tests.train.problems import (
    EXAMPLES,
    FEATURES,
    assert_close,
    assert_same,
    classification,
    classifier_loss,
    classifier_state,
    optimizer,
    raw,
    regression,
    squared_error,
)

BATCH = 7  # the last of the four batches holds 3 examples
STEPS = -(-EXAMPLES // BATCH)


def plan(epoch):
    return data.epoch_plan(EXAMPLES, BATCH, np.random.default_rng((0, epoch)))


@pytest.fixture(scope="module")
def examples():
    return classification(np.random.default_rng(0))


@pytest.fixture(scope="module")
def step(examples):
    on_batches = train.make_train_step(classifier_loss, optimizer())
    return train.gather_batches(on_batches, jax.tree.map(jnp.asarray, examples))


@pytest.fixture(scope="module")
def run_epoch(step):
    """Compiled once for this file."""
    return train.scan_steps(step)


def regression_fit(rng, *, size=10, batch_size=4, epochs=2, rate=0.1, loss_fn=squared_error):
    """`fit` on a linear regression, and its data."""
    tx, examples = optax.sgd(rate), jax.tree.map(jnp.asarray, regression(rng, size))
    step = train.gather_batches(train.make_train_step(loss_fn, tx), examples)
    state = train.init_state(jnp.zeros(FEATURES), tx, key=jax.random.key(0))
    fitted = train.fit(
        train.scan_steps(step),
        state,
        lambda epoch: data.epoch_plan(size, batch_size),
        epochs=epochs,
        steps_per_epoch=-(-size // batch_size),
    )
    return fitted, state, examples


# The steps of one epoch.


def test_scanned_dispatched_and_chosen_steps_give_the_same_numbers(step, run_epoch):
    expected = run_epoch(classifier_state(), plan(0))
    assert expected[1]["loss"].shape == (STEPS,)
    assert expected[0].step == STEPS
    for run in (train.dispatch_steps(step), train.run_steps(step)):
        assert_close(run(classifier_state(), plan(0)), expected)


def test_steps_may_come_from_any_iterable(examples, run_epoch):
    on_batches = train.make_train_step(classifier_loss, optimizer())
    loader = data.batches(examples, BATCH, np.random.default_rng((0, 0)))
    found = train.dispatch_steps(on_batches)(classifier_state(), loader)
    assert_close(found, run_epoch(classifier_state(), plan(0)))


@pytest.mark.slow
def test_gathering_inside_the_step_equals_taking_the_batch_first(examples, step):
    rows = {name: values[-1] for name, values in plan(0).items()}
    on_batches = train.make_train_step(classifier_loss, optimizer())
    expected = jax.jit(on_batches)(classifier_state(), data.take(examples, rows))
    assert_close(jax.jit(step)(classifier_state(), rows), expected)


def test_the_data_set_is_an_argument_of_the_compiled_epoch_and_not_a_constant_in_it():
    dataset = {"x": jnp.arange(5.0), "index": jnp.arange(5)}
    step = train.gather_batches(lambda state, batch: (state + batch["x"].sum(), {}), dataset)
    held = jax.tree.leaves(train.scan_steps(train.gather_batches(step, dataset)))
    assert sum(leaf is dataset["x"] for leaf in held) == 2


def test_trainings_in_turn_share_the_batches_and_end_as_each_would_alone():
    def step(state, batch):
        state = {"x": state["x"] * 0.5 + batch["x"].sum()}
        return state, {"loss": state["x"]}

    drawn = []

    def loader():
        for number in range(4):
            drawn.append(number)
            yield {"x": np.arange(3, dtype=np.float32) * number}

    starts = [{"x": jnp.float32(start)} for start in (1, 7)]
    alone = [train.dispatch_steps(step)(jax.tree.map(jnp.copy, one), loader()) for one in starts]
    drawn.clear()
    states, metrics = train.dispatch_in_turn(step)(starts, loader())
    assert drawn == [0, 1, 2, 3]
    for index, (state, losses) in enumerate(alone):
        assert float(states[index]["x"]) == float(state["x"])
        np.testing.assert_array_equal(metrics["loss"][:, index], losses["loss"])


RUNS = [train.scan_steps, train.dispatch_steps, train.run_steps]


@pytest.mark.parametrize("make_run", RUNS)
def test_a_data_set_on_the_host_is_moved_to_the_device(make_run):
    dataset = {"x": np.arange(5.0, dtype=np.float32), "index": np.arange(5)}
    step = train.gather_batches(lambda state, batch: (state + batch["x"].sum(), {}), dataset)
    rows = {"position": np.array([[1], [4]]), "mask": np.ones((2, 1), bool)}
    assert make_run(step)(jnp.float32(0), rows)[0] == 5


@pytest.mark.parametrize("make_run", RUNS)
def test_the_state_is_donated(make_run):
    before = jnp.zeros(1000)
    state, _ = make_run(lambda state, batch: (state + batch["x"], {}))(before, {"x": jnp.ones(3)})
    assert before.is_deleted()
    assert state[0] == 3


@pytest.mark.parametrize("make_run", [train.scan_steps, train.dispatch_steps])
def test_a_step_is_traced_once_for_all_epochs(make_run):
    def count(state, batch):
        return state + batch["x"].sum(), {}

    chex.clear_trace_counter()
    run, state = make_run(chex.assert_max_traces(count, n=1)), jnp.float32(0)
    for _ in range(3):
        state, _ = run(state, {"x": np.ones((5, 2), np.float32)})
    assert state == 30


class Convolutional:
    """One convolution, without the detour over a module."""

    def init(self, key, images):
        return jnp.ones((3, 3, images.shape[-1], 2))

    def apply(self, kernel, images):
        dimensions = ("NHWC", "HWIO", "NHWC")
        convolved = jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=dimensions
        )
        return convolved.mean((1, 2))


@pytest.mark.parametrize(
    ("network", "chosen"),
    [(Convolutional(), "dispatch_steps"), (models.MLP(2, (4,)), "scan_steps")],
)
def test_on_cpu_convolutions_are_dispatched_and_all_else_is_scanned(monkeypatch, network, chosen):
    def loss_fn(params, extra, rows, batch, key):
        return network.apply(params, batch["x"]).sum(-1), (extra, rows, {})

    called = []

    def counting(name, make_run):
        def make_counted(step):
            run = make_run(step)
            return lambda *args: called.append(name) or run(*args)

        return make_counted

    for name in ("scan_steps", "dispatch_steps"):
        monkeypatch.setattr(loop, name, counting(name, getattr(loop, name)))
    images, tx = jnp.ones((2, 4, 5, 5, 1)), optax.sgd(0.1)
    params = network.init(jax.random.key(0), images[0])
    state = train.init_state(params, tx, key=jax.random.key(0))
    run = train.run_steps(train.make_train_step(loss_fn, tx))
    for _ in range(2):
        state, _ = run(state, {"x": images})
    assert called == [chosen] * 2
    assert state.step == 4


def test_a_convolution_is_found_at_any_depth_and_not_by_its_name():
    kernel, images = jnp.ones((3, 3, 1, 1)), jnp.ones((2, 4, 4, 1))
    convolve = Convolutional().apply

    def in_a_loop(kernel, images):
        def add(_, total):
            return total + jax.jit(convolve)(kernel, images).sum()

        return jax.lax.fori_loop(0, 2, add, 0.0)

    def convolution_of_nothing(kernel, images):
        return kernel.sum() + images

    named = {"convolution": kernel}
    assert has_convolution(jax.grad(in_a_loop), kernel, images)
    assert not has_convolution(lambda k, x: jax.jit(convolution_of_nothing)(k, x), kernel, images)
    assert not has_convolution(lambda tree: tree["convolution"] + 1, named)


def test_looking_for_a_convolution_does_not_print_the_data_set():
    dataset = {"x": jnp.arange(1e6).reshape(1000, 1000), "index": jnp.arange(1000)}
    step = train.gather_batches(lambda state, batch: (state + batch["x"].sum(), {}), dataset)
    tracemalloc.start()
    found = has_convolution(step, jnp.float32(0), {"position": jnp.arange(4), "mask": True})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not found
    assert peak < dataset["x"].nbytes / 2


# Many epochs.


def test_rows_are_means_over_the_examples_also_of_a_short_last_batch(rng):
    fitted, state, examples = regression_fit(rng, epochs=1)
    ((row, after),) = fitted
    # The same epoch by hand: batches of 4, 4 and 2.
    params, errors, weights = np.zeros(FEATURES), [], []
    for part in (slice(0, 4), slice(4, 8), slice(8, 10)):
        x, residuals = examples["x"][part], examples["x"][part] @ params - examples["y"][part]
        errors += np.abs(residuals).tolist()
        gradient = 2 * x.T @ residuals / len(x)
        weights.append((len(x), np.linalg.norm(gradient)))
        params = params - 0.1 * gradient
    np.testing.assert_allclose(row["error"], np.mean(errors), rtol=1e-5)
    np.testing.assert_allclose(row["loss"], np.mean(np.square(errors)), rtol=1e-5)
    np.testing.assert_allclose(row["gradient_norm"], sum(n * g for n, g in weights) / 10, rtol=1e-5)
    np.testing.assert_allclose(after.params, params, rtol=1e-5)
    assert set(row) == {"epoch", "examples", "error", "loss", "gradient_norm"}


def test_epochs_count_from_one_and_examples_add_up(rng):
    rows = [row for row, _ in regression_fit(rng, epochs=3)[0]]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["examples"] for row in rows] == [10, 20, 30]


def test_the_callers_state_stays_usable(rng):
    fitted, state, _ = regression_fit(rng, epochs=2)
    before = raw(state)
    ends = [raw(end) for _, end in fitted]
    assert_same(raw(state), before)
    assert (ends[0].params != ends[1].params).all()


def fit_classifier(run_epoch, state, epochs):
    return train.fit(run_epoch, state, plan, epochs=epochs, steps_per_epoch=STEPS)


def test_an_interrupted_and_restored_training_ends_bitwise_as_an_uninterrupted_one(
    run_epoch, tmp_path
):
    whole = [(row, raw(state)) for row, state in fit_classifier(run_epoch, classifier_state(), 4)]
    manager = train.open_checkpoints(tmp_path)
    rows = []
    for row, state in fit_classifier(run_epoch, classifier_state(), 4):
        rows.append(row)
        if row["epoch"] == 2:
            train.save(manager, 2, state, {})
            break
    manager.close()

    manager = train.open_checkpoints(tmp_path)
    _, restored, _ = train.restore_latest(manager, classifier_state(seed=5))
    manager.close()
    for row, state in fit_classifier(run_epoch, restored, 4):
        rows.append(row)
        end = raw(state)
    for found, (expected, _) in zip(rows, whole, strict=True):
        assert_same(found, expected)
    assert_same(end, whole[-1][1])
    # It was worth restoring: tables, statistics and optimiser are not those of a fresh state.
    assert (end.tables["visits"].values.count == 4).all()
    assert end.extra["steps"] == 4 * STEPS


def test_a_finished_training_yields_nothing(run_epoch):
    (*_, (_, state)) = fit_classifier(run_epoch, classifier_state(), 1)
    assert list(fit_classifier(run_epoch, state, 1)) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_the_training_and_says_where(rng, bad):
    def loss_fn(params, extra, rows, batch, key):
        losses, carried = squared_error(params, extra, rows, batch, key)
        return jnp.where((batch["index"] == 9) & (params[0] != 0), bad, losses), carried

    tx = optax.sgd(0.1)
    examples = jax.tree.map(jnp.asarray, regression(rng, 10) | {"index": np.arange(10)})
    step = train.gather_batches(train.make_train_step(loss_fn, tx), examples)
    state = train.init_state(jnp.zeros(FEATURES), tx, key=jax.random.key(0))
    # Example 9 is in the third batch of the first epoch; `index` 9 is hidden until the second.
    orders = [np.where(np.arange(10) == 9, 0, np.arange(10)), np.arange(10)]

    def batches(epoch):
        every = data.epoch_plan(10, 4)
        return every | {"position": orders[epoch][every["position"]]}

    fitted = train.fit(train.scan_steps(step), state, batches, epochs=2, steps_per_epoch=3)
    assert next(fitted)[0]["epoch"] == 1
    with pytest.raises(FloatingPointError, match=rf"{bad} at step 5 \(epoch 2, batch 3\)"):
        next(fitted)


def test_a_vmapped_training_has_a_mean_per_run_and_names_the_run_that_diverges(rng):
    examples = jax.tree.map(jnp.asarray, regression(rng, 10))

    def make(rates):
        def one(rate, state, rows):
            step = train.make_train_step(squared_error, optax.sgd(rate))
            return step(state, data.take(examples, rows))

        start = train.init_state(jnp.zeros(FEATURES), optax.sgd(1.0), key=jax.random.key(0))
        states = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(rates)), start)

        def step(states, rows):
            return jax.vmap(one, in_axes=(0, 0, None))(jnp.array(rates), states, rows)

        return train.fit(
            train.scan_steps(step),
            states,
            lambda epoch: data.epoch_plan(10, 4),
            epochs=2,
            steps_per_epoch=3,
        )

    together = [row for row, _ in make([0.1, 0.01, 0.0])]
    alone = [row for row, _ in make([0.01])]
    for both, one in zip(together, alone, strict=True):
        assert both["examples"] == one["examples"] == 10 * both["epoch"]
        assert both["loss"].shape == (3,)
        np.testing.assert_allclose(both["loss"][1], one["loss"][0], rtol=1e-5)
    with pytest.raises(FloatingPointError, match=r"at step 0 \(epoch 1, batch 1, run \[1\]\)"):
        next(make([0.1, np.inf]))


# Evaluation.


def test_evaluation_over_padded_batches_is_that_of_all_the_data(examples):
    def measure(params, extra, batch):
        logits = batch["x"] @ params["kernel"]
        counted = {"where": batch["mask"]}
        return {
            "accuracy": metrics.accuracy(logits, batch["label"], **counted),
            "loss": [metrics.negative_log_likelihood(logits, batch["label"], **counted)],
        }

    state = classifier_state()
    eval_step = jax.jit(train.make_eval_step(measure))
    found = train.evaluate(eval_step, state, data.batches(examples, BATCH))
    logits = np.float64(examples["x"] @ np.asarray(state.params["kernel"]))
    right = logits.argmax(1) == examples["label"]
    chosen = logits[np.arange(EXAMPLES), examples["label"]]
    np.testing.assert_allclose(found["accuracy"], right.mean(), rtol=1e-6)
    expected = (np.log(np.exp(logits).sum(1)) - chosen).mean()
    np.testing.assert_allclose(found["loss"], [expected], rtol=1e-5)
    assert isinstance(found["accuracy"], np.ndarray)


def test_an_infinite_gradient_of_a_finite_loss_stops_too():
    def loss_fn(params, extra, rows, batch, key):
        return jnp.sqrt(jnp.abs(batch["x"] * params)), (extra, rows, {})

    tx = optax.sgd(0.1)
    state = train.init_state(jnp.zeros(()), tx, key=jax.random.key(0))
    run_epoch = train.scan_steps(train.make_train_step(loss_fn, tx))
    fitted = train.fit(
        run_epoch, state, lambda epoch: {"x": jnp.ones((1, 2))}, epochs=1, steps_per_epoch=1
    )
    with pytest.raises(FloatingPointError, match="gradient_norm is (inf|nan) at step 0"):
        next(fitted)


PARTS = {
    "the loss is inf": np.inf,
    "the loss is finite, but the gradient_norm is (inf|nan)": 0.0,
    "loss and gradients are finite, but the parameters after them are not": 4.0,
}


def of_rows(middle, *, skip):
    """An epoch of sqrt(|x p|) over three batches, with an optimiser that fails at steep places."""

    def loss_fn(params, extra, rows, batch, key):
        losses = jnp.sqrt(jnp.abs(batch["x"] * params))
        return losses, (extra + 1, rows + 1, {"error": losses})

    def descend(updates, state, params=None):
        return jax.tree.map(lambda g: jnp.where(g > 0.9, jnp.inf, -g / 8), updates), state

    tx = optax.GradientTransformation(lambda params: jnp.zeros(()), descend)
    with train.skip_not_finite(skip):
        step = train.make_train_step(loss_fn, tx)
    tables = train.Table(jnp.zeros(3), train.segment_last)
    state = train.init_state(
        jnp.ones(()), tx, key=jax.random.key(0), extra=jnp.zeros(()), tables=tables
    )
    batches = {"x": jnp.array([[1.0], [middle], [1.0]]), "index": jnp.arange(3)[:, None]}
    run = train.scan_steps(step)
    return next(train.fit(run, state, lambda epoch: batches, epochs=1, steps_per_epoch=3))


@pytest.mark.parametrize("message", PARTS)
def test_what_went_first_is_named_with_its_step(message):
    with pytest.raises(train.NotFiniteError, match=rf"{message} at step 1 \(epoch 1, batch 2\)"):
        of_rows(PARTS[message], skip=False)


@pytest.mark.parametrize("message", PARTS)
def test_a_batch_that_is_left_out_leaves_parameters_and_tables_as_they_were(message):
    row, state = of_rows(PARTS[message], skip=True)
    assert (row["steps_skipped"], row["examples"], int(state.step)) == (1, 3, 3)
    assert state.tables.values.tolist() == [1, 0, 1]
    assert float(state.extra) == 2
    # The first and the third batch alone.
    p, losses = 1.0, []
    for _ in range(2):
        losses.append(np.sqrt(p))
        p -= 1 / np.sqrt(p) / 2 / 8
    np.testing.assert_allclose(state.params, p, rtol=1e-6)
    np.testing.assert_allclose([row["loss"], row["error"]], np.mean(losses), rtol=1e-6)


def test_nothing_is_left_out_of_what_is_finite():
    row, state = of_rows(1.0, skip=True)
    plain, same = of_rows(1.0, skip=False)
    assert row.pop("steps_skipped") == 0
    assert row == plain
    assert float(state.params) == float(same.params)
