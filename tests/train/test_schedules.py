import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax.train import staircase_schedule


@pytest.mark.parametrize("at", [(1 / 2, 3 / 4), (1 / 3, 2 / 3)])
def test_the_staircase_falls_tenfold_at_two_fractions(at):
    total = 12
    factors = staircase_schedule(total, at)(jnp.arange(total))
    first, second = (round(fraction * total) for fraction in at)
    expected = [1.0] * first + [0.1] * (second - first) + [0.01] * (total - second)
    np.testing.assert_array_equal(factors, np.float32(expected))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0,), "total_steps must be"),
        ((8, (0.75, 0.5)), "at must be two fractions from 0 to 1"),
        ((8, (0.5,)), "at must be two fractions from 0 to 1"),
    ],
)
def test_a_staircase_that_does_not_fall_in_order_is_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        staircase_schedule(*arguments)
