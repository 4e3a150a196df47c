"""FastCLIP: a global contrastive loss with one temperature that is learnt as a parameter."""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import in_range
from lnl_jax.contrastive._embeddings import over_views
from lnl_jax.contrastive._info_nce import contrastive_statistics
from lnl_jax.contrastive._inner_estimates import (
    Estimator,
    FirstVisit,
    difference_to_positive,
    restart_example,
)
from lnl_jax.contrastive._sogclr import surrogate, visit_of


def fastclip(
    queries: Array,
    keys: Array,
    log_u: Array,
    *,
    temperature: ArrayLike,
    rho: ArrayLike,
    gamma: ArrayLike,
    positives: Array | None = None,
    where: Array | None = None,
    query_index: Array | None = None,
    key_index: Array | None = None,
    estimator: Estimator = difference_to_positive,
    first_visit: FirstVisit = restart_example,
    block_size: int | None = None,
) -> tuple[Array, Array, dict[str, Array]]:
    r"""FastCLIP-v3 for one kind of anchor: SogCLR with one temperature, which gets a gradient.

    .. math::
        \ell_i = \tau (\log u_i + \rho), \qquad
        \frac{\partial \ell_i}{\partial \tau} = \log u_i + \rho
        - \frac{1}{n} \sum_j w_{ij} \frac{s_{ij} - s_i^+}{\tau}

    The gradient of the embeddings is that of :func:`sogclr`, the value here is the objective. A
    bimodal loss is the sum, or half of it, of this for both kinds of anchors, each with its table.

    Args:
        queries: anchors, ``[B, d]``, or views, ``[V, B, d]``, normalised by the caller.
        keys: ``[M, d]``, or views ``[V, B, d]``.
        log_u: :math:`\log u`, ``[B]``, after the last visit; ``-inf`` before the first.
        temperature: :math:`\tau > 0`, a scalar; keep it in its range after each update.
        rho: at least 0, a scalar: the larger, the smaller the temperature becomes.
        gamma: weight of this visit, in (0, 1], a scalar or one per example, ``[B]``;
            `cosine_gamma`, `scent_gamma`.
        positives: as in `info_nce`.
        where: as in `info_nce`.
        query_index: as in `info_nce`.
        key_index: as in `info_nce`.
        estimator: of the inner mean; see `sogclr`.
        first_visit: see `sogclr`.
        block_size: as in `info_nce`.

    Returns:
        The losses, ``[B]``, the new `log_u`, ``[B]``, and `aux` as `sogclr`, with
        :math:`\rho`. Gradients flow to the embeddings and to `temperature` only.

    Raises:
        ValueError: as `sogclr`, and for a temperature or rho that is no scalar.

    Example:
        >>> z = jnp.eye(3)
        >>> def loss(temperature):
        ...     new = jnp.full(3, -jnp.inf)
        ...     return fastclip(z, z, new, temperature=temperature, rho=0.5, gamma=1.0)[0].mean()
        >>> float(jax.jit(jax.grad(loss))(1.0))
        0.5

    References:
        Wei et al., "FastCLIP: A Suite of Optimization Techniques to Accelerate CLIP Training with
        Limited Resources" (2024), v3. The official code counts the inner part of the
        temperature's gradient twice; this does not.
    """
    for name, value in (("temperature", temperature), ("rho", rho)):
        if jnp.ndim(value):
            raise ValueError(f"{name} must be a scalar, got shape {jnp.shape(value)}.")
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
    visit = visit_of(statistics, log_u, gamma, estimator, first_visit)
    rho = in_range("rho", rho, visit.value.dtype, at_least=0, below=math.inf)
    some, tau = ~(statistics.count == 0), statistics.temperature
    objective = over_views(jnp.where(some, tau * rho, 0)) + visit.aux["objective"]
    slope = over_views(jnp.where(some, rho, 0)) + visit.aux["temperature_gradient"]
    objective, slope = jax.lax.stop_gradient((objective, slope))
    # The rest of it, the mean of the negatives' similarities, flows through their sum.
    of_temperature = visit.log_average + rho + visit.ratio * visit.offset / tau
    losses = over_views(surrogate(visit, statistics, of_temperature))
    # The gradients are those of the surrogate; a value of 0 brings them to the objective.
    losses = objective + (losses - jax.lax.stop_gradient(losses))
    aux = visit.aux | {"objective": objective, "temperature_gradient": slope}
    return losses.astype(jnp.asarray(queries).dtype), visit.log_u, aux
