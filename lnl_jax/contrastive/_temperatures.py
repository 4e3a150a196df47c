"""Temperatures of examples: their rows, their hyperparameters, and the step that moves them."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import in_range, not_a_number, refuse_explicit_mesh
from lnl_jax.contrastive._info_nce import ContrastiveStatistics


class ContrastiveRows(NamedTuple):
    r"""The state of the examples of a batch, all ``[B]``.

    Attributes:
        temperature: :math:`\tau`.
        log_u: :math:`\log u`, the moving average of the inner mean; ``-inf`` before a first visit.
        velocity: the moving average of the temperature's gradient, 0 before a first visit.

    Example:
        >>> ContrastiveRows(jnp.full(2, 0.1), jnp.full(2, -jnp.inf), jnp.zeros(2)).log_u.tolist()
        [-inf, -inf]
    """

    temperature: Array
    log_u: Array
    velocity: Array


class Temperatures(NamedTuple):
    r"""How the temperatures of examples are learnt: the hyperparameters of `isogclr`.

    A pytree of scalars, which goes through `jax.jit` and `jax.vmap` as an argument. Numbers of
    Python and NumPy out of range raise a ValueError where they are used; traced ones give NaN.

    Attributes:
        rho: :math:`\rho`, radius of the KL ball, at least 0.
        step: :math:`\eta` of the descent, at least 0; the paper's 1/N is in it.
        momentum: :math:`\beta`, weight of the new gradient, in (0, 1]; mostly 0.5 to 0.9.
        range: the lowest and the highest temperature.
        clip: gradients are clipped to plus or minus this, above 0; the official code has 3 and 5.

    Example:
        >>> of_views = Temperatures(rho=0.4, step=0.03, momentum=0.5, range=(0.05, 1.0), clip=3.0)
        >>> of_views._replace(rho=0.3).rho
        0.3
    """

    rho: ArrayLike
    step: ArrayLike
    momentum: ArrayLike
    range: tuple[ArrayLike, ArrayLike]
    clip: ArrayLike = math.inf


def temperature_step(
    rows: ContrastiveRows, q: Array, temperatures: Temperatures
) -> ContrastiveRows:
    r"""One projected step with momentum on the temperatures.

    .. math::
        v \leftarrow (1 - \beta) v + \beta q, \qquad
        \tau \leftarrow \mathrm{clip}(\tau - \eta v, \tau_{min}, \tau_{max})

    Args:
        rows: the state before, temperatures and velocities ``[B]``.
        q: the gradient of the objective by the temperature, clipped by the caller, ``[B]``.
        temperatures: of which `step`, `momentum` and `range` are used.

    Returns:
        The rows with new `temperature` and `velocity`. Where the step ends on a bound exactly, half
        of the gradient passes, as through `jnp.clip`; beyond it none.

    Raises:
        ValueError: for a step, a momentum or a range that is none.

    Example:
        >>> rows = ContrastiveRows(jnp.array([0.1]), jnp.zeros(1), jnp.zeros(1))
        >>> temperatures = Temperatures(rho=0.4, step=0.1, momentum=0.4, range=(0.05, 1.0))
        >>> temperature_step(rows, jnp.ones(1), temperatures).temperature.tolist()
        [0.060]

    References:
        Qiu et al., "Not All Semantics are Created Equal: Contrastive Self-supervised Learning with
        Automatic Temperature Individualization" (ICML 2023), Algorithm 1.
    """
    dtype = jnp.asarray(rows.velocity).dtype
    read = read_temperatures(temperatures, dtype)
    velocity = (1 - read.momentum) * rows.velocity + read.momentum * q
    low, high = (bound.astype(rows.temperature.dtype) for bound in read.range)
    temperature = jnp.clip(rows.temperature - read.step * velocity, low, high)
    return rows._replace(temperature=temperature, velocity=velocity)


def check_temperatures(temperatures: Temperatures) -> None:
    """Raises ValueError for anything else, such as a dict of the hyperparameters."""
    if not isinstance(temperatures, Temperatures):
        given = type(temperatures).__name__
        repair = "; write Temperatures(**temperatures)" * isinstance(temperatures, dict)
        raise ValueError(f"temperatures must be contrastive.Temperatures, got {given}{repair}.")


def read_temperatures(temperatures: Temperatures, dtype: np.dtype) -> Temperatures:
    """The hyperparameters as arrays of this dtype; traced ones out of range are NaN.

    Raises:
        ValueError: for another type, or a part that is no scalar, or is not traced and out of
            range.
    """
    check_temperatures(temperatures)
    bounds = {"at_least": 0, "below": math.inf}
    return Temperatures(
        rho=_scalar("rho", temperatures.rho, dtype, **bounds),
        step=_scalar("step", temperatures.step, dtype, **bounds),
        momentum=_scalar("momentum", temperatures.momentum, dtype, above=0, at_most=1),
        range=_read_bounds(temperatures.range, dtype),
        clip=_scalar("clip", temperatures.clip, dtype, above=0),
    )


def _scalar(name: str, value: ArrayLike, dtype: np.dtype, **bounds: float) -> Array:
    if np.shape(value):
        raise ValueError(f"temperatures.{name} must be a scalar, got shape {np.shape(value)}.")
    return in_range(f"temperatures.{name}", value, dtype, **bounds)


def _read_bounds(bounds: tuple[ArrayLike, ArrayLike], dtype: np.dtype) -> tuple[Array, Array]:
    """Two scalars, each of which may be traced, or an array of both."""
    try:
        low, high = bounds
        known = not isinstance(low, jax.Array) and not isinstance(high, jax.Array)
        sensible = not np.shape(low) and not np.shape(high)
        sensible = sensible and (not known or 0 < low <= high < math.inf)
    except (TypeError, ValueError):
        sensible = False
    if not sensible:
        raise ValueError(
            "temperatures.range must be two finite numbers above 0, the lower one first; got "
            f"{' '.join(str(bounds).split())}."
        )
    low, high = jnp.asarray(low, dtype), jnp.asarray(high, dtype)
    if known:
        return low, high
    ordered = (low > 0) & (low <= high) & (high < math.inf)
    nan = not_a_number(dtype)
    return jnp.where(ordered, low, nan), jnp.where(ordered, high, nan)


def read_rows(rows: ContrastiveRows, statistics: ContrastiveStatistics) -> ContrastiveRows:
    """The rows, of whatever class has these three fields and perhaps more."""
    rows = rows if hasattr(rows, "_fields") else ContrastiveRows(*rows)
    refuse_explicit_mesh(rows=rows)
    rows = jax.tree.map(jnp.asarray, rows)
    shape = statistics.count.shape[-1:]
    for name, part in rows._asdict().items():
        if part.shape != shape or not jnp.issubdtype(part.dtype, jnp.floating):
            raise ValueError(
                f"rows.{name} must be one floating number per example, shape {shape}; got "
                f"{part.dtype} of shape {part.shape}. Gather the rows from the table by index."
            )
    return rows
