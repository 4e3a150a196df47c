"""iSogCLR: a global contrastive loss with a temperature per example, learnt by its own gradient."""

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import check_range, in_range, refuse_explicit_mesh
from lnl_jax.contrastive._info_nce import ContrastiveStatistics, contrastive_statistics
from lnl_jax.contrastive._inner_estimates import (
    Estimator,
    FirstVisit,
    difference_to_positive,
    restart_example,
)
from lnl_jax.contrastive._sogclr import sogclr_from_statistics
from lnl_jax.contrastive._surrogate import constant_beside


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


def temperature_step(
    rows: ContrastiveRows,
    q: Array,
    *,
    step: ArrayLike,
    momentum: ArrayLike,
    temperature_range: tuple[float, float],
) -> ContrastiveRows:
    r"""One projected step with momentum on the temperatures.

    .. math::
        v \leftarrow (1 - \beta) v + \beta q, \qquad
        \tau \leftarrow \mathrm{clip}(\tau - \eta v, \tau_{min}, \tau_{max})

    Args:
        rows: the state before, temperatures and velocities ``[B]``.
        q: the gradient of the objective by the temperature, ``[B]``.
        step: :math:`\eta`, a scalar.
        momentum: :math:`\beta`, the weight of the new gradient, in (0, 1], a scalar.
        temperature_range: the lowest and the highest temperature.

    Returns:
        The rows with new `temperature` and `velocity`. Where the step ends on a bound exactly, half
        of the gradient passes, as through `jnp.clip`; beyond it none.

    Raises:
        ValueError: for a step, a momentum or a range that is none.

    Example:
        >>> rows = ContrastiveRows(jnp.array([0.1]), jnp.zeros(1), jnp.zeros(1))
        >>> bounds = (0.05, 1.0)
        >>> rows = temperature_step(
        ...     rows, jnp.ones(1), step=0.1, momentum=0.4, temperature_range=bounds
        ... )
        >>> rows.temperature.tolist()
        [0.060]

    References:
        Qiu et al., "Not All Semantics are Created Equal: Contrastive Self-supervised Learning with
        Automatic Temperature Individualization" (ICML 2023), Algorithm 1.
    """
    dtype = jnp.asarray(rows.velocity).dtype
    step = _scalar("step", step, dtype, at_least=0, below=math.inf)
    momentum = _scalar("momentum", momentum, dtype, above=0, at_most=1)
    velocity = (1 - momentum) * rows.velocity + momentum * q
    low, high = _read_bounds(temperature_range)
    temperature = jnp.clip(rows.temperature - step * velocity, low, high)
    return rows._replace(temperature=temperature, velocity=velocity)


Update = Callable[..., ContrastiveRows]


def isogclr(
    queries: Array,
    keys: Array,
    rows: ContrastiveRows,
    *,
    rho: ArrayLike,
    gamma: ArrayLike,
    temperature_step: ArrayLike,
    temperature_momentum: ArrayLike,
    temperature_range: tuple[float, float],
    temperature_clip: float = math.inf,
    positives: Array | None = None,
    where: Array | None = None,
    query_index: Array | None = None,
    key_index: Array | None = None,
    estimator: Estimator = difference_to_positive,
    first_visit: FirstVisit = restart_example,
    update: Update = temperature_step,
    block_size: int | None = None,
) -> tuple[Array, ContrastiveRows, dict[str, Array]]:
    r"""iSogCLR: SogCLR with a temperature per example that is learnt with it.

    The objective of an anchor is the worst mean of its negatives in a KL ball of radius
    :math:`\rho`,

    .. math::
        F_i = \tau_i \log \mathrm{E}_j \exp\frac{s_{ij} - s_i^+}{\tau_i} + \tau_i \rho, \qquad
        \frac{\partial F_i}{\partial \tau_i} = \rho - \mathrm{KL}(p_i \,\|\, 1/n)

    A visit is that of :func:`sogclr` at the stored temperatures, then

    .. math::
        q_i = \log u_i + \rho - \frac{1}{n} \sum_j w_{ij} r_{ij}, \qquad
        r_{ij} = \frac{s_{ij} - s_i^+}{\tau_i}

    goes to :func:`temperature_step`. Temperatures rise where the negatives' weights are further
    from uniform than :math:`\rho`. As KL is at most log n, a :math:`\rho` of log n or more drives
    every temperature to its lower bound.

    Usual values: of views, as in the official code, a `temperature_range` of (0.05, 1), a clip of 3
    and a gamma of 0.8 to 0.9; of images and texts (0.005, 1), 5, and a :math:`\rho` just below the
    log of the batch size, 6 for 512. A `temperature_momentum` of 0.5 to 0.9 is mostly the new
    gradient. The rows of all examples are a table, :func:`isogclr_table`, whose rows of a batch
    `lnl_jax.train` gathers and scatters; images and texts have one each.

    The value of the loss is not the objective: its weights are held, and it is negative as soon as
    the positives are nearer than the negatives. Watch ``aux["objective"]``.

    Args:
        queries: anchors, ``[B, d]``, or views, ``[V, B, d]``, normalised by the caller.
        keys: ``[M, d]``, or views ``[V, B, d]``.
        rows: ``(temperature, log_u, velocity)``, each ``[B]``; see `ContrastiveRows`.
        rho: radius of the ball, at least 0, a scalar.
        gamma: weight of this visit in the inner mean, in (0, 1], a scalar.
        temperature_step: :math:`\eta`, at least 0, a scalar; the paper's 1/N is in it.
        temperature_momentum: :math:`\beta`, weight of the new gradient, in (0, 1], a scalar.
        temperature_range: the lowest and the highest temperature.
        temperature_clip: q is clipped to plus or minus this; the official code has 3 and 5.
        positives: as in `info_nce`.
        where: as in `info_nce`.
        query_index: as in `info_nce`.
        key_index: as in `info_nce`.
        estimator: of the inner mean; see `sogclr`.
        first_visit: see `sogclr`.
        update: of the rows, called as :func:`temperature_step` is.
        block_size: as in `info_nce`.

    Returns:
        The losses, ``[B]``, the mean of the views (the official code takes the sum: twice this) in
        the dtype of `queries`; the new rows; and `aux`, a dict of ``[B]``: ``objective``,
        :math:`\tau (\log u + \rho)`; ``q``; ``kl`` of the weights to uniform;
        ``effective_sample_size`` of the negatives; ``temperature``, as it was used; ``at_bounds``,
        1 where the new one is a bound. Without negatives the loss is 0 and the row stays. No
        gradient flows to the rows and the hyperparameters.

    Raises:
        ValueError: as `sogclr`; for a hyperparameter out of range or rows of another shape.

    Example:
        >>> z, new = jnp.eye(3), jnp.full(3, -jnp.inf)
        >>> rows = ContrastiveRows(jnp.full(3, 0.1), new, jnp.zeros(3))
        >>> losses, rows, aux = isogclr(
        ...     z, z, rows, rho=0.3, gamma=0.8, temperature_step=0.1, temperature_momentum=0.5,
        ...     temperature_range=(0.05, 1.0),
        ... )
        >>> rows.temperature.tolist()
        [0.085, 0.085, 0.085]

    References:
        Qiu et al., "Not All Semantics are Created Equal: Contrastive Self-supervised Learning with
        Automatic Temperature Individualization" (ICML 2023), Algorithm 1. Deviations from the
        official code, each a function to pass: `estimator`, `first_visit`, `temperature_clip`.
    """
    rows = rows if hasattr(rows, "_fields") else ContrastiveRows(*rows)
    _warn_of_radius(rho, np.shape(queries), np.shape(keys))
    queries, keys, temperature = constant_beside(queries, keys, rows.temperature)
    statistics = contrastive_statistics(
        queries,
        keys,
        temperature=temperature,
        positives=positives,
        query_index=query_index,
        key_index=key_index,
        where=where,
        block_size=block_size,
    )
    losses, rows, aux = isogclr_from_statistics(
        statistics,
        rows,
        rho=rho,
        gamma=gamma,
        temperature_step=temperature_step,
        temperature_momentum=temperature_momentum,
        temperature_range=temperature_range,
        temperature_clip=temperature_clip,
        estimator=estimator,
        first_visit=first_visit,
        update=update,
    )
    return losses.astype(jnp.asarray(queries).dtype), rows, aux


def isogclr_from_statistics(
    statistics: ContrastiveStatistics,
    rows: ContrastiveRows,
    *,
    rho: ArrayLike,
    gamma: ArrayLike,
    temperature_step: ArrayLike,
    temperature_momentum: ArrayLike,
    temperature_range: tuple[float, float],
    temperature_clip: float = math.inf,
    estimator: Estimator = difference_to_positive,
    first_visit: FirstVisit = restart_example,
    update: Update = temperature_step,
) -> tuple[Array, ContrastiveRows, dict[str, Array]]:
    """`isogclr` from statistics, which were taken at ``rows.temperature``.

    Args:
        statistics: from `contrastive_statistics` or `similarity_statistics`.
        rows: ``(temperature, log_u, velocity)``, each ``[B]``.
        rho: as in `isogclr`.
        gamma: as in `isogclr`.
        temperature_step: as in `isogclr`.
        temperature_momentum: as in `isogclr`.
        temperature_range: as in `isogclr`.
        temperature_clip: as in `isogclr`.
        estimator: as in `isogclr`.
        first_visit: as in `isogclr`.
        update: as in `isogclr`.

    Returns:
        As `isogclr`.

    Raises:
        ValueError: for a hyperparameter out of range or rows of another shape.

    Example:
        >>> rows = ContrastiveRows(jnp.full(3, 0.2), jnp.zeros(3), jnp.zeros(3))
        >>> z = jnp.eye(3)
        >>> statistics = contrastive_statistics(z, z, temperature=0.2)
        >>> settings = dict(rho=0.4, gamma=1.0, temperature_step=0.1, temperature_momentum=1.0)
        >>> settings["temperature_range"] = (0.05, 1.0)
        >>> _, rows, _ = isogclr_from_statistics(statistics, rows, **settings)
        >>> rows.temperature.tolist()
        [0.160, 0.160, 0.160]

    References:
        Qiu et al., "Not All Semantics are Created Equal: Contrastive Self-supervised Learning with
        Automatic Temperature Individualization" (ICML 2023), Algorithm 1.
    """
    rows = _read_rows(rows, statistics)
    log_u, rows = rows.log_u, jax.lax.stop_gradient(rows)
    dtype = statistics.count.dtype
    check_range("temperature_clip", temperature_clip, above=0)
    low, high = _read_bounds(temperature_range)
    finite = {"at_least": 0, "below": math.inf}
    rho = jax.lax.stop_gradient(_scalar("rho", rho, dtype, **finite))
    step = _scalar("temperature_step", temperature_step, dtype, **finite)
    momentum = _scalar("temperature_momentum", temperature_momentum, dtype, above=0, at_most=1)

    losses, log_u, aux = sogclr_from_statistics(
        statistics, log_u, gamma=gamma, estimator=estimator, first_visit=first_visit
    )
    q = aux.pop("temperature_gradient") + rho
    clipped = jnp.clip(q, -temperature_clip, temperature_clip)
    bounds = jnp.asarray([low, high], dtype)
    moved = update(
        jax.tree.map(lambda part: part.astype(dtype), rows),
        clipped,
        step=step,
        momentum=momentum,
        temperature_range=(low, high),
    )
    moved = jax.lax.stop_gradient(moved._replace(log_u=log_u))
    usable = ~(statistics.count == 0)
    usable = usable.all(0) if usable.ndim == 2 else usable
    kept = jax.tree.map(lambda new, old: jnp.where(usable, new.astype(old.dtype), old), moved, rows)
    at_bounds = (kept.temperature <= bounds[0].astype(kept.temperature.dtype)) | (
        kept.temperature >= bounds[1].astype(kept.temperature.dtype)
    )
    aux["objective"] += jnp.where(usable, rho * rows.temperature.astype(dtype), 0)
    aux |= {
        "q": jnp.where(usable, q, 0),
        "temperature": rows.temperature,
        "at_bounds": at_bounds.astype(dtype),
    }
    return losses, kept, aux


def _scalar(name: str, value: ArrayLike, dtype: np.dtype, **bounds: float) -> Array:
    if np.shape(value):
        raise ValueError(f"{name} must be a scalar, got shape {np.shape(value)}.")
    return in_range(name, value, dtype, **bounds)


def _read_bounds(temperature_range: tuple[float, float]) -> tuple[float, float]:
    bounds = tuple(temperature_range) if np.ndim(temperature_range) == 1 else ()
    if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1] < math.inf:
        raise ValueError(
            "temperature_range must be two finite numbers above 0, the lower one first; got "
            f"{temperature_range}."
        )
    return float(bounds[0]), float(bounds[1])


def _read_rows(rows: ContrastiveRows, statistics: ContrastiveStatistics) -> ContrastiveRows:
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


def _warn_of_radius(rho: ArrayLike, queries: tuple[int, ...], keys: tuple[int, ...]) -> None:
    """KL is at most log n, so that no larger rho can be reached; a traced one is not looked at."""
    most = math.prod(keys[:-1]) - (queries[0] if len(queries) == 3 else 1)
    if not isinstance(rho, jax.Array) and most > 0 and np.max(rho) >= math.log(most):
        warnings.warn(
            f"rho is {rho}, but the KL divergence over {most} negatives is at most "
            f"{math.log(most):.2f}: the temperatures fall to their lower bound. Lower rho or "
            "enlarge the batch.",
            stacklevel=3,
        )
