import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from lnl_jax import metrics, train
from lnl_jax.train.sharding import DATA_AXIS
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

# Seconds of compilation each; eight devices show what fewer do.
DEVICES = [pytest.param(count, marks=pytest.mark.slow) for count in (1, 2, 4)] + [8]
COUNTED = np.array([True, False, True, True, False, True])


def start(tx, params=None, **parts):
    params = jnp.ones(FEATURES) if params is None else params
    return train.init_state(params, tx, key=jax.random.key(0), **parts)


def one_step(loss_fn, batch, tx=None, **parts):
    tx = optax.sgd(1.0) if tx is None else tx
    return jax.jit(train.make_train_step(loss_fn, tx))(start(tx, **parts), batch)


# What the step descends.


def test_the_gradient_is_that_of_the_mean_over_the_real_examples(rng):
    batch = regression(rng)
    new, found = one_step(squared_error, batch | {"mask": COUNTED})
    x, y = batch["x"][COUNTED].astype(np.float64), batch["y"][COUNTED]
    gradient = 2 * x.T @ (x.sum(1) - y) / len(y)
    np.testing.assert_allclose(new.params, 1 - gradient, rtol=1e-5)
    np.testing.assert_allclose(found["gradient_norm"], np.linalg.norm(gradient), rtol=1e-5)


@pytest.mark.parametrize("padding", [0.0, 1e18, 1e30])
def test_padding_changes_nothing_whatever_its_losses(rng, padding):
    batch = regression(rng)
    kept = {name: values[COUNTED] for name, values in batch.items()}
    batch["x"] = np.where(COUNTED[:, None], batch["x"], np.float32(padding))
    assert_close(one_step(squared_error, batch | {"mask": COUNTED}), one_step(squared_error, kept))


def test_a_batch_of_padding_alone_moves_no_parameter(rng):
    new, found = one_step(squared_error, regression(rng) | {"mask": np.zeros(6, bool)})
    np.testing.assert_array_equal(new.params, 1)
    assert {name: float(value) for name, value in found.items()} == {
        "error": 0,
        "loss": 0,
        "gradient_norm": 0,
        "count": 0,
        "not_finite": 0,
    }


def test_without_a_mask_every_example_is_real(rng):
    batch = regression(rng)
    masked = one_step(squared_error, batch | {"mask": np.ones(6, bool)})
    assert_same(one_step(squared_error, batch), masked)


def test_descent_ends_at_the_least_squares_solution(rng):
    batch, tx = regression(rng, size=20), optax.sgd(0.2)
    step = train.make_train_step(squared_error, tx)

    @jax.jit
    def descend(state):
        return jax.lax.scan(lambda state, _: step(state, batch), state, length=300)

    state, found = descend(start(tx))
    solution = np.linalg.lstsq(batch["x"], batch["y"])[0]
    np.testing.assert_allclose(state.params, solution, rtol=1e-3, atol=1e-4)
    assert (np.diff(found["loss"]) <= 1e-6).all()
    assert found["loss"][-1] < found["loss"][0] / 2


def test_metrics_are_means_over_the_real_examples(rng):
    batch = regression(rng)
    _, found = one_step(squared_error, batch | {"mask": COUNTED})
    errors = np.abs(batch["x"].sum(1) - batch["y"])[COUNTED]
    np.testing.assert_allclose(found["error"], errors.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["loss"], (errors**2).mean(), rtol=1e-5)
    assert found["count"] == COUNTED.sum()


def test_boolean_and_half_precision_metrics_are_averaged_in_float32():
    def loss_fn(params, extra, rows, batch, key):
        small = jnp.full(3000, 1.0, jnp.bfloat16)
        return batch["x"] @ params, (extra, rows, {"right": batch["x"][:, 0] > 0, "small": small})

    x = np.ones((3000, FEATURES), np.float32) * np.where(np.arange(3000) < 1, 1, -1)[:, None]
    _, found = one_step(loss_fn, {"x": np.float32(x)})
    np.testing.assert_allclose(found["right"], 1 / 3000, rtol=1e-6)
    assert found["small"] == 1


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda losses, error: (losses.mean(), error), r"losses .*shape \(6,\); got \(\)"),
        (lambda losses, error: (losses[:, None], error), r"losses .*shape \(6,\); got \(6, 1\)"),
        (lambda losses, error: (losses, error.sum()), r"error .*shape \(6,\); got \(\)"),
        (lambda losses, error: (losses, error[:-1]), r"error .*shape \(6,\); got \(5,\)"),
    ],
    ids=["reduced losses", "a column of losses", "reduced metric", "short metric"],
)
def test_a_loss_or_metric_of_another_shape_raises_with_its_name_and_both_shapes(rng, spoil, text):
    def loss_fn(*args):
        losses, (extra, rows, found) = squared_error(*args)
        losses, error = spoil(losses, found["error"])
        return losses, (extra, rows, {"error": error})

    with pytest.raises(ValueError, match=text):
        one_step(loss_fn, regression(rng))


def test_it_is_traced_once_per_shape(rng):
    tx = optax.adam(0.1)
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(train.make_train_step(squared_error, tx), n=2))
    state = start(tx)
    for size in (6, 6, 6, 4, 4, 6):
        state, _ = step(state, regression(rng, size))
    with pytest.raises(AssertionError, match="traced"):
        step(state, regression(rng, 5))


# What it carries along.


def draw(params, extra, rows, batch, key):
    """Leaves the random numbers of each example in its row."""
    return batch["x"] @ params, (extra, jax.random.uniform(key, batch["index"].shape), {})


def drawn(step, seed):
    """The random numbers of 8 examples in each of three steps, and the state after them."""
    tables = train.Table(jnp.zeros(8))
    key = jax.random.key(seed)
    state = train.init_state(jnp.ones(1), optax.sgd(0.0), key=key, tables=tables)
    found = []
    for _ in range(3):
        state, _ = step(state, {"index": np.arange(8), "x": np.ones((8, 1), np.float32)})
        found.append(np.array(state.tables.values))
    return np.stack(found), state


@pytest.mark.parametrize("way", ["jit", "shard_map"])
def test_every_seed_step_and_device_draws_numbers_of_its_own_and_always_the_same(way):
    step = WAYS[way](functools.partial(train.make_train_step, draw, optax.sgd(0.0)), 4)
    (first, state), (again, _), (other, _) = drawn(step, 0), drawn(step, 0), drawn(step, 1)
    assert len(np.unique(np.stack([first, other]))) == 48
    np.testing.assert_array_equal(first, again)
    # A restored state draws as the interrupted one: from its own key and step.
    assert_same(state.key, jax.random.key(0))
    assert state.step == 3


def test_tables_hold_what_the_loss_returned_for_these_examples_and_no_others(rng):
    def loss_fn(params, extra, rows, batch, key):
        return batch["x"] @ params, (extra, rows + batch["y"], {})

    batch = regression(rng) | {"index": np.array([3, 9, 3, 0, 1, 7]), "mask": COUNTED}
    before = rng.normal(size=10).astype(np.float32)
    new, _ = one_step(loss_fn, batch, tables=train.Table(before))
    expected = before.copy()
    expected[[0, 7]] += batch["y"][[3, 5]]
    expected[3] += batch["y"][[0, 2]].mean()
    np.testing.assert_allclose(new.tables.values, expected, rtol=1e-6)


def test_no_gradient_flows_through_the_rows(rng):
    def loss_fn(params, extra, rows, batch, key):
        scores = batch["x"] @ params
        return scores, (extra, rows * scores, {})

    batch = regression(rng) | {"index": np.arange(6)}
    state = start(optax.sgd(1.0), tables=train.Table(jnp.ones(6)))

    def total(params):
        step = train.make_train_step(loss_fn, optax.sgd(1.0))
        return step(state._replace(params=params), batch)[0].tables.values.sum()

    np.testing.assert_array_equal(jax.jit(jax.grad(total))(state.params), 0)


@pytest.mark.parametrize("way", ["pmap", "shard_map", "shard_map, tracked"])
def test_extra_is_averaged_over_devices_and_its_integers_are_kept(rng, way):
    def loss_fn(params, extra, rows, batch, key):
        return batch["x"] @ params, ({"mean": batch["x"].mean(0), "n": extra["n"] + 1}, rows, {})

    batch, tx = regression(rng, size=8), optax.sgd(0.1)
    state = start(tx, extra={"mean": jnp.zeros(FEATURES), "n": jnp.int32(40)})
    step = WAYS[way](functools.partial(train.make_train_step, loss_fn, tx), 4)
    extra = step(state, batch)[0].extra
    np.testing.assert_allclose(extra["mean"], batch["x"].mean(0), rtol=1e-5, atol=1e-7)
    assert (extra["n"], extra["n"].dtype) == (41, jnp.int32)


# The same numbers, however it is run.


def on_a_mesh(make, devices):
    step, mesh = jax.jit(make()), train.data_mesh(devices)
    return lambda state, batch: step(train.replicate(state, mesh), train.shard_batch(batch, mesh))


def with_pmap(make, devices):
    parallel = jax.pmap(
        make(axis_name=DATA_AXIS),
        DATA_AXIS,
        in_axes=(None, 0),
        out_axes=None,
        devices=jax.devices()[:devices],
    )
    return lambda state, batch: parallel(
        state, {name: v.reshape(devices, -1, *v.shape[1:]) for name, v in batch.items()}
    )


def with_shard_map(make, devices, **options):
    parallel = jax.shard_map(
        make(axis_name=DATA_AXIS),
        mesh=train.data_mesh(devices),
        in_specs=(P(), P(DATA_AXIS)),
        out_specs=P(),
        **options,
    )
    return jax.jit(parallel)


WAYS = {
    "jit": on_a_mesh,
    "pmap": with_pmap,
    "shard_map": functools.partial(with_shard_map, check_vma=False),
    "shard_map, tracked": with_shard_map,
}
# A way to run takes seconds to compile; the others of these are slow.
EACH_WAY = [
    pytest.param(way, marks=() if way in ("jit", "shard_map, tracked") else pytest.mark.slow)
    for way in WAYS
]


def visits(rng):
    """Batches of 16: all real; one example on several devices; the last devices have padding."""
    examples = classification(rng)
    positions = [rng.permutation(EXAMPLES)[:16] for _ in range(3)]
    positions[1][[5, 9, 15]] = positions[1][0]
    mask = [np.ones(16, bool), np.ones(16, bool), np.arange(16) < 7]
    # Padding has the index of an example that is in the batch, and of one that is not.
    positions[2][8] = positions[2][0]
    return [
        {name: values[p] for name, values in examples.items()} | {"mask": m}
        for p, m in zip(positions, mask, strict=True)
    ]


def run(step, state, batches):
    history = []
    for batch in batches:
        state, found = step(state, batch)
        history.append(found)
    return state, history


make_classifier_step = functools.partial(train.make_train_step, classifier_loss, optimizer())


@pytest.fixture(scope="module")
def on_one_device():
    batches = visits(np.random.default_rng(0))
    return batches, run(jax.jit(make_classifier_step()), classifier_state(), batches)


def test_the_reference_run_uses_everything_it_holds(on_one_device):
    batches, (state, history) = on_one_device
    before = classifier_state()
    seen = np.unique(np.concatenate([batch["index"][batch["mask"]] for batch in batches]))
    assert 16 < len(seen) < EXAMPLES
    visits = state.tables["visits"].values
    for changed in (state.tables["temperature"].values != 1, visits.count > 0, visits.loss > -9):
        np.testing.assert_array_equal(np.flatnonzero(changed), seen)
    for name in ("params", "extra", "opt_state"):
        pairs = jax.tree.map(
            lambda a, b: np.not_equal(a, b).any(), getattr(before, name), getattr(state, name)
        )
        assert all(jax.tree.leaves(pairs))
    assert [int(found["count"]) for found in history] == [16, 16, 7]


@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("way", EACH_WAY)
def test_any_number_of_devices_gives_the_state_and_metrics_of_one(on_one_device, way, devices):
    batches, (expected, expected_history) = on_one_device
    step = WAYS[way](make_classifier_step, devices)
    found, history = run(step, classifier_state(), batches)
    assert_close(found, expected)
    assert_close(history, expected_history)


def test_all_devices_of_pmap_end_in_bitwise_the_same_state(on_one_device):
    batches, _ = on_one_device
    step = jax.pmap(make_classifier_step(axis_name="i"), "i", in_axes=(None, 0), out_axes=0)
    batch = {name: values.reshape(8, 2, *values.shape[1:]) for name, values in batches[1].items()}
    for leaf in jax.tree.leaves(raw(step(classifier_state(), batch))):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))


@pytest.mark.parametrize(("check_vma", "times"), [(True, 4), (False, 1)])
def test_a_plain_sum_of_gradients_counts_them_again_where_shard_map_tracks(check_vma, times):
    """Why the step makes the parameters local first; once this fails it need not."""

    def gradient(params, x):
        return jax.lax.psum(jax.grad(lambda params: (params * x).sum())(params), DATA_AXIS)

    parallel = jax.shard_map(
        gradient,
        mesh=train.data_mesh(4),
        in_specs=(P(), P(DATA_AXIS)),
        out_specs=P(),
        check_vma=check_vma,
    )
    assert jax.jit(parallel)(np.float32(1), np.arange(8, dtype=np.float32)) == times * 28


def test_scan_equals_a_python_loop(on_one_device):
    batches, (expected, history) = on_one_device
    stacked = jax.tree.map(lambda *values: np.stack(values), *batches)
    found = jax.jit(lambda *args: jax.lax.scan(make_classifier_step(), *args))(
        classifier_state(), stacked
    )
    assert_close(found, (expected, jax.tree.map(lambda *values: np.stack(values), *history)))


@pytest.mark.slow
def test_vmap_over_seeds_and_learning_rates_equals_separate_runs(rng):
    """Every run has its own tables and its own random numbers, here for dropout."""

    def loss_fn(params, extra, rows, batch, key):
        kept = jax.random.bernoulli(key, 0.8, batch["x"].shape)
        return classifier_loss(params, extra, rows, batch | {"x": batch["x"] * kept}, key)

    def train_one(seed, learning_rate):
        tx = optax.sgd(learning_rate, momentum=0.9)
        step = train.make_train_step(loss_fn, tx)
        return jax.lax.scan(step, classifier_state(seed, tx), batches)

    batches = jax.tree.map(lambda *values: np.stack(values), *visits(rng))
    seeds, rates = jnp.array([0, 1, 0]), jnp.array([0.1, 0.1, 1.0])
    together, alone = jax.jit(jax.vmap(train_one))(seeds, rates), jax.jit(train_one)
    for index in range(3):
        found = jax.tree.map(lambda leaf, index=index: leaf[index], together)
        assert_close(found, alone(seeds[index], rates[index]), rtol=1e-4, atol=1e-5)
    kernels = together[0].params["kernel"]
    assert len(np.unique(kernels[:, 0, 0])) == 3


# Evaluation.


def count_right(params, extra, batch):
    logits = batch["x"] @ params["kernel"] + params["bias"][None] + extra["mean"].sum()
    counted = {"where": batch["mask"]}
    return {
        "accuracy": metrics.accuracy(logits, batch["label"], **counted),
        "nll": metrics.negative_log_likelihood(logits, batch["label"], **counted),
    }


@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("way", EACH_WAY)
def test_sums_and_counts_are_those_of_all_the_data(rng, way, devices):
    examples, state = classification(rng), classifier_state()
    everything = examples | {"mask": np.ones(EXAMPLES, bool)}
    whole = jax.jit(count_right)(state.params, state.extra, everything)
    # The second batch is short: its padding repeats examples that were counted.
    parts = [np.arange(16), np.arange(16, 32) % EXAMPLES]
    masks = [np.ones(16, bool), np.arange(16, 32) < EXAMPLES]
    step = WAYS[way](functools.partial(train.make_eval_step, count_right), devices)
    found = [
        step(state, {name: v[part] for name, v in examples.items()} | {"mask": mask})
        for part, mask in zip(parts, masks, strict=True)
    ]
    assert [float(each["accuracy"].count) for each in found] == [16, 8]
    assert_close(metrics.merge(*found), whole)
