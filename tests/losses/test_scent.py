"""The stored log-normaliser against the official code, and what it is a case of."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from lnl_jax import losses
from lnl_jax.losses import log_normalizer_step, scent_table
from tests.losses.formulas import waves

# Eager, each of its operations is a program.
compiled_step = jax.jit(log_normalizer_step)
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
        w, table = np.asarray(waves(5, 3, 0.7, 0.4)), np.full(8, -np.inf)
        values, cross = [], []

        @jax.jit
        def step(w, x, labels, rows, drawn):
            def loss(w):
                logits = x @ w.T
                found, new = losses.scent_step(logits, labels, rows, log_step=log_step, where=drawn)
                return found.mean(), new

            return jax.value_and_grad(loss, has_aux=True)(w)

        for batch in BATCHES:
            drawn = np.isin(np.arange(5), LABELS[batch]) if in_batch else np.ones(5, bool)
            given = X[batch], LABELS[batch], table[batch], drawn
            (value, table[batch]), gradient = step(w, *given)
            w -= 0.5 * np.asarray(gradient)
            values.append(value)
            scores = special.log_softmax(X @ w.T, axis=-1)
            cross.append(-scores[np.arange(8), LABELS].mean())
        np.testing.assert_allclose(values, golden[f"{prefix}_loss"], rtol=1e-12)
        np.testing.assert_allclose(cross, golden[f"{prefix}_fullce"], rtol=1e-12)
        np.testing.assert_allclose(w, golden[f"{prefix}_W"], rtol=1e-11)
        np.testing.assert_allclose(table, golden[f"{prefix}_nu"][-1], rtol=1e-11)


def test_a_large_step_with_all_classes_has_the_gradient_of_the_log_mean(rng):
    logits, labels = np.float32(rng.normal(size=(6, 5))), np.array([0, 1, 2, 3, 4, 0])
    rows = np.float32(rng.normal(size=6))

    def scent(logits):
        return losses.scent_step(logits, labels, rows, log_step=40.0)[0].sum()

    def log_mean(logits):
        own_class = np.eye(5, dtype=bool)[labels]
        others = jnp.where(own_class, -jnp.inf, logits)
        own = jnp.where(own_class, logits, 0).sum(-1)
        return (jax.nn.logsumexp(others, -1) - own).sum()

    both = jax.jit(lambda logits: (jax.grad(scent)(logits), jax.grad(log_mean)(logits)))
    np.testing.assert_allclose(*both(logits), rtol=1e-5)


def test_the_rule_is_a_moving_average_whose_rate_depends_on_the_normaliser(rng):
    rows, estimates = rng.normal(size=(2, 7))
    rate = 1 / (1 + np.exp(-(0.7 + rows)))
    expected = np.log((1 - rate) * np.exp(rows) + rate * np.exp(estimates))
    found = compiled_step(np.float32(rows), np.float32(estimates), log_step=0.7)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_rule_runs_robust_optimisation_over_examples():
    """The weights and losses of the official code for KL-regularised DRO, one row for all."""
    expected = [0.609836038078, 0.076625409852, 0.123664143705, 0.755076062865, 2.249332913882]
    expected_rows = [1.03059964672, 0.872990250325, 0.769237932911, 0.836125124412, 1.208165602267]
    with jax.enable_x64(True):
        row, values, rows = -np.inf, [], []
        for t in range(5):
            errors = (waves(4, 1, 0.3 + 0.6 * t, 1.5) - waves(4, 1, 0.9 + 0.2 * t)) ** 2
            scaled = errors[:, 0] / 0.5
            estimate = special.logsumexp(scaled) - np.log(4)
            row = float(compiled_step(row, estimate, log_step=-2.0))
            values.append((np.exp(scaled - row) * errors[:, 0]).mean())
            rows.append(row)
    np.testing.assert_allclose(values, expected, rtol=0, atol=6e-13)
    np.testing.assert_allclose(rows, expected_rows, rtol=0, atol=6e-12)


def test_a_first_visit_takes_the_estimate_and_a_normaliser_of_one_is_no_first_visit():
    found = compiled_step(np.array([-np.inf, 0.0]), np.array([3.0, 3.0]), log_step=-5.0)
    assert found[0] == 3
    assert found[1] < 0.2


def test_rows_of_examples_without_other_classes_stay():
    logits = np.float32([[1, 0, 0], [1, -np.inf, -np.inf], [1, 0, 0]])
    where = np.array([[True, True, True], [True, True, True], [True, False, False]])
    rows, labels = np.float32([-np.inf, 0.5, 0.25]), np.zeros(3, np.int32)

    @jax.jit
    def step(logits):
        (values, new), pullback = jax.vjp(
            lambda f: losses.scent_step(f, labels, rows, where=where), logits
        )
        return values, new, pullback((jnp.ones_like(values), jnp.zeros_like(new)))[0]

    values, new, gradient = step(logits)
    np.testing.assert_array_equal(values[1:], [0, 0])
    np.testing.assert_array_equal(np.equal(new, rows), [False, True, True])
    assert np.isfinite(gradient).all()


def test_rows_and_steps_that_do_not_fit_raise():
    logits, labels = np.zeros((3, 4)), np.zeros(3, jnp.int32)
    with pytest.raises(ValueError, match=r"one floating number per example, shape \(3,\)"):
        losses.scent_step(logits, labels, np.zeros((3, 4)))
    with pytest.raises(ValueError, match="log_step must be finite, got inf"):
        losses.scent_step(logits, labels, np.zeros(3), log_step=np.inf)
    with pytest.raises(ValueError, match="same shape"):
        log_normalizer_step(np.zeros(2), np.zeros(3), log_step=0.0)
    with pytest.raises(ValueError, match="n must be an integer from 1 on, got 0"):
        scent_table(0)
