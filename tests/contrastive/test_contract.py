"""Every function of the room against its definition in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import contrastive
from tests.contrastive import cases
from tests.contrastive.test_contrastive import unit

pytestmark = pytest.mark.usefixtures("small_tiles")

SIZE, KEYS = 5, 8


@pytest.fixture
def batch(rng):
    """With captions of one image twice, a mask, places of positives, and rows, one of them new."""
    rows = contrastive.ContrastiveRows(
        jnp.linspace(0.2, 0.8, SIZE), jnp.linspace(-1.0, 1.0, SIZE), jnp.linspace(-0.2, 0.2, SIZE)
    )
    rows = rows._replace(log_u=rows.log_u.at[1].set(-jnp.inf))
    given = {
        "positives": jnp.array([3, 1, 0, 4, 6]),
        "query_index": jnp.array([10, 11, 12, 13, 14]),
        "key_index": jnp.array([12, 11, 11, 10, 13, 20, 14, 21]),
        "where": jnp.asarray(rng.random((SIZE, KEYS)) < 0.8),
    }
    return unit(rng, SIZE, 3), unit(rng, KEYS, 3), rows, given


def anchors(queries, keys, rows, given):
    """As `cases.Anchor`, each with the similarities that are left to it."""
    queries, keys = np.float64(queries), np.float64(keys)
    places, of_queries, of_keys, where = (np.asarray(part) for part in given.values())
    for i, query in enumerate(queries):
        left = where[i] & (of_keys != of_queries[i]) & (np.arange(KEYS) != places[i])
        row = [float(part[i]) for part in rows]
        yield cases.Anchor(query @ keys[places[i]], keys[left] @ query, *row)


def expected(name, batch):
    each = [cases.CASES[name](one) for one in anchors(*batch)]
    return jax.tree.map(lambda *parts: np.array(parts), *each)


def check(name, actual, expected):
    actual, expected = jax.tree.leaves(actual), jax.tree.leaves(expected)
    for ours, defined in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, defined, rtol=2e-5, atol=2e-6, err_msg=name)


def test_every_public_name_has_its_definition_or_a_reason():
    assert set(cases.CASES) | set(cases.ELSEWHERE) == set(contrastive.__all__)
    assert not set(cases.CASES) & set(cases.ELSEWHERE)


@pytest.mark.parametrize("size", [None, 2])
def test_functions_are_as_defined(batch, size):
    queries, keys, rows, given = batch
    compute = jax.jit(
        lambda queries, keys, rows, given: cases.results(queries, keys, rows, given, size)
    )
    found = compute(queries, keys, rows, given)
    for name, actual in found.items():
        check(name, actual, expected(name, batch))
    # The next test has these.
    assert set(cases.CASES) - set(found) == {"fastclip", "similarity_statistics"}


def test_functions_of_one_temperature_and_of_similarities_are_as_defined(batch):
    queries, keys, rows, given = batch
    one = rows._replace(temperature=jnp.full(SIZE, 0.3))

    @jax.jit
    def compute(queries, keys, log_u, given):
        settings = {"temperature": 0.3, "rho": cases.RHO, "gamma": cases.GAMMA}
        return contrastive.fastclip(queries, keys, log_u, **settings, **given)

    found = compute(queries, keys, rows.log_u, given)
    check("fastclip", found, expected("fastclip", (queries, keys, one, given)))

    each = list(anchors(*batch))
    longest = max(len(one.negatives) for one in each)
    padded = np.array([np.resize(one.negatives, longest) for one in each], np.float32)
    where = np.array([np.arange(longest) < len(one.negatives) for one in each])
    positive = np.float32([one.positive for one in each])
    found = jax.jit(contrastive.similarity_statistics)(
        positive, padded, temperature=rows.temperature, where=where
    )
    check("similarity_statistics", found, expected("similarity_statistics", batch))


def test_the_inner_rate_is_as_defined():
    epochs = jnp.array([0, 1, 4, 5, 9])
    found = contrastive.cosine_gamma(epochs, minimum=0.2, decay_epochs=5)
    defined = [cases.cosine_gamma(epoch, 0.2, 5) for epoch in epochs.tolist()]
    np.testing.assert_allclose(found, defined, rtol=1e-6)


def test_the_rate_of_scent_is_as_defined():
    log_u = jnp.array([-jnp.inf, -200.0, -3.0, 0.0, 5.0])
    found = contrastive.scent_gamma(log_u, log_step=1.5)
    defined = [cases.scent_gamma(row, 1.5) for row in log_u.tolist()]
    np.testing.assert_allclose(found, defined, rtol=1e-6, atol=1e-37)
    # What is nothing in float32 is not 0, which is no rate.
    assert found[1] > 0
