"""iSogCLR: a global contrastive loss with a temperature per example, learnt by its own gradient."""

import math
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax.contrastive._info_nce import ContrastiveStatistics, contrastive_statistics
from lnl_jax.contrastive._inner_estimates import (
    Estimator,
    FirstVisit,
    difference_to_positive,
    restart_example,
)
from lnl_jax.contrastive._sogclr import sogclr_from_statistics
from lnl_jax.contrastive._surrogate import constant_beside
from lnl_jax.contrastive._temperatures import (
    ContrastiveRows,
    Temperatures,
    check_temperatures,
    read_rows,
    read_temperatures,
    temperature_step,
)

Update = Callable[[ContrastiveRows, Array, Temperatures], ContrastiveRows]


def isogclr(
    queries: Array,
    keys: Array,
    rows: ContrastiveRows,
    *,
    gamma: ArrayLike,
    temperatures: Temperatures,
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

    Usual values: of views, as in the official code, a `range` of (0.05, 1), a `clip` of 3 and a
    gamma of 0.8 to 0.9; of images and texts (0.005, 1), 5, and a :math:`\rho` just below the log of
    the batch size, 6 for 512. A `momentum` of 0.5 to 0.9 is mostly the new gradient. The rows of
    all examples are a table, :func:`isogclr_table`, whose rows of a batch
    `lnl_jax.train` gathers and scatters; images and texts have one each.

    The value of the loss is not the objective: its weights are held, and it is negative as soon as
    the positives are nearer than the negatives. Watch ``aux["objective"]``.

    Args:
        queries: anchors, ``[B, d]``, or views, ``[V, B, d]``, normalised by the caller.
        keys: ``[M, d]``, or views ``[V, B, d]``.
        rows: ``(temperature, log_u, velocity)``, each ``[B]``; see `ContrastiveRows`.
        gamma: weight of this visit in the inner mean, in (0, 1], a scalar or one per example,
            ``[B]``, such as `scent_gamma`. The official code takes 0.8.
        temperatures: how they are learnt, :math:`\rho` included; see `Temperatures`.
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
        >>> learnt = Temperatures(rho=0.3, step=0.1, momentum=0.5, range=(0.05, 1.0))
        >>> losses, rows, aux = isogclr(z, z, rows, gamma=0.8, temperatures=learnt)
        >>> rows.temperature.tolist()
        [0.085, 0.085, 0.085]

    References:
        Qiu et al., "Not All Semantics are Created Equal: Contrastive Self-supervised Learning with
        Automatic Temperature Individualization" (ICML 2023), Algorithm 1. Deviations from the
        official code, each an argument: `estimator`, `first_visit`, `temperatures.clip`.
    """
    rows = rows if hasattr(rows, "_fields") else ContrastiveRows(*rows)
    check_temperatures(temperatures)
    _warn_of_radius(temperatures.rho, np.shape(queries), np.shape(keys))
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
        gamma=gamma,
        temperatures=temperatures,
        estimator=estimator,
        first_visit=first_visit,
        update=update,
    )
    return losses.astype(jnp.asarray(queries).dtype), rows, aux


def isogclr_from_statistics(
    statistics: ContrastiveStatistics,
    rows: ContrastiveRows,
    *,
    gamma: ArrayLike,
    temperatures: Temperatures,
    estimator: Estimator = difference_to_positive,
    first_visit: FirstVisit = restart_example,
    update: Update = temperature_step,
) -> tuple[Array, ContrastiveRows, dict[str, Array]]:
    """`isogclr` from statistics, which were taken at ``rows.temperature``.

    Args:
        statistics: from `contrastive_statistics` or `similarity_statistics`.
        rows: ``(temperature, log_u, velocity)``, each ``[B]``.
        gamma: as in `isogclr`.
        temperatures: as in `isogclr`.
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
        >>> learnt = Temperatures(rho=0.4, step=0.1, momentum=1.0, range=(0.05, 1.0))
        >>> _, rows, _ = isogclr_from_statistics(statistics, rows, gamma=1.0, temperatures=learnt)
        >>> rows.temperature.tolist()
        [0.160, 0.160, 0.160]

    References:
        Qiu et al., "Not All Semantics are Created Equal: Contrastive Self-supervised Learning with
        Automatic Temperature Individualization" (ICML 2023), Algorithm 1.
    """
    rows = read_rows(rows, statistics)
    log_u, rows = rows.log_u, jax.lax.stop_gradient(rows)
    dtype = statistics.count.dtype
    temperatures = jax.lax.stop_gradient(read_temperatures(temperatures, dtype))

    losses, log_u, aux = sogclr_from_statistics(
        statistics, log_u, gamma=gamma, estimator=estimator, first_visit=first_visit
    )
    q = aux.pop("temperature_gradient") + temperatures.rho
    clipped = jnp.clip(q, -temperatures.clip, temperatures.clip)
    moved = update(jax.tree.map(lambda part: part.astype(dtype), rows), clipped, temperatures)
    moved = jax.lax.stop_gradient(moved._replace(log_u=log_u))
    usable = ~(statistics.count == 0)
    usable = usable.all(0) if usable.ndim == 2 else usable
    kept = jax.tree.map(lambda new, old: jnp.where(usable, new.astype(old.dtype), old), moved, rows)
    low, high = (bound.astype(kept.temperature.dtype) for bound in temperatures.range)
    at_bounds = (kept.temperature <= low) | (kept.temperature >= high)
    aux["objective"] += jnp.where(usable, temperatures.rho * rows.temperature.astype(dtype), 0)
    aux |= {
        "q": jnp.where(usable, q, 0),
        "temperature": rows.temperature,
        "at_bounds": at_bounds.astype(dtype),
    }
    return losses, kept, aux


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
