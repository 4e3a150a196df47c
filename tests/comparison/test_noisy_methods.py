"""Methods that are more than a loss: each against a plain statement of what it does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

from lnl_jax import label_models, models, reweighting, train
from lnl_jax.comparison import make_trainer, stack_settings, tabular
from lnl_jax.comparison.learned_weights import storm
from lnl_jax.comparison.network_pairs import as_pairs, co_teaching, divide_mix, paired
from lnl_jax.comparison.networks import initial_variables
from lnl_jax.comparison.noisy_methods import NOISY_METRICS, measure_noisy, one_loss, refreshed
from lnl_jax.comparison.selected_features import nested_dropout
from lnl_jax.data.splits import stack

SIZE, CLASSES = 40, 3
MODEL = models.MLP(num_classes=CLASSES, hidden=(6,))
NETWORK = tabular(MODEL)
ORDERED = models.NestedDropout(CLASSES, models.MLP(num_classes=6, hidden=()))
RATES = (0.1,)


def part(seed, size=SIZE, noisy=0.3):
    rng = np.random.default_rng(seed)
    clean = np.int32(np.arange(size) % CLASSES)
    x = np.float32(rng.normal(size=(size, 4)))
    x[np.arange(size), clean] += 3
    flipped = rng.random(size) < noisy
    label = np.where(flipped, (clean + 1) % CLASSES, clean).astype(np.int32)
    return {"x": x, "label": label, "clean_label": clean, "index": np.arange(size, dtype=np.int32)}


@pytest.fixture(scope="module")
def data_sets():
    return [
        {"train": part(seed), "validation": part(seed + 10), "test": part(seed + 20, noisy=0)}
        | {"known": {"validation": part(seed + 10)}}
        for seed in range(2)
    ]


def first_step(noisy, data_sets, model=MODEL, setting=0):
    """The loss function of the first data set at the start, on a batch of all its examples."""
    params = noisy.prepare(at_start(model))
    params = jax.tree.map(lambda array: np.asarray(array)[0], params)
    batch = data_sets[0]["train"] | {"mask": np.ones(SIZE, bool), "position": np.arange(SIZE)}
    chosen = {k: np.float32(v) for k, v in noisy.method.settings[setting].items()}
    call = functools.partial(noisy.method.loss_fn, chosen, data_sets[0]["known"])
    return call, params, noisy.method.extra, batch


@functools.cache
def at_start(model):
    """Its variables of two data sets, of which the numbers do not matter."""
    return jax.device_get(initial_variables(model, np.zeros((1, 4), np.float32), range(2)))


@jax.jit
def cross_entropies(pair, batch):
    scores = jax.vmap(MODEL.apply, (0, None))(pair, batch["x"])
    return jax.vmap(optax.softmax_cross_entropy_with_integer_labels, (0, None))(
        scores, batch["label"]
    )


def test_a_pair_are_two_networks_and_their_mean(data_sets):
    variables, x = at_start(MODEL), data_sets[0]["train"]["x"]

    @jax.jit
    def together_and_apart(variables):
        one = jax.tree.map(lambda array: array[0], as_pairs(variables))
        separate = [MODEL.apply(jax.tree.map(lambda a, i=i: a[i], variables), x) for i in (0, 1)]
        return paired(NETWORK).scores(one, (), {}, {"x": x}), separate

    found, separate = together_and_apart(variables)
    np.testing.assert_allclose(found, np.mean(separate, 0), rtol=1e-5, atol=1e-6)


def test_one_network_is_no_pair():
    with pytest.raises(ValueError, match="variables must be of at least two data sets.*got one"):
        as_pairs({"kernel": jnp.ones((1, 3))})


def test_co_teaching_starts_with_all_and_ends_with_what_the_other_network_chose(data_sets):
    noisy = co_teaching(RATES, network=NETWORK, total_steps=100)
    call, params, (_, stats), batch = first_step(noisy, data_sets, setting=2)
    values = np.asarray(cross_entropies(params, batch))
    call = jax.jit(call)
    found, _ = call(params, (np.int32(0), stats), (), batch, jax.random.key(0))
    np.testing.assert_allclose(found, values.sum(0), rtol=1e-5)
    found, _ = call(params, (np.int32(50), stats), (), batch, jax.random.key(0))
    weights = jax.jit(reweighting.co_teaching_weights)(values, forget_rate=0.6)
    np.testing.assert_allclose(found, (np.asarray(weights) / 0.4 * values).sum(0), rtol=1e-5)


def test_divide_mix_warms_up_with_cross_entropy_and_then_believes_the_other_mixture(data_sets):
    noisy = divide_mix(
        RATES, network=NETWORK, total_steps=100, num_examples=SIZE, steps_per_epoch=1
    )
    call, params, (_, (stats, _)), batch = first_step(noisy, data_sets, setting=1)
    clean = np.float32([np.ones(SIZE), np.linspace(0.1, 0.9, SIZE)])
    call = jax.jit(call)
    found, _ = call(params, (np.int32(0), (stats, clean)), (), batch, jax.random.key(0))
    plain = np.asarray(cross_entropies(params, batch))
    np.testing.assert_allclose(found, plain.sum(0), rtol=1e-5)
    found, _ = call(params, (np.int32(60), (stats, clean)), (), batch, jax.random.key(0))
    logits = jax.jit(jax.vmap(MODEL.apply, (0, None)))(params, batch["x"])
    p = special.softmax(np.float64(logits), -1)
    expected, y = 0, np.eye(CLASSES)[batch["label"]]
    for own, other in ((0, 1), (1, 0)):
        w = np.float64(clean[other])[:, None]
        refined = (w * y + (1 - w) * p[own]) ** 2
        refined /= refined.sum(-1, keepdims=True)
        guess = p.mean(0) ** 2
        guess /= guess.sum(-1, keepdims=True)
        labelled = -(refined * np.log(p[own])).sum(-1)
        unlabelled = 25 * ((p[own] - guess) ** 2).mean(-1)
        penalty = -np.log(CLASSES * p[own].mean(0)).mean()
        expected = expected + np.where(w[:, 0] > 0.5, labelled, unlabelled) + penalty
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def trained(noisy, data_sets, model=MODEL, steps=2):
    params = noisy.prepare(at_start(model))
    trainer = make_trainer(noisy.method, lambda step: 1.0, functools.partial(measure_noisy, noisy))
    parts = stack(data_sets) | {"seed": np.arange(2), "params": params}
    runs = train.in_lanes(trainer, stack_settings(noisy.method.settings), parts)
    runs = refreshed(noisy, runs, data_sets)
    rows = {
        "position": np.tile(np.arange(SIZE), (steps, 2, 1)),
        "mask": np.ones((steps, 2, SIZE), bool),
    }
    state, metrics = runs.run_steps(runs.state, rows)
    return state, metrics, runs.measure(state)


def test_the_mixture_is_fitted_anew_before_every_epoch(data_sets):
    noisy = divide_mix(
        RATES,
        network=NETWORK,
        total_steps=100,
        num_examples=SIZE,
        steps_per_epoch=1,
        unlabelled_weights=(1.0,),
    )
    before = noisy.prepare(at_start(MODEL))
    state, _, measured = trained(noisy, data_sets)
    _, (_, clean) = state.extra
    for data_set in range(2):
        pair = jax.tree.map(lambda array, at=data_set: array[at], before)
        batch = data_sets[data_set]["train"]
        for network, losses in enumerate(np.asarray(cross_entropies(pair, batch))):
            expected = label_models.loss_mixture(losses).clean
            np.testing.assert_allclose(clean[data_set, 0, network], expected, atol=2e-3)
    assert np.isfinite(measured["suspicion"]).all()


def test_nested_dropout_keeps_the_features_that_its_key_draws(data_sets):
    noisy = nested_dropout(RATES, model=ORDERED, total_steps=10, deviations=(2.0,))
    call, params, extra, batch = first_step(noisy, data_sets, ORDERED)
    law = np.float32(models.prefix_probabilities(6, deviation=2.0))

    @jax.jit
    def by_key(key):
        size = 1 + jax.random.choice(key, 6, p=law)
        scores = ORDERED.apply(params, batch["x"], size=size)
        expected = optax.softmax_cross_entropy_with_integer_labels(scores, batch["label"])
        return call(params, extra, (), batch, key)[0], expected

    for seed in range(3):
        np.testing.assert_allclose(*by_key(jax.random.key(seed)), rtol=1e-5)


def test_the_rescaler_of_storm_moves_along_its_meta_gradient_alone(data_sets):
    noisy = storm(RATES, network=NETWORK, rescaler_rates=(1.0,))
    call, params, extra, batch = first_step(noisy, data_sets)
    key = jax.random.key(1)

    def total(params):
        return call(params, extra, (), batch, key)[0].mean()

    gradient = jax.jit(jax.grad(total))(params)

    # At the start all weights are a half, and the network follows the plain losses.
    @jax.jit
    @jax.grad
    def plain_gradient(p):
        scores = MODEL.apply(p, batch["x"])
        return optax.softmax_cross_entropy_with_integer_labels(scores, batch["label"]).mean()

    plain = plain_gradient(params["network"])
    for one, other in zip(
        jax.tree.leaves(gradient["network"]), jax.tree.leaves(plain), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert np.abs(gradient["rescaler"]["kernel"]).max() > 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "model"),
    [
        (functools.partial(one_loss, "elr_step", network=NETWORK, total_steps=60), MODEL),
        (functools.partial(one_loss, "sop_step", network=NETWORK, total_steps=60), MODEL),
        (functools.partial(co_teaching, network=NETWORK, total_steps=60), MODEL),
        (functools.partial(storm, network=NETWORK), MODEL),
        (functools.partial(nested_dropout, model=ORDERED, total_steps=60), ORDERED),
    ],
    ids=["elr", "sop", "co_teaching", "storm", "nested_dropout"],
)
def test_after_training_the_suspicion_is_better_than_chance(make, model, data_sets):
    _, metrics, measured = trained(make(RATES), data_sets, model, steps=60)
    assert set(NOISY_METRICS) - {"loss"} <= set(measured)
    assert np.isfinite(metrics["loss"]).all()
    assert measured["suspicion"].mean(0).max() > 0.6
    assert measured["accuracy"].mean(0).max() > 0.7
