"""Schedules of the learning rate that optax does not have as they are needed here."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lnl_jax._host_arguments import check_integer


def staircase_schedule(
    total_steps: int, at: tuple[float, float] = (1 / 2, 3 / 4)
) -> Callable[[jax.Array], jax.Array]:
    """Makes the factor on a learning rate that falls tenfold at two fractions of the training.

    Args:
        total_steps: of the training.
        at: the fractions, in order.

    Returns:
        ``step -> factor``: 1, 0.1 or 0.01, for steps numbered from 0.

    Raises:
        ValueError: if `total_steps` is less than 1, or the fractions are not from 0 to 1 in order.

    Example:
        >>> factor = staircase_schedule(8)
        >>> [round(float(factor(step)), 2) for step in (0, 3, 4, 5, 6)]
        [1.0, 1.0, 0.1, 0.1, 0.01]
    """
    check_integer("total_steps", total_steps)
    if len(at) != 2 or not 0 <= at[0] <= at[1] <= 1:
        raise ValueError(f"at must be two fractions from 0 to 1 in order, got {at}.")

    def factor(step: jax.Array) -> jax.Array:
        passed = sum(step >= fraction * total_steps for fraction in at)
        return jnp.where(passed < 1, 1.0, jnp.where(passed < 2, 0.1, 0.01))

    return factor


def sigmoid_ramp_up(steps: int) -> Callable[[jax.Array], jax.Array]:
    r"""Makes a weight that grows to 1: :math:`\exp(-5 (1 - t / T)^2)` up to step T, then 1.

    Args:
        steps: T, of the growth; 0 gives 1 from the start.

    Returns:
        ``step -> weight``, for steps numbered from 0.

    Raises:
        ValueError: if `steps` is not an integer of at least 0.

    Example:
        >>> weight = sigmoid_ramp_up(10)
        >>> [round(float(weight(step)), 3) for step in (0, 5, 10, 20)]
        [0.007, 0.287, 1.0, 1.0]

    References:
        Laine and Aila, "Temporal Ensembling for Semi-Supervised Learning" (ICLR 2017), the ramp of
        the unsupervised weight.
    """
    check_integer("steps", steps, at_least=0)

    def weight(step: jax.Array) -> jax.Array:
        left = 1 - jnp.clip(jnp.asarray(step) / max(steps, 1), 0, 1)
        return jnp.exp(-5 * left**2) if steps else jnp.ones(jnp.shape(step))

    return weight
