"""Contrastive losses: blocks against all at once, closed forms, edges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from lnl_jax import contrastive, losses

pytestmark = pytest.mark.usefixtures("small_tiles")

NEW = -jnp.inf
LEARNT = contrastive.Temperatures(rho=0.3, step=0.03, momentum=0.5, range=(0.05, 1.0))
SETTINGS = {"gamma": 0.8, "temperatures": LEARNT}
SHARP = SETTINGS | {"temperatures": LEARNT._replace(range=(0.005, 1.0))}


def unit(rng, *shape):
    vectors = rng.normal(size=shape)
    return jnp.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), jnp.float32)


def fresh(size, temperature=0.1):
    return contrastive.ContrastiveRows(
        jnp.full(size, temperature), jnp.full(size, NEW), jnp.zeros(size)
    )


def visited(size, temperature=0.1):
    return fresh(size, temperature)._replace(log_u=jnp.linspace(-1.0, 1.0, size))


def sogclr(queries, keys, **kwargs):
    log_u = visited(queries.shape[-2]).log_u
    return contrastive.sogclr(queries, keys, log_u, temperature=0.1, gamma=0.8, **kwargs)


def isogclr(queries, keys, temperature=0.1, **kwargs):
    rows = visited(queries.shape[-2], temperature)
    return contrastive.isogclr(queries, keys, rows, **SHARP, **kwargs)


def fastclip(queries, keys, **kwargs):
    log_u = visited(queries.shape[-2]).log_u
    return contrastive.fastclip(queries, keys, log_u, temperature=0.1, rho=0.3, gamma=0.8, **kwargs)


# The losses, or a tuple of them, the new state and what else there is to see.
LOSSES = {
    "info_nce": functools.partial(contrastive.info_nce, temperature=0.1),
    "info_nce_sharp": functools.partial(contrastive.info_nce, temperature=0.005),
    "decoupled": functools.partial(contrastive.decoupled_contrastive, temperature=0.1),
    "sigmoid": functools.partial(contrastive.sigmoid_contrastive, temperature=0.1, bias=-2.0),
    "sogclr": sogclr,
    "isogclr": isogclr,
    "isogclr_sharp": functools.partial(isogclr, temperature=0.005),
    "fastclip": fastclip,
}


def value_and_gradients(name, queries, keys, block_size):
    def total(queries, keys):
        result = LOSSES[name](queries, keys, block_size=block_size)
        values = result[0] if isinstance(result, tuple) else result
        return values.astype(jnp.float32).sum(), result

    (_, result), gradients = jax.value_and_grad(total, (0, 1), has_aux=True)(queries, keys)
    return result, gradients


# Blocks of one, of some that divide neither ten anchors nor 13 keys, of more.
ALL_SIZES = pytest.param((1, 4, 64), marks=pytest.mark.slow)


def slow(*but_fast):
    """All losses, the others only in the slow tests."""
    return [n if n in but_fast else pytest.param(n, marks=pytest.mark.slow) for n in LOSSES]


@pytest.mark.parametrize("sizes", [(4,), ALL_SIZES])
@pytest.mark.parametrize("name", slow("sigmoid", "isogclr"))
def test_blocks_change_nothing(rng, name, sizes):
    # Two views of five examples.
    queries, keys = unit(rng, 2, 5, 8), unit(rng, 13, 8)
    sizes = (None, *sizes)
    each = jax.jit(lambda *pair: [value_and_gradients(name, *pair, size) for size in sizes])
    dense, *blocked = each(queries, keys)
    for one in blocked:
        for actual, expected in zip(jax.tree.leaves(one), jax.tree.leaves(dense), strict=True):
            scale = 1 + np.abs(expected[np.isfinite(expected)]).max()
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * scale)


def test_blocks_do_not_change_the_gradients_of_temperature_and_bias(rng):
    queries, keys = unit(rng, 10, 8), unit(rng, 13, 8)
    weights = jnp.asarray(rng.random(10), jnp.float32)

    @jax.jit
    def gradients(temperature, bias):
        def total(temperature, bias, block_size):
            given = {"temperature": temperature, "block_size": block_size}
            values = contrastive.info_nce(queries, keys, **given)
            return weights @ (
                values + contrastive.sigmoid_contrastive(queries, keys, bias=bias, **given)
            )

        return [jax.grad(total, (0, 1))(temperature, bias, size) for size in (None, 4)]

    dense, blocked = gradients(jnp.linspace(0.1, 1.0, 10), jnp.float32(-1.0))
    for actual, expected in zip(blocked, dense, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["info_nce", "sigmoid", "isogclr"])
@pytest.mark.parametrize("block_size", [2, 8])
def test_blocks_in_half_precision(rng, name, block_size):
    queries, keys = unit(rng, 5, 8).astype(jnp.bfloat16), unit(rng, 5, 8).astype(jnp.bfloat16)
    sizes = (None, block_size)
    each = jax.jit(lambda *pair: [value_and_gradients(name, *pair, size) for size in sizes])
    (result, gradients), blocked = each(queries, keys)
    exact = jax.tree.leaves((result, blocked[0]))
    half = len(exact) // 2
    for actual, expected in zip(exact[half:], exact[:half], strict=True):
        assert actual.dtype == expected.dtype
        np.testing.assert_allclose(*np.float32((actual, expected)), rtol=1e-5, atol=1e-5)
    for actual, expected in zip(blocked[1], gradients, strict=True):
        assert actual.dtype == jnp.bfloat16
        actual, expected = np.float32((actual, expected))
        # Weights and gradients are rounded to eight bits, here in another order.
        np.testing.assert_allclose(actual, expected, atol=2**-7 * np.abs(expected).max())


@pytest.mark.parametrize("name", slow("isogclr"))
def test_huge_similarities_stay_finite(rng, name):
    queries, keys = 300 * unit(rng, 4, 8), 300 * unit(rng, 4, 8)
    each = jax.jit(lambda *pair: [value_and_gradients(name, *pair, size) for size in (None, 3)])
    for part in jax.tree.leaves(each(queries, keys)):
        assert np.isfinite(part).all()


def shapes(jaxpr):
    """Of every intermediate value, in loops and custom gradients too."""
    for equation in jaxpr.eqns:
        yield from (v.aval.shape for v in equation.outvars if hasattr(v.aval, "shape"))
        for inner in jaxprs_in_params(equation.params):
            yield from shapes(inner)


@pytest.mark.parametrize("name", LOSSES)
def test_no_intermediate_has_all_pairs(name):
    def largest(block_size):
        x = jnp.zeros((64, 4))
        jaxpr = jax.make_jaxpr(lambda *pair: value_and_gradients(name, *pair, block_size))(x, x)
        return max(int(np.prod(shape)) for shape in shapes(jaxpr.jaxpr))

    assert largest(None) == 64 * 64
    # Those of the embeddings.
    assert largest(8) == 64 * 4


def test_temperatures_settle_where_the_divergence_is_rho(float64, rng):
    queries, keys = unit(rng, 30, 4).astype(jnp.float64), unit(rng, 30, 4).astype(jnp.float64)
    settings = {"gamma": 1.0, "temperatures": LEARNT._replace(step=0.1, momentum=1.0)}

    def visit(rows, _):
        _, rows, aux = contrastive.isogclr(queries, keys, rows, **settings)
        return rows, aux

    rows = jax.tree.map(lambda part: part.astype(jnp.float64), fresh(30, 0.3))
    _, aux = jax.jit(lambda rows: jax.lax.scan(visit, rows, length=3000))(rows)
    inside = aux["at_bounds"][-1] == 0
    assert inside.sum() > 20
    np.testing.assert_allclose(aux["kl"][-1][inside], 0.3, atol=1e-6)


def test_sogclr_at_the_rate_of_scent_moves_as_its_step_does(rng):
    queries, keys = unit(rng, 6, 4), unit(rng, 6, 4)
    before = visited(6).log_u.at[2].set(NEW)
    estimate = contrastive.difference_to_positive(
        contrastive.contrastive_statistics(queries, keys, temperature=0.2)
    )
    for log_step in (-2.0, 1.0, 10.0):
        gamma = contrastive.scent_gamma(before, log_step=log_step)
        _, moved, _ = contrastive.sogclr(queries, keys, before, temperature=0.2, gamma=gamma)
        expected = losses.log_normalizer_step(before, estimate.log_inner, log_step=log_step)
        np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-6)


def test_examples_with_rates_of_their_own_are_as_with_one_rate_each(rng):
    views, rows = unit(rng, 2, 3, 4), visited(3)
    each = jnp.array([0.1, 0.5, 1.0])
    found = contrastive.isogclr(views, views, rows, gamma=each, temperatures=LEARNT)
    for at, gamma in enumerate(each.tolist()):
        alone = contrastive.isogclr(views, views, rows, gamma=gamma, temperatures=LEARNT)
        for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(ours[at], theirs[at], rtol=1e-6)


PAPER, RAW = contrastive.difference_to_positive, contrastive.raw_similarity


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "batch_size", "visits", "shared", "left"),
    [
        (PAPER, 4, 400, 1, 0.44),
        (PAPER, 8, 800, 1, 0.40),
        (PAPER, 16, 1600, 1, 0.34),
        (PAPER, 32, 2400, 1, 0.26),
        (PAPER, 64, 3200, 1, 0.20),
        (RAW, 4, 400, 1, 0.51),
        (RAW, 8, 800, 1, 0.46),
        (RAW, 16, 1600, 1, 0.38),
        (RAW, 32, 2400, 1, 0.29),
        (RAW, 64, 3200, 1, 0.22),
        # Here a positive is no nearer than any other key: more than 0.6 is left.
        (PAPER, 4, 400, 0, 0.67),
    ],
)
def test_the_moving_average_takes_most_of_the_bias_of_small_batches(
    rng, estimator, batch_size, visits, shared, left
):
    """The mean gradient of many batches against that of the objective over all 400 pairs.

    A pair is a direction and the same, if it is shared, with as much noise. What is left at a gamma
    of 0.1 are the numbers in the docstring of `sogclr`, means over three sets of pairs.
    """
    x, tau = rng.normal(size=(400, 8)), 0.1
    x, y = (
        jnp.float32(part / np.linalg.norm(part, axis=-1, keepdims=True))
        for part in (x, shared * x + rng.normal(size=x.shape))
    )
    used = 400 // batch_size * batch_size

    def batches(epochs):
        order = rng.permuted(np.tile(np.arange(400), (epochs, 1)), axis=1)
        return jnp.asarray(order[:, :used].reshape(-1, batch_size))

    def objective(x, y):
        s = x @ y.T
        h = jnp.where(jnp.eye(400, dtype=bool), -jnp.inf, s - jnp.diagonal(s)[:, None])
        return tau * (jax.nn.logsumexp(h / tau, -1) - np.log(399)).mean()

    def step(gamma, carry, places):
        log_u, sums = carry

        def total(x, y):
            values, new, _ = contrastive.sogclr(
                x, y, log_u[places], temperature=tau, gamma=gamma, estimator=estimator
            )
            return values.mean(), new

        gradients, new = jax.grad(total, (0, 1), has_aux=True)(x[places], y[places])
        sums = [a.at[places].add(g) for a, g in zip(sums, gradients, strict=True)]
        return (log_u.at[places].set(new), sums), None

    @jax.jit
    def walk(gamma, log_u, batches):
        start = (log_u, [jnp.zeros_like(x), jnp.zeros_like(y)])
        (log_u, sums), _ = jax.lax.scan(functools.partial(step, gamma), start, batches)
        return log_u, jnp.stack(sums) / len(batches)

    exact = jnp.stack(jax.jit(jax.grad(objective, (0, 1)))(x, y))

    def bias(gamma):
        log_u, _ = walk(gamma, jnp.full(400, NEW), batches(visits // 8))
        errors = []
        for _ in range(4):
            log_u, found = walk(gamma, log_u, batches(visits // 4))
            errors.append(np.ravel(found - exact))
        # Products of different parts have no noise of their own in the mean.
        products = np.stack(errors) @ np.stack(errors).T
        return np.sqrt((products.sum() - np.trace(products)) / 12)

    ratio = bias(jnp.float32(0.1)) / bias(jnp.float32(1.0))
    assert ratio == pytest.approx(left, abs=0.02)
    assert not shared or ratio < 0.6


@pytest.mark.parametrize(("some", "block_size"), [(True, None), (False, 2)])
def test_a_row_without_negatives_stays(rng, some, block_size):
    z, rows = unit(rng, 3, 4), visited(3)
    where = jnp.array([[some], [False], [some]])

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient_and_state(z):
        values, new, aux = contrastive.isogclr(
            z, z, rows, where=where, block_size=block_size, **SETTINGS
        )
        return values.sum(), (values, new, aux)

    gradient, (values, new, aux) = gradient_and_state(z)
    assert ((values == 0) == ~where[:, 0]).all()
    for after, before in zip(new, rows, strict=True):
        assert ((after == before) == ~where[:, 0]).all()
    assert all(np.isfinite(part).all() for part in jax.tree.leaves((gradient, aux)))


def test_the_learnt_temperature_has_the_gradient_of_the_objective(float64, rng):
    z, y = unit(rng, 6, 4).astype(jnp.float64), unit(rng, 6, 4).astype(jnp.float64)

    def total(tau):
        new = jnp.full(6, NEW)
        return contrastive.fastclip(z, y, new, temperature=tau, rho=0.5, gamma=1.0)[0].sum()

    value = jax.jit(total)
    slope = (value(0.2 + 1e-6) - value(0.2 - 1e-6)) / 2e-6
    np.testing.assert_allclose(jax.jit(jax.grad(total))(0.2), slope, rtol=1e-6)


def test_the_surrogate_has_the_gradient_of_the_objective(float64, rng):
    """At a first visit, and by the embeddings of anchors and of keys."""
    z, y = unit(rng, 5, 4).astype(jnp.float64), unit(rng, 7, 4).astype(jnp.float64)

    def surrogate(z, y):
        return contrastive.sogclr(z, y, jnp.full(5, NEW), temperature=0.2, gamma=0.8)[0].sum()

    def objective(z, y):
        s = z @ y.T
        negatives = jnp.where(jnp.eye(5, 7, dtype=bool), -jnp.inf, s)
        return (0.2 * jax.nn.logsumexp(negatives / 0.2, -1) - jnp.diagonal(s)).sum()

    both = jax.jit(lambda *pair: [jax.grad(f, (0, 1))(*pair) for f in (surrogate, objective)])
    for actual, expected in zip(*both(z, y), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


def test_no_gradient_flows_to_the_state_and_the_hyperparameters(rng):
    z = unit(rng, 4, 4)
    rates = jax.tree.map(jnp.float32, SETTINGS)

    @jax.jit
    @jax.grad
    def gradient(given):
        rows, rates = given
        values, new, aux = contrastive.isogclr(z, z, rows, **rates)
        return values.sum() + sum(part.sum() for part in jax.tree.leaves((new, aux)))

    of_rows, of_rates = gradient((visited(4), rates))
    assert all((part == 0).all() for part in jax.tree.leaves((of_rows, of_rates)))


def test_a_vector_of_temperatures_belongs_to_the_anchors(rng):
    z, y = unit(rng, 3, 4), unit(rng, 5, 4)
    tau = jnp.array([0.1, 0.3, 1.0])
    each = jax.jit(lambda tau: contrastive.info_nce(z, y, temperature=tau))
    for i, own in enumerate(tau):
        np.testing.assert_allclose(each(tau)[i], each(jnp.full(3, own))[i], rtol=1e-6)


def test_keys_of_the_same_example_are_no_negatives(rng):
    z, captions = unit(rng, 3, 4), unit(rng, 6, 4)
    index = jnp.arange(3)
    statistics = functools.partial(contrastive.contrastive_statistics, temperature=0.1)
    belongs = {"query_index": index, "key_index": jnp.repeat(index, 2), "positives": 2 * index}
    ours = jax.jit(statistics)(z, captions, **belongs)
    assert ours.count.tolist() == [4, 4, 4]
    others = np.delete(np.asarray(captions), [2, 3], axis=0)
    expected = np.log(np.exp(others @ z[1] / 0.1).sum())
    np.testing.assert_allclose(ours.log_sum[1], expected, rtol=1e-5)


def test_a_radius_out_of_reach_is_warned_of(rng):
    z, settings = unit(rng, 4, 4), SETTINGS | {"temperatures": LEARNT._replace(rho=2.0)}
    with pytest.warns(UserWarning, match="at most 1.10"):
        jax.eval_shape(lambda z: contrastive.isogclr(z, z, fresh(4), **settings), z)


def test_a_key_that_is_not_finite_shows_in_blocks_as_at_once(rng):
    queries, keys = unit(rng, 4, 3), unit(rng, 4, 3).at[2, 1].set(jnp.nan)
    each = jax.jit(
        lambda *pair: [value_and_gradients("decoupled", *pair, size) for size in (None, 3)]
    )
    at_once, blocked = map(jax.tree.leaves, each(queries, keys))
    for actual, expected in zip(blocked, at_once, strict=True):
        np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    assert np.isnan(blocked[1]).any()


def test_an_index_out_of_range_gives_nan(rng):
    z, places = unit(rng, 3, 4), jnp.array([0, 5, 2])
    values = jax.jit(lambda z: contrastive.info_nce(z, z, temperature=0.1, positives=places))(z)
    assert np.isnan(values).tolist() == [False, True, False]
