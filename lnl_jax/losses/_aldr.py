"""Adaptive label-distributionally robust loss: the temperature is solved for, per example."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax.losses._checks import Scores, along_classes, finish, read_hyperparameter, read_scores
from lnl_jax.losses._ldr import LabelGaps, label_gaps, tempered_mean
from lnl_jax.losses._temperature_search import adapted_temperature


def aldr_kl(
    logits: Array,
    labels: Array,
    *,
    temperature: ArrayLike = 1.0,
    alpha: ArrayLike = 2.0,
    margin: ArrayLike = 0.0,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Adaptive label-distributionally robust loss (ALDR-KL), solved exactly.

    LDR-KL whose temperature adapts to the example, at a quadratic price:

    .. math::
        \ell = \max_{\lambda \ge 0} \phi(\lambda), \qquad
        \phi(\lambda) = \lambda \log \frac{1}{K} \sum_j \exp(\delta_j / \lambda)
        - \frac{\alpha \log K}{2 \lambda_0} (\lambda - \lambda_0)^2,
        \qquad \delta_j = f_j - \langle y, f \rangle + m (1 - y_j)

    An uncertain example keeps a temperature near :math:`\lambda_0`, a confident one gets a smaller
    one, down to :math:`\lambda_0 (1 - 1 / \alpha)`. `aldr_temperature` says how the maximiser is
    found, and which.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        temperature: :math:`\lambda_0 > 0`, a scalar or one per example, ``[...]``.
        alpha: :math:`\alpha > 1`, the stiffness of the temperature, a scalar or one per example.
            Large values give LDR-KL at :math:`\lambda_0`.
        margin: :math:`m \ge 0`, a scalar or one per example, ``[...]``.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`. K counts these.

    Returns:
        One loss per example, ``[...]``, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked; 0 where all classes are masked; ``inf`` where the label's own
        logit is ``-inf``. The gradient is that of :math:`\phi` at the maximiser, which is held
        (Danskin); it jumps where two maximisers tie, the loss does not.

    Raises:
        ValueError: for labels that fit neither form, a hyperparameter out of range, or a shape that
            is neither a scalar nor the batch's.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> aldr_kl(logits, jnp.array([0, 1]), alpha=2.0, margin=0.5).tolist()
        [-0.489, 2.678]

    References:
        Zhu, Ying and Yang, "Label Distributionally Robust Losses for Multi-class Classification:
        Consistency, Robustness and Adaptivity" (ICML 2023), the ALDR-KL loss, with alpha scaled by
        :math:`\log K / \lambda_0` as in the official code. That code takes one approximate step per
        visit instead of the maximum: `aldr_kl_step`.
    """
    scores = read_scores(logits, labels, axis, where)
    gaps = label_gaps(scores, margin)
    price = _read_price(temperature, alpha, scores)
    return finish(_value(gaps, _maximiser(gaps, price), price), scores)


def aldr_temperature(
    logits: Array,
    labels: Array,
    *,
    temperature: ArrayLike = 1.0,
    alpha: ArrayLike = 2.0,
    margin: ArrayLike = 0.0,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""The temperature at which :func:`aldr_kl` takes its maximum, per example.

    It is a fixed point of the increasing function

    .. math::
        T(\lambda) = \lambda_0 \left(1 - \frac{\mathrm{KL}(p_\lambda \,\|\, 1/K)}{\alpha \log K}
        \right), \qquad p_\lambda = \mathrm{softmax}(\delta / \lambda).

    There can be several. The search closes in on the largest from :math:`\lambda_0` and on the
    smallest from :math:`\lambda_0 (1 - 1/\alpha)`, with Newton steps shortened until a bound on
    the curvature of the KL proves that they cross no fixed point, and returns the one with the
    larger :math:`\phi`. Scores on very different scales can have further local maxima between
    these two; they are not looked at.

    Args:
        logits: scores, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions of shape ``[..., K]``.
        temperature: :math:`\lambda_0 > 0`, a scalar or one per example, ``[...]``.
        alpha: :math:`\alpha > 1`, a scalar or one per example, ``[...]``.
        margin: at least 0, a scalar or one per example, ``[...]``.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One temperature per example, ``[...]``, in :math:`[\lambda_0 (1 - 1/\alpha), \lambda_0]`, to
        about :math:`10^{-6} \lambda_0`, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked; 0 where all classes are masked. No gradient flows to any
        argument.

    Raises:
        ValueError: as :func:`aldr_kl`.

    Example:
        >>> logits = jnp.array([[9.0, 0.0, 0.0], [0.1, 0.0, 0.0]])
        >>> aldr_temperature(logits, jnp.array([0, 0]), temperature=1.0, alpha=2.0).tolist()
        [0.500, 0.999]

    References:
        Zhu, Ying and Yang, "Label Distributionally Robust Losses for Multi-class Classification:
        Consistency, Robustness and Adaptivity" (ICML 2023), the ALDR-KL loss.
    """
    scores = read_scores(logits, labels, axis, where)
    price = _read_price(temperature, alpha, scores)
    return finish(_maximiser(label_gaps(scores, margin), price), scores)


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
        are all masked keep their row. No gradient flows through the rows.

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
    price = _read_price(temperature, alpha, scores)
    adapted = _visit(scores, rows.astype(scores.logits.dtype), price)
    losses = finish(_value(label_gaps(scores, margin), adapted, price), scores)
    unusable = scores.invalid if scores.empty is None else scores.invalid | scores.empty
    return losses, jnp.where(unusable, rows, adapted.astype(rows.dtype))


def _read_rows(rows: Array, scores: Scores) -> Array:
    rows = jnp.asarray(rows)
    if rows.shape != scores.batch_shape or not jnp.issubdtype(rows.dtype, jnp.floating):
        raise ValueError(
            f"rows must be one floating temperature per example, shape {scores.batch_shape}; got "
            f"{rows.dtype} of shape {rows.shape}. Gather them from the table by index."
        )
    return jax.lax.stop_gradient(rows)


class _Price(NamedTuple):
    """What a temperature other than the initial one costs: stiffness / 2 times the difference^2."""

    initial: Array
    alpha: Array
    log_count: Array

    @property
    def stiffness(self) -> Array:
        return self.alpha * self.log_count / self.initial

    @property
    def slope(self) -> Array:
        """Of T / initial with respect to the KL, as a positive number."""
        # With one class the KL is 0 and any temperature will do: keep the initial one.
        return 1 / (self.alpha * jnp.where(self.log_count > 0, self.log_count, 1))


def _read_price(temperature: ArrayLike, alpha: ArrayLike, scores: Scores) -> _Price:
    return _Price(
        read_hyperparameter("temperature", temperature, scores, above=0),
        read_hyperparameter("alpha", alpha, scores, above=1),
        scores.log_count,
    )


def _value(gaps: LabelGaps, adapted: Array, price: _Price) -> Array:
    """The objective at a given temperature, which is held."""
    adapted = jax.lax.stop_gradient(adapted)
    penalty = price.stiffness / 2 * (adapted - price.initial) ** 2
    return tempered_mean(gaps, adapted) - penalty + gaps.shift


def _visit(scores: Scores, rows: Array, price: _Price) -> Array:
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


def _maximiser(gaps: LabelGaps, price: _Price) -> Array:
    """The temperature at which the objective is largest."""
    gaps, price = jax.lax.stop_gradient((gaps, price))
    # The search has the classes last.
    values = jnp.moveaxis(gaps.values, gaps.scores.axis, -1)
    relative = (values - values.max(-1, keepdims=True)) / along_classes(price.initial, -1)
    one = jnp.ones_like(gaps.constant)
    lowest = one * (1 - 1 / price.alpha)
    return price.initial * adapted_temperature(relative, price.slope * one, lowest, price.log_count)
