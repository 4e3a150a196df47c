"""Gradients where embeddings are zero or equal, similarities tied, temperatures at a bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import contrastive
from tests.contrastive.test_contrastive import LEARNT, SETTINGS, unit

pytestmark = pytest.mark.usefixtures("small_tiles")


def values(queries, keys, temperature, size):
    """``name -> (what is differentiated, what has that gradient)``, sums over the batch.

    At a first visit the surrogates of global losses have the gradient of their objectives.
    """
    new, given = jnp.full(4, -jnp.inf), {"block_size": size}
    rows = contrastive.ContrastiveRows(jnp.full(4, temperature), new, jnp.zeros(4))
    held = {"temperature": jax.lax.stop_gradient(temperature)} | given
    info_nce = contrastive.info_nce(queries, keys, temperature=temperature, **given)
    decoupled = contrastive.decoupled_contrastive(queries, keys, temperature=temperature, **given)
    sigmoid = contrastive.sigmoid_contrastive(
        queries, keys, temperature=temperature, bias=0.0, **given
    )
    sogclr, _, seen = contrastive.sogclr(queries, keys, new, gamma=1.0, **held)
    isogclr, _, also = contrastive.isogclr(queries, keys, rows, **SETTINGS, **given)
    given |= {"temperature": temperature, "rho": 0.3, "gamma": 1.0}
    fastclip = contrastive.fastclip(queries, keys, new, **given)[0]
    pairs = {
        "info_nce": (info_nce, info_nce),
        "decoupled": (decoupled, decoupled),
        "sigmoid": (sigmoid, sigmoid),
        "sogclr": (sogclr, seen["objective"]),
        "isogclr": (isogclr, also["objective"]),
        "fastclip": (fastclip, fastclip),
    }
    return {name: [part.sum() for part in pair] for name, pair in pairs.items()}


def points(rng):
    """``[cases, ...]`` queries and keys of 2 dimensions."""
    zero, one, some = np.zeros((4, 2)), np.ones((4, 2)), np.float64(unit(rng, 4, 2))
    # Each key twice, so that the highest similarity is tied.
    twice = some[[0, 0, 1, 1]]
    pairs = [(zero, zero), (-zero, zero), (one, one), (zero, some), (some, zero), (some, twice)]
    return [np.stack(part) for part in zip(*pairs, strict=True)]


@pytest.mark.parametrize("size", [None, 2])
def test_gradients_at_special_points_are_those_of_differences(float64, rng, size):
    """Temperatures of 0.05 and 1 are the bounds of the rows."""
    queries, keys = (np.concatenate([part, part]) for part in points(rng))
    tau = np.repeat([0.05, 1.0], len(queries) // 2)

    @jax.jit
    def each(cases):
        def of_case(case):
            def parts(which, flat, tau):
                pair = flat.reshape(2, 4, 2)
                return {name: both[which] for name, both in values(*pair, tau, size).items()}

            flat, tau = jnp.concatenate([part.ravel() for part in case[:2]]), case[2]
            given = jax.jacrev(lambda flat: parts(0, flat, tau))(flat)
            step = 1e-6 * jnp.eye(16)
            moved = jnp.concatenate([flat[None] + step, flat[None] - step])
            found = jax.lax.map(lambda flat: parts(1, flat, tau), moved)
            exact = {name: (part[:16] - part[16:]) / 2e-6 for name, part in found.items()}
            of_tau = jax.grad(lambda tau: parts(0, flat, tau)["fastclip"])(tau)
            up, down = (parts(1, flat, tau + move)["fastclip"] for move in (1e-7, -1e-7))
            return given | {"tau": of_tau}, exact | {"tau": (up - down) / 2e-7}

        return jax.lax.map(of_case, cases)

    given, exact = each(tuple(map(jnp.asarray, (queries, keys, tau))))
    for name, gradient in given.items():
        np.testing.assert_allclose(gradient, exact[name], rtol=1e-6, atol=1e-6, err_msg=name)


def test_half_of_the_gradient_passes_where_a_step_ends_on_a_bound():
    rows = contrastive.ContrastiveRows(*jnp.zeros((3, 3)))

    @jax.jit
    def slopes(temperature):
        def total(temperature):
            moved = contrastive.temperature_step(
                rows._replace(temperature=temperature),
                jnp.zeros(3),
                LEARNT._replace(momentum=1.0, range=(0.5, 2.0)),
            )
            return moved.temperature.sum()

        return jax.grad(total)(temperature)

    assert slopes(jnp.array([0.25, 0.5, 1.0])).tolist() == [0.0, 0.5, 1.0]
    assert slopes(jnp.array([1.5, 2.0, 4.0])).tolist() == [1.0, 0.5, 0.0]


def test_the_inner_rate_is_smooth_where_it_starts_and_ends(float64):
    slope = jax.vmap(
        jax.grad(lambda epoch: contrastive.cosine_gamma(epoch, minimum=0.2, decay_epochs=4))
    )
    np.testing.assert_allclose(slope(jnp.array([-0.0, 0.0, 4.0])), 0, atol=1e-15)
