"""Sparse over-parameterisation against the official code; whose gradient reaches what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from lnl_jax import losses, train
from lnl_jax.losses import SopRows
from tests.losses.formulas import waves

INDEX, LABELS = np.array([4, 0, 2]), np.array([0, 2, 3])
# Eager, each of its operations is a program.
sop_step = jax.jit(losses.sop_step)
# Of gradients of a mean over three examples.
RATES = {"rate_u": 1 / 3, "rate_v": 10 / 3}


def test_three_visits_are_those_of_the_official_code():
    @jax.jit
    def with_gradient(logits, before):
        def mean(logits):
            found = losses.sop_step(logits, LABELS, before, **RATES)
            return found[0].mean(), found

        return jax.value_and_grad(mean, has_aux=True)(logits)

    with jax.enable_x64(True):
        table = SopRows(waves(6, 1, 0.2, 0.3)[:, 0], waves(6, 4, 0.5, 0.3))
        found = []
        for visit in range(3):
            before = SopRows(table.u[INDEX], table.v[INDEX])
            logits = np.asarray(waves(3, 4, 0.3 + 0.4 * visit, 2.0))
            (_, (values, rows)), gradient = with_gradient(logits, before)
            table.u[INDEX], table.v[INDEX] = rows
            found.append(np.mean(values))
            if visit == 0:
                moved = before.u - rows.u
                expected = [-0.943843959942, -1.043406950613, 0.031924582195]
                np.testing.assert_allclose(moved, expected, rtol=0, atol=6e-13)
                expected = [-0.221349995627, 0.106572375062, 0.092866677911, 0.021910942654]
                np.testing.assert_allclose(gradient[0], expected, rtol=0, atol=6e-13)
        expected = [2.9773032799161614, 0.19120278795297477, 0.1652023492859869]
        np.testing.assert_allclose(found, expected, rtol=1e-13)
        expected = [1.140939939557, 1.103007749851, -0.209641979961]
        np.testing.assert_allclose(table.u[INDEX], expected, rtol=0, atol=6e-13)
        expected = [2.021859469369, -0.045908436701, 0.223711563653, -0.017300024602]
        np.testing.assert_allclose(table.v[0], expected, rtol=0, atol=6e-13)


def test_without_noise_terms_it_is_cross_entropy_and_the_error_of_the_prediction(rng):
    logits, labels = np.float32(rng.normal(size=(6, 4))), np.array([0, 1, 2, 3, 0, 1])
    rows = SopRows(np.zeros(6), np.zeros((6, 4)))
    values, new = sop_step(logits, labels, rows, rate_u=0.1, rate_v=0.1)
    p, y = special.softmax(logits, axis=-1), np.eye(4)[labels]
    error = ((np.eye(4)[logits.argmax(-1)] - y) ** 2).sum(-1)
    np.testing.assert_allclose(values, -np.log((y * p).sum(-1)) + error, rtol=1e-5)
    # A point at which they would stay for ever.
    assert not np.any(new.u)
    assert not np.any(new.v)


def test_a_contradicted_label_raises_its_noise_terms_and_a_right_one_does_not():
    logits, labels = np.array([[5.0, 0.0, 0.0], [5.0, 0.0, 0.0]]), np.array([2, 0])
    rows = SopRows(np.full(2, 0.01), np.full((2, 3), 0.01))
    for _ in range(50):
        _, rows = sop_step(logits, labels, rows, rate_u=0.1, rate_v=0.1)
    u, v = map(np.asarray, rows)
    noise = u**2 + (v**2).sum(-1)
    assert noise[0] > 1
    assert noise[1] < 0.01
    # On its label's class v means nothing.
    assert v[0, 2] == np.float32(0.01)


def test_no_gradient_flows_through_the_rows_and_v_is_held_in_the_network_s_term(rng):
    logits, labels = np.float32(rng.normal(size=(2, 3))), np.array([0, 1])
    rows = SopRows(np.full(2, 0.3), np.full((2, 3), 0.2))

    def step(logits, rows):
        return sop_step(logits, labels, rows, rate_u=0.1, rate_v=0.1)

    values, new = jax.jit(jax.jacobian(step, argnums=(0, 1)))(logits, rows)
    assert np.any(values[0])
    assert all(not np.any(leaf) for leaf in jax.tree.leaves((values[1], new)))


def test_float32_rounds_it_once_where_nothing_is_subtracted(rng):
    logits = np.float32(1e4 + 3 * rng.normal(size=(20, 5)))
    labels = np.int32(rng.integers(5, size=20))

    def found(dtype):
        rows = SopRows(np.full(20, 0.3, dtype), np.zeros((20, 5), dtype))

        def total(logits):
            values, _ = sop_step(logits, labels, rows, rate_u=0.1, rate_v=0.1)
            return values.sum(), values

        return jax.jit(jax.grad(total, has_aux=True))(np.asarray(logits, dtype))

    narrow = found(jnp.float32)
    with jax.enable_x64(True):
        wide = found(jnp.float64)
    np.testing.assert_allclose(narrow[1], wide[1], rtol=5e-7, atol=5e-7)
    np.testing.assert_allclose(narrow[0], wide[0], rtol=5e-7, atol=1e-6)


def test_examples_without_a_loss_keep_their_rows():
    rows = SopRows(np.full(3, 0.1, np.float32), np.full((3, 4), 0.1, np.float32))
    logits = np.tile(np.arange(4.0), (3, 1))
    _, new = sop_step(logits, np.array([1, 4, -1]), rows, rate_u=0.1, rate_v=0.1)
    np.testing.assert_array_equal(np.equal(new.u, rows.u), [False, True, True])
    np.testing.assert_array_equal(np.equal(new.v, rows.v).all(-1), [False, True, True])


def test_the_table_starts_near_zero_and_adds_up_the_updates_of_one_example():
    table = jax.jit(losses.sop_table, static_argnums=(0, 1))(1000, 3, jax.random.key(0))
    deviation = np.std(np.concatenate([np.ravel(leaf) for leaf in table.values]))
    np.testing.assert_allclose(deviation, 1e-8, rtol=0.05)
    index = np.array([7, 7, 2])

    @jax.jit
    def visit(table):
        before = train.tables.gather(table, index)
        moved = SopRows(before.u + jnp.array([1.0, 2.0, 5.0]), before.v + 1)
        return train.tables.scatter(table, index, moved, np.array([True, True, False])).values

    u, v = map(np.asarray, visit(table))
    np.testing.assert_allclose(u[[7, 2]], [3, 0], atol=1e-6)
    np.testing.assert_allclose(v[7], [2, 2, 2], atol=1e-6)


REFUSED = {
    "another N": (SopRows(np.zeros(4), np.zeros((3, 4))), r"rows\.u must be .* shape \(3,\)"),
    "another K": (SopRows(np.zeros(3), np.zeros((3, 5))), r"rows\.v must be .* shape \(3, 4\)"),
    "an array": (np.zeros((3, 5)), r"rows must be SopRows\(u, v\), got ndarray; sop_table"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_rows_of_another_form_raise(case):
    rows, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        losses.sop_step(np.zeros((3, 4)), np.zeros(3, jnp.int32), rows, rate_u=0.1, rate_v=0.1)
