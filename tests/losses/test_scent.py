"""The stored log-normaliser against the official code, and what it is a case of."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import losses
from lnl_jax.losses import log_normalizer_step, scent_table
from tests.losses.formulas import waves

# Eager, each of its operations is a program.
scent_step = jax.jit(losses.scent_step)
GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "scent.npz"
BATCHES = [[0, 1, 2], [3, 4, 5], [6, 7, 0], [1, 3, 5], [0, 2, 4], [7, 6, 1]]
X, LABELS = waves(8, 3, 0.3, 1.5), np.array([0, 1, 2, 3, 4, 0, 1, 2])


@pytest.mark.parametrize(
    ("prefix", "log_step", "in_batch"),
    [
        ("scent_a2", 2.0, False),
        ("libauc_scent_a10", 10.0, False),
        ("scent_a2_inbatch", 2.0, True),
    ],
)
def test_six_steps_are_those_of_the_official_code(prefix, log_step, in_batch):
    golden = np.load(GOLDEN)
    with jax.enable_x64(True):
        w, table = jnp.asarray(waves(5, 3, 0.7, 0.4)), np.full(8, -np.inf)
        values, cross = [], []
        for batch in BATCHES:
            drawn = np.isin(np.arange(5), LABELS[batch]) if in_batch else np.ones(5, bool)

            def loss(w, batch=batch, drawn=drawn):
                found, rows = scent_step(
                    X[batch] @ w.T, LABELS[batch], table[batch], log_step=log_step, where=drawn
                )
                return found.mean(), rows

            (value, table[batch]), gradient = jax.value_and_grad(loss, has_aux=True)(w)
            w -= 0.5 * gradient
            values.append(value)
            scores = jax.nn.log_softmax(X @ w.T)
            cross.append(-scores[np.arange(8), LABELS].mean())
        np.testing.assert_allclose(values, golden[f"{prefix}_loss"], rtol=1e-12)
        np.testing.assert_allclose(cross, golden[f"{prefix}_fullce"], rtol=1e-12)
        np.testing.assert_allclose(w, golden[f"{prefix}_W"], rtol=1e-11)
        np.testing.assert_allclose(table, golden[f"{prefix}_nu"][-1], rtol=1e-11)


def test_a_large_step_with_all_classes_has_the_gradient_of_the_log_mean(rng):
    logits, labels = jnp.float32(rng.normal(size=(6, 5))), jnp.array([0, 1, 2, 3, 4, 0])
    rows = jnp.float32(rng.normal(size=6))

    def scent(logits):
        return scent_step(logits, labels, rows, log_step=40.0)[0].sum()

    def log_mean(logits):
        others = jnp.where(jnp.eye(5, dtype=bool)[labels], -jnp.inf, logits)
        own = jnp.take_along_axis(logits, labels[:, None], 1)[:, 0]
        return (jax.nn.logsumexp(others, -1) - own).sum()

    np.testing.assert_allclose(jax.grad(scent)(logits), jax.grad(log_mean)(logits), rtol=1e-5)


def test_the_rule_is_a_moving_average_whose_rate_depends_on_the_normaliser(rng):
    rows, estimates = rng.normal(size=(2, 7))
    rate = 1 / (1 + np.exp(-(0.7 + rows)))
    expected = np.log((1 - rate) * np.exp(rows) + rate * np.exp(estimates))
    found = log_normalizer_step(jnp.float32(rows), jnp.float32(estimates), log_step=0.7)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_rule_runs_robust_optimisation_over_examples():
    """The weights and losses of the official code for KL-regularised DRO, one row for all."""
    expected = [0.609836038078, 0.076625409852, 0.123664143705, 0.755076062865, 2.249332913882]
    expected_rows = [1.03059964672, 0.872990250325, 0.769237932911, 0.836125124412, 1.208165602267]
    with jax.enable_x64(True):
        row, values, rows = jnp.asarray(-jnp.inf), [], []
        for t in range(5):
            errors = (waves(4, 1, 0.3 + 0.6 * t, 1.5) - waves(4, 1, 0.9 + 0.2 * t)) ** 2
            scaled = jnp.asarray(errors[:, 0]) / 0.5
            estimate = jax.nn.logsumexp(scaled) - jnp.log(4)
            row = log_normalizer_step(row, estimate, log_step=-2.0)
            values.append((jnp.exp(scaled - row) * errors[:, 0]).mean())
            rows.append(row)
    np.testing.assert_allclose(values, expected, rtol=0, atol=6e-13)
    np.testing.assert_allclose(rows, expected_rows, rtol=0, atol=6e-12)


def test_a_first_visit_takes_the_estimate_and_a_normaliser_of_one_is_no_first_visit():
    found = log_normalizer_step(jnp.array([-jnp.inf, 0.0]), jnp.array([3.0, 3.0]), log_step=-5.0)
    assert found[0] == 3
    assert found[1] < 0.2


def test_rows_of_examples_without_other_classes_stay():
    logits = jnp.array([[1.0, 0.0, 0.0], [1.0, -jnp.inf, -jnp.inf], [1.0, 0.0, 0.0]])
    where = jnp.array([[True, True, True], [True, True, True], [True, False, False]])
    rows = jnp.array([-jnp.inf, 0.5, 0.25])
    labels = jnp.zeros(3, jnp.int32)
    values, new = scent_step(logits, labels, rows, where=where)
    np.testing.assert_array_equal(values[1:], [0, 0])
    np.testing.assert_array_equal(new == rows, [False, True, True])
    gradient = jax.grad(lambda f: scent_step(f, labels, rows, where=where)[0].sum())(logits)
    assert np.isfinite(gradient).all()


def test_rows_and_steps_that_do_not_fit_raise():
    logits, labels = jnp.zeros((3, 4)), jnp.zeros(3, jnp.int32)
    with pytest.raises(ValueError, match=r"one floating number per example, shape \(3,\)"):
        losses.scent_step(logits, labels, np.zeros((3, 4)))
    with pytest.raises(ValueError, match="log_step must be finite, got inf"):
        losses.scent_step(logits, labels, np.zeros(3), log_step=np.inf)
    with pytest.raises(ValueError, match="same shape"):
        log_normalizer_step(np.zeros(2), np.zeros(3), log_step=0.0)
    with pytest.raises(ValueError, match="n must be an integer from 1 on, got 0"):
        scent_table(0)
