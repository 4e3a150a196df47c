"""Second derivatives, and first ones where embeddings are large, of dense and blocked losses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from lnl_jax import contrastive
from tests.contrastive.test_contrastive import LEARNT, shapes, unit
from tests.contrastive.test_contrastive_devices import sharded

pytestmark = pytest.mark.usefixtures("small_tiles")


def info_nce(queries, keys, temperature, bias, size):
    return contrastive.info_nce(queries, keys, temperature=temperature, block_size=size) + 0 * bias


def decoupled(queries, keys, temperature, bias, size):
    given = {"temperature": temperature, "block_size": size}
    return contrastive.decoupled_contrastive(queries, keys, **given) + 0 * bias


def sigmoid(queries, keys, temperature, bias, size):
    given = {"temperature": temperature, "bias": bias, "block_size": size}
    return contrastive.sigmoid_contrastive(queries, keys, **given)


LOSSES = {"info_nce": info_nce, "decoupled": decoupled, "sigmoid": sigmoid}


def sogclr(queries, keys, temperature, log_u, gamma, rho, size):
    given = {"temperature": temperature, "gamma": gamma, "block_size": size}
    return contrastive.sogclr(queries, keys, log_u, **given)[0] + 0 * rho


def isogclr(queries, keys, temperature, log_u, gamma, rho, size):
    rows = contrastive.ContrastiveRows(temperature, log_u, jnp.zeros_like(log_u))
    given = {"temperatures": LEARNT._replace(rho=rho), "gamma": gamma, "block_size": size}
    return contrastive.isogclr(queries, keys, rows, **given)[0]


def fastclip(queries, keys, temperature, log_u, gamma, rho, size):
    given = {"temperature": temperature[0], "rho": rho, "gamma": gamma, "block_size": size}
    return contrastive.fastclip(queries, keys, log_u, **given)[0]


# These have weights that are held: their second derivative is that of the gradient which they give.
GLOBAL = {"sogclr": sogclr, "isogclr": isogclr, "fastclip": fastclip}


def products_and_differences(total, point, direction):
    """Of the second derivative with a direction: backward twice, forward over backward, exact."""
    flat, restore = ravel_pytree(point)
    gradient = jax.grad(lambda flat: total(*restore(flat)))
    backward = jax.grad(lambda flat: gradient(flat) @ direction)(flat)
    forward = jax.jvp(gradient, (flat,), (direction,))[1]
    step = 1e-5 * jnp.eye(len(flat))
    # One row per coordinate that moves.
    each = jax.lax.map(gradient, jnp.concatenate([flat[None] + step, flat[None] - step]))
    exact = (each[: len(flat)] - each[len(flat) :]) / 2e-5
    return backward, exact @ direction, forward, direction @ exact


def second_derivatives(losses, point, size, rng):
    """Of each loss, a weighted sum of its values."""
    point = jax.tree.map(lambda part: jnp.asarray(part, jnp.float64), point)
    weights = jnp.asarray(rng.random(5))
    direction = jnp.asarray(rng.normal(size=len(ravel_pytree(point)[0])))

    @jax.jit
    def each(point, direction):
        def total(loss, *point):
            return weights @ loss(*point, size)

        totals = [functools.partial(total, loss) for loss in losses.values()]
        return [products_and_differences(total, point, direction) for total in totals]

    return dict(zip(losses, each(point, direction), strict=True))


def check(found):
    for name, (backward, of_rows, forward, of_columns) in found.items():
        scale = np.abs(of_rows).max()
        np.testing.assert_allclose(backward, of_rows, atol=1e-7 * scale, err_msg=name)
        np.testing.assert_allclose(forward, of_columns, atol=1e-7 * scale, err_msg=name)


@pytest.mark.parametrize("size", [None, 2])
def test_second_derivatives_are_those_of_differences(float64, rng, size):
    point = (unit(rng, 5, 4), unit(rng, 7, 4), np.linspace(0.1, 1.0, 5), -1.0)
    check(second_derivatives(LOSSES, point, size, rng))


@pytest.mark.parametrize("size", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_second_derivatives_of_global_losses_are_those_of_differences(float64, rng, size):
    """By embeddings, temperatures, rows and hyperparameters, a gamma of 1 and new rows as well."""
    pair, tau = (unit(rng, 5, 4), unit(rng, 7, 4)), np.linspace(0.1, 1.0, 5)
    point = (*pair, tau, np.linspace(-1.0, 1.0, 5), 0.8, 0.3)
    check(second_derivatives(GLOBAL, point, size, rng))


def test_global_losses_have_finite_second_derivatives_at_a_gamma_of_one_and_new_rows(rng):
    pair = (unit(rng, 5, 4), unit(rng, 7, 4))

    @jax.jit
    def products(queries, keys, gamma, log_u):
        def along(loss, *pair):
            tau, rho = jnp.full(5, 0.2), jnp.float32(0.3)

            def total(*pair):
                return loss(*pair, tau, log_u, gamma, rho, None).sum()

            return sum(part.sum() for part in jax.grad(total, (0, 1))(*pair))

        each = [functools.partial(along, loss) for loss in GLOBAL.values()]
        return [jax.grad(one, (0, 1))(queries, keys) for one in each]

    for gamma, start in ((1.0, -jnp.inf), (1.0, 0.0), (1.0, 200.0), (0.5, -jnp.inf)):
        found = products(*pair, jnp.float32(gamma), jnp.full(5, start))
        assert all(np.isfinite(part).all() for part in jax.tree.leaves(found))


def test_second_derivatives_round_the_ring_are_those_of_all_keys(float64, rng):
    queries, keys = (unit(rng, 6, 4).astype(jnp.float64) for _ in range(2))
    temperature = jnp.linspace(0.1, 1.0, 6)
    given = (queries, keys, temperature)
    directions = tuple(jnp.asarray(rng.normal(size=part.shape)) for part in given)

    def total(queries, keys, temperature):
        return contrastive.info_nce(queries, keys, temperature=temperature).sum()

    def own(queries, keys, temperature):
        statistics = contrastive.ring_statistics(
            queries, keys, axis_name="data", temperature=temperature, block_size=2
        )
        return contrastive.info_nce_from_statistics(statistics).sum()

    def product(function, given, directions):
        def along(*given):
            gradients = jax.grad(function, (0, 1, 2))(*given)
            return sum((g * v).sum() for g, v in zip(gradients, directions, strict=True))

        return jax.grad(along, (0, 1, 2))(*given)

    split = jax.sharding.PartitionSpec("data")
    ring = sharded(lambda given, directions: product(own, given, directions), 2, split)
    whole = jax.jit(functools.partial(product, total))
    for actual, expected in zip(ring(given, directions), whole(given, directions), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_no_intermediate_of_a_second_derivative_has_all_pairs(name):
    def product(x, y):
        def along(x, y):
            def total(x, y):
                return LOSSES[name](x, y, jnp.float32(0.1), jnp.float32(0.0), 8).sum()

            return sum(part.sum() for part in jax.grad(total, (0, 1))(x, y))

        return jax.grad(along, (0, 1))(x, y)

    x = jnp.zeros((64, 4))
    found = shapes(jax.make_jaxpr(product)(x, x).jaxpr)
    # One block of anchors keeps what each of its tiles starts from, never similarities.
    assert max(int(np.prod(shape)) for shape in found) <= 8 * 64


NORMS = (1e-3, 1.0, 30.0, 1e3, 1e4)


def large_embeddings(rng, nearly_equal):
    """``[norms, ...]``: keys at random, or each with one that is nearly the same."""
    queries, keys = (np.float64(unit(rng, 24, 8)) for _ in range(2))
    if nearly_equal:
        keys[1::2] = keys[::2] + 1e-3 * rng.normal(size=(12, 8))
    scale = np.reshape(NORMS, (-1, 1, 1))
    return np.float32(scale * queries), np.float32(scale * keys)


def test_gradients_of_large_embeddings_are_as_exact_in_blocks(rng):
    pairs = [large_embeddings(rng, nearly_equal) for nearly_equal in (False, True)]
    cases = (*map(np.concatenate, zip(*pairs, strict=True)), np.full((10, 24), 1.0, np.float32))
    cases = [
        np.concatenate([part, factor * part])
        for part, factor in zip(cases, (1, 1, 0.01), strict=True)
    ]

    def gradients(cases, size):
        def of_each(case):
            queries, keys, tau = case
            bias = jnp.asarray(-1.0, tau.dtype)

            def total(loss, *pair):
                return loss(*pair, tau, bias, size).sum()

            each = (jax.grad(functools.partial(total, loss), (0, 1)) for loss in LOSSES.values())
            return [gradient(queries, keys) for gradient in each]

        return jax.lax.map(of_each, cases)

    def leaves(cases, size):
        compute = jax.jit(functools.partial(gradients, size=size))
        return [np.float64(part) for part in jax.tree.leaves(compute(cases))]

    with jax.enable_x64(True):
        exact = leaves(jax.tree.map(jnp.float64, cases), None)
    for blocked, dense, expected in zip(leaves(cases, 9), leaves(cases, None), exact, strict=True):
        allowed = 3 * np.abs(dense - expected).max((1, 2)) + 1e-6 * np.abs(expected).max((1, 2))
        assert (np.abs(blocked - expected).max((1, 2)) <= allowed).all()


def test_gradients_of_large_embeddings_are_as_exact_round_the_ring(rng):
    queries, keys = (part[-1] for part in large_embeddings(rng, True))

    def own(queries, keys):
        statistics = contrastive.ring_statistics(
            queries, keys, axis_name="data", temperature=0.01, block_size=5
        )
        return contrastive.info_nce_from_statistics(statistics).sum()

    def total(queries, keys):
        return contrastive.info_nce(queries, keys, temperature=0.01).sum()

    split = jax.sharding.PartitionSpec("data")
    ring = sharded(jax.grad(own, (0, 1)), 2, split)(queries, keys)
    with jax.enable_x64(True):
        exact = jax.jit(jax.grad(total, (0, 1)))(jnp.float64(queries), jnp.float64(keys))
    for actual, expected in zip(ring, exact, strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-6 * np.abs(expected).max())
