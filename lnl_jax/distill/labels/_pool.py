"""Labels of fewer steps than the student takes."""

import jax
from jax import Array

from lnl_jax._host_arguments import check_integer
from lnl_jax.distill._checks import check_seed, check_step


def pool_steps(steps: int, keep: int) -> int:
    """How many steps' labels LPLD stores: the first part of the run.

    Args:
        steps: of the student's training, at least 1.
        keep: one in so many is stored, at least 1.

    Returns:
        At least 1.

    Raises:
        ValueError: if a number is no integer or less than 1.

    References:
        Xiao and He, "Are Large-scale Soft Labels Necessary for Large-scale Dataset Distillation?"
        (LPLD, NeurIPS 2024): a random pool, drawn from with replacement. The geometry is random
        already, so the first steps are a random pool, and only their labels are ever made.
    """
    check_integer("steps", steps)
    check_integer("keep", keep)
    return max(steps // keep, 1)


def pooled_step(seed: int, step: Array | int, pool: int) -> Array:
    """Which stored step a step of a pruned run takes: uniform, with replacement.

    Args:
        seed: of the draws.
        step: number of the student's step; may be traced.
        pool: stored steps, of `pool_steps`.

    Returns:
        An integer from 0 to pool - 1.

    Raises:
        ValueError: if `seed`, `step` or `pool` is out of range.
    """
    check_seed(seed)
    check_step(step)
    check_integer("pool", pool)
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), step)
    return jax.random.randint(key, (), 0, pool)
