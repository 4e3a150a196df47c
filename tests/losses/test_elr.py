"""Early-learning regularisation against the official code, and where it becomes something else."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

from lnl_jax import losses, train
from tests.losses.formulas import waves

# Eager, each of its operations is a program.
elr_step = jax.jit(losses.elr_step)
cross_entropy = jax.jit(optax.softmax_cross_entropy_with_integer_labels)
INDEX, LABELS = np.array([4, 0, 2]), np.array([0, 2, 3])


def test_two_visits_are_those_of_the_official_code():
    with jax.enable_x64(True):
        logits, table = np.asarray(waves(3, 4, 0.3, 2.0)), np.zeros((6, 4))

        @jax.jit
        def mean_and_gradient(logits, rows):
            def mean(logits):
                values, new = losses.elr_step(logits, LABELS, rows)
                return values.mean(), new

            return jax.value_and_grad(mean, has_aux=True)(logits)

        (value, table[INDEX]), _ = mean_and_gradient(logits, table[INDEX])
        np.testing.assert_allclose(value, 1.518369140259405, rtol=1e-14)
        (value, rows), gradient = mean_and_gradient(logits, table[INDEX])
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
    logits, labels = np.float32(rng.normal(size=(5, 3))), np.array([0, 1, 2, 0, 1])
    values, _ = elr_step(logits, labels, np.ones((5, 3)) / 3, weight=0.0)
    expected = cross_entropy(logits, labels)
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_repeated_visits_approach_the_prediction(rng):
    logits, labels = np.float32(rng.normal(size=(5, 3))), np.array([0, 1, 2, 0, 1])
    rows = np.zeros((5, 3))
    for visits in (1, 2, 3):
        _, rows = elr_step(logits, labels, rows, momentum=0.6)
        expected = (1 - 0.6**visits) * special.softmax(logits, axis=-1)
        np.testing.assert_allclose(rows, expected, rtol=1e-5)


def test_the_regulariser_holds_back_a_label_that_contradicts_the_target():
    logits, labels = np.array([[1.0, 0.0, 0.0]]), np.array([2])
    rows = np.array([[0.9, 0.05, 0.05]])

    @jax.jit
    def pull(weight):
        def loss(logits):
            return losses.elr_step(logits, labels, rows, weight=weight, momentum=0.9)[0].sum()

        return -jax.grad(loss)(logits)[0]

    assert pull(0.0)[2] > 0.7
    assert pull(3.0)[0] > pull(0.0)[0] + 0.5


def test_mixed_targets_are_those_of_the_step(rng):
    """ELR+ from its pieces, with nothing mixed and the network's own prediction, is ELR."""
    logits, labels = np.float32(rng.normal(size=(5, 3))), np.array([0, 1, 2, 0, 1])
    rows = np.float32(rng.dirichlet(np.ones(3), size=5))
    values, new = elr_step(logits, labels, rows, weight=2.0, momentum=0.8)
    targets = 0.2 * special.softmax(logits, axis=-1) + 0.8 * rows
    np.testing.assert_allclose(new, targets, rtol=1e-5)
    regularizer = jax.jit(losses.early_learning_regularization)(logits, targets)
    pieces = cross_entropy(logits, labels) + 2 * np.asarray(regularizer)
    np.testing.assert_allclose(values, pieces, rtol=1e-5)


def test_examples_without_a_loss_keep_their_rows_and_rows_their_dtype():
    logits, labels = np.tile(np.arange(4), (3, 1)).astype(jnp.bfloat16), np.array([1, 4, -1])
    rows = np.full((3, 4), 0.25, np.float32)
    values, new = elr_step(logits, labels, rows)
    assert (values.dtype, new.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_array_equal(np.equal(new, rows).all(-1), [False, True, True])


def test_no_gradient_flows_through_the_rows(rng):
    logits, labels = np.float32(rng.normal(size=(2, 3))), np.array([0, 1])

    def step(logits, rows):
        return elr_step(logits, labels, rows)

    rows = np.full((2, 3), 0.2)
    values, new = jax.jit(jax.jacobian(step, argnums=(0, 1)))(logits, rows)
    assert all(not np.any(blocked) for blocked in (values[1], *new))


@pytest.mark.parametrize(
    "rows", [np.zeros((3, 5)), np.zeros((2, 4)), np.zeros(3), np.zeros((3, 4), int)]
)
def test_rows_of_another_data_set_raise(rows):
    with pytest.raises(ValueError, match=r"rows must be .* shape \(3, 4\); got .* by index"):
        losses.elr_step(np.zeros((3, 4)), np.zeros(3, jnp.int32), rows)


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_a_momentum_outside_its_range_raises(momentum):
    with pytest.raises(ValueError, match="momentum must be at least 0 and below 1"):
        losses.elr_step(
            np.zeros((3, 4)), np.zeros(3, jnp.int32), np.zeros((3, 4)), momentum=momentum
        )


def test_the_table_of_an_example_drawn_twice_holds_the_mean_of_both_targets():
    table = losses.elr_table(4, 2)
    rows = np.float32([[0.2, 0.8], [0.4, 0.6]])
    new = jax.jit(train.tables.scatter)(table, np.array([1, 1]), rows, np.array([True, True]))
    np.testing.assert_allclose(np.asarray(new.values)[1], [0.3, 0.7], rtol=1e-6)
