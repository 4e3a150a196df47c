"""The label-distributionally robust loss whose temperature is stored per example and visited."""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import as_checkable, in_range
from lnl_jax.losses._aldr import Price, objective, read_price
from lnl_jax.losses._checks import Scores, along_classes, finish, read_scores
from lnl_jax.losses._ldr import label_gaps


def aldr_kl_step(
    logits: Array,
    labels: Array,
    rows: Array,
    *,
    temperature: ArrayLike = 1.0,
    alpha: ArrayLike = 2.0,
    margin: ArrayLike = 0.0,
    axis: int = -1,
    where: Array | None = None,
) -> tuple[Array, Array]:
    r"""One visit of Algorithm 1: ALDR-KL with a temperature that is stored per example.

    .. math::
        p \propto \mathrm{softmax}(f / \lambda) + 10^{-5}, \qquad
        \lambda' = \lambda_0 \left(1 - \frac{\mathrm{KL}(p \,\|\, 1/K)}{\alpha \log K}\right),
        \qquad
        \ell = \lambda' \log \frac{1}{K} \sum_j \exp(\delta_j / \lambda')
        - \frac{\alpha \log K}{2 \lambda_0} (\lambda' - \lambda_0)^2

    with :math:`\delta` as in :func:`aldr_kl`. This is what the official code does, and it is not
    quite an iteration of the equation that :func:`aldr_temperature` solves: :math:`p` leaves the
    margin out, and the :math:`10^{-5}` adds 1% of mass at K = 1000. It costs about one more softmax
    than LDR-KL.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        rows: :math:`\lambda` of these examples after their last visit, ``[...]``; the initial
            temperature before their first.
        temperature: :math:`\lambda_0 > 0`, a scalar or one per example, ``[...]``.
        alpha: :math:`\alpha > 1`, a scalar or one per example, ``[...]``.
        margin: :math:`m \ge 0`, a scalar or one per example, ``[...]``.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`. K counts these.

    Returns:
        The losses, ``[...]``, in the dtype of `logits`, marked as in :func:`aldr_kl`, and the new
        rows, ``[...]``, in the dtype of `rows`; examples whose label is invalid or whose classes
        are all masked keep their row. No gradient flows through the rows: derivatives of any
        order, also those in `temperature` and `alpha`, hold :math:`\lambda'`.

    Raises:
        ValueError: as :func:`aldr_kl`, and for rows that are not one floating number per example.

    Example:
        >>> logits, labels = jnp.array([[2.0, 1.0, 0.0]]), jnp.array([0])
        >>> losses, rows = aldr_kl_step(logits, labels, jnp.array([1.0]), temperature=1.0)
        >>> rows.tolist()
        [0.879]

    References:
        Zhu, Ying and Yang, "Label Distributionally Robust Losses for Multi-class Classification:
        Consistency, Robustness and Adaptivity" (ICML 2023), Algorithm 1.
    """
    scores = read_scores(logits, labels, axis, where)
    rows = _read_rows(rows, scores)
    price = read_price(temperature, alpha, scores)
    adapted = _visit(scores, rows.astype(scores.logits.dtype), price)
    gaps = label_gaps(scores, margin)
    top, below = gaps.from_the_top()
    visited = objective(below, adapted, price, scores.included, scores.axis)
    losses = finish(top + visited + gaps.shift, scores)
    unusable = scores.invalid if scores.empty is None else scores.invalid | scores.empty
    return losses, jnp.where(unusable, rows, adapted.astype(rows.dtype))


def _read_rows(rows: Array, scores: Scores) -> Array:
    rows = as_checkable("rows", rows)
    if rows.shape != scores.batch_shape or not jnp.issubdtype(rows.dtype, jnp.floating):
        raise ValueError(
            f"rows must be one floating temperature per example, shape {scores.batch_shape}; got "
            f"{rows.dtype} of shape {rows.shape}. Gather them from the table by index."
        )
    return jax.lax.stop_gradient(in_range("rows", rows, rows.dtype, above=0, below=math.inf))


def _visit(scores: Scores, rows: Array, price: Price) -> Array:
    """The temperature after one visit, as the official code computes it."""
    logits, price = jax.lax.stop_gradient((scores.logits, price))
    axis, beta = scores.axis, along_classes(1 / rows, scores.axis)
    top = logits.max(axis, keepdims=True)
    total = jnp.exp((logits - top) * beta).sum(axis, keepdims=True)
    mass = jnp.exp((logits - top) * beta) / total + 1e-5
    # Together the masses are 1 + 1e-5 K.
    terms = mass * jnp.log(mass)
    if scores.included is not None:
        terms = jnp.where(scores.included, terms, 0)
    whole = 1 + 1e-5 * scores.count
    divergence = terms.sum(axis) / whole - jnp.log1p(1e-5 * scores.count) + scores.log_count
    return price.initial * (1 - price.slope * divergence)
