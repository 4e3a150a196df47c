"""Early-learning regularisation against the official code, and where it becomes something else."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lnl_jax import losses, train
from tests.losses.formulas import waves

# Eager, each of its operations is a program.
elr_step = jax.jit(losses.elr_step)
INDEX, LABELS = np.array([4, 0, 2]), np.array([0, 2, 3])


def test_two_visits_are_those_of_the_official_code():
    with jax.enable_x64(True):
        logits, table = jnp.asarray(waves(3, 4, 0.3, 2.0)), np.zeros((6, 4))

        def mean(logits):
            values, rows = elr_step(logits, LABELS, table[INDEX])
            return values.mean(), rows

        value, table[INDEX] = mean(logits)
        np.testing.assert_allclose(value, 1.518369140259405, rtol=1e-14)
        (value, rows), gradient = jax.value_and_grad(mean, has_aux=True)(logits)
        np.testing.assert_allclose(value, 1.1510533975904398, rtol=1e-14)
        expected = [
            0.060581841309578124,
            0.2163793156273381,
            0.18855194133694053,
            0.0444869017261433,
        ]
        np.testing.assert_allclose(rows[0], expected, rtol=1e-14)
        expected = [
            -0.27765673832546994,
            0.1189706063662607,
            0.11610448623289531,
            0.04258164572631394,
        ]
        np.testing.assert_allclose(gradient[0], expected, rtol=1e-13)


def test_without_weight_it_is_cross_entropy(rng):
    logits, labels = jnp.float32(rng.normal(size=(5, 3))), jnp.array([0, 1, 2, 0, 1])
    values, _ = elr_step(logits, labels, jnp.ones((5, 3)) / 3, weight=0.0)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_repeated_visits_approach_the_prediction(rng):
    logits, labels = jnp.float32(rng.normal(size=(5, 3))), jnp.array([0, 1, 2, 0, 1])
    rows = jnp.zeros((5, 3))
    for visits in (1, 2, 3):
        _, rows = elr_step(logits, labels, rows, momentum=0.6)
        expected = (1 - 0.6**visits) * jax.nn.softmax(logits)
        np.testing.assert_allclose(rows, expected, rtol=1e-5)


def test_the_regulariser_holds_back_a_label_that_contradicts_the_target():
    logits, labels = jnp.array([[1.0, 0.0, 0.0]]), jnp.array([2])
    rows = jnp.array([[0.9, 0.05, 0.05]])

    def pull(weight):
        def loss(logits):
            return elr_step(logits, labels, rows, weight=weight, momentum=0.9)[0].sum()

        return -jax.grad(loss)(logits)[0]

    assert pull(0.0)[2] > 0.7
    assert pull(3.0)[0] > pull(0.0)[0] + 0.5


def test_mixed_targets_are_those_of_the_step(rng):
    """ELR+ from its pieces, with nothing mixed and the network's own prediction, is ELR."""
    logits, labels = jnp.float32(rng.normal(size=(5, 3))), jnp.array([0, 1, 2, 0, 1])
    rows = jnp.float32(rng.dirichlet(np.ones(3), size=5))
    values, new = elr_step(logits, labels, rows, weight=2.0, momentum=0.8)
    targets = optax.incremental_update(jax.nn.softmax(logits), rows, 0.2)
    np.testing.assert_allclose(new, targets, rtol=1e-5)
    cross = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    pieces = cross + 2 * losses.early_learning_regularization(logits, targets)
    np.testing.assert_allclose(values, pieces, rtol=1e-5)


def test_examples_without_a_loss_keep_their_rows_and_rows_their_dtype():
    logits, labels = jnp.tile(jnp.arange(4, dtype=jnp.bfloat16), (3, 1)), jnp.array([1, 4, -1])
    rows = jnp.full((3, 4), 0.25)
    values, new = elr_step(logits, labels, rows)
    assert (values.dtype, new.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_array_equal((new == rows).all(-1), [False, True, True])


def test_no_gradient_flows_through_the_rows(rng):
    logits, labels = jnp.float32(rng.normal(size=(2, 3))), jnp.array([0, 1])

    def step(logits, rows):
        return elr_step(logits, labels, rows)

    rows = jnp.full((2, 3), 0.2)
    values, new = jax.jit(jax.jacobian(step, argnums=(0, 1)))(logits, rows)
    assert all(not np.any(blocked) for blocked in (values[1], *new))


@pytest.mark.parametrize(
    "rows", [np.zeros((3, 5)), np.zeros((2, 4)), np.zeros(3), np.zeros((3, 4), int)]
)
def test_rows_of_another_data_set_raise(rows):
    with pytest.raises(ValueError, match=r"rows must be .* shape \(3, 4\); got .* by index"):
        losses.elr_step(jnp.zeros((3, 4)), jnp.zeros(3, jnp.int32), rows)


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_a_momentum_outside_its_range_raises(momentum):
    with pytest.raises(ValueError, match="momentum must be at least 0 and below 1"):
        losses.elr_step(
            jnp.zeros((3, 4)), jnp.zeros(3, jnp.int32), np.zeros((3, 4)), momentum=momentum
        )


def test_the_table_of_an_example_drawn_twice_holds_the_mean_of_both_targets():
    table = losses.elr_table(4, 2)
    rows = jnp.array([[0.2, 0.8], [0.4, 0.6]])
    new = train.tables.scatter(table, jnp.array([1, 1]), rows, jnp.array([True, True]))
    np.testing.assert_allclose(new.values[1], [0.3, 0.7], rtol=1e-6)
