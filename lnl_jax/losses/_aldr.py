"""Adaptive label-distributionally robust loss: the temperature is solved for, per example."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax.losses._checks import (
    Scores,
    along_classes,
    finish,
    read_hyperparameter,
    read_scores,
)
from lnl_jax.losses._ldr import LabelGaps, label_gaps, tempered_mean

# Relative to the initial temperature, and beyond what float32 resolves.
_TOLERANCE = 1e-6
# Rows with two nearly equal fixed points converge linearly; these are ample.
_MAX_PASSES = 60
# A slope beyond any that occurs, finite so that it can be multiplied by 0.
_UNKNOWN = 1e30


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
    beta = (1 / rows)[..., None]
    top = logits.max(-1, keepdims=True)
    total = jnp.exp((logits - top) * beta).sum(-1, keepdims=True)
    mass = jnp.exp((logits - top) * beta) / total + 1e-5
    # Together the masses are 1 + 1e-5 K.
    terms = mass * jnp.log(mass)
    if scores.included is not None:
        terms = jnp.where(scores.included, terms, 0)
    whole = 1 + 1e-5 * scores.count
    divergence = terms.sum(-1) / whole - jnp.log1p(1e-5 * scores.count) + scores.log_count
    return price.initial * (1 - price.slope * divergence)


# From here on temperatures are relative to the initial one, u = lambda / lambda_0, and scores are
# divided by it and counted from the largest: a fixed point is u = T(u) = 1 - slope * KL.


class _End(NamedTuple):
    """One end of the interval that holds the fixed points, and the scores' moments there."""

    u: Array
    log_mass: Array  # log of the mean exponential of the scores / u
    mean: Array  # of the scores / u, under their softmax
    variance: Array
    tilt: Array  # bound on the slope of log variance + 2 log mass in beta = 1 / u; see _rates

    @property
    def divergence(self) -> Array:
        """KL to the uniform distribution."""
        return jnp.maximum(self.mean - self.log_mass, 0)


def _moments(scaled: Array, u: Array, log_count: Array, tilt: Array) -> _End:
    beta = 1 / u
    mass = jnp.exp(scaled * beta[..., None])
    total = mass.sum(-1)
    mean = (mass * scaled).sum(-1) * beta / total
    # XLA on CPU fuses three such sums into one sweep each; with a fourth, such as the skewness,
    # it would write the exponentials out at three times the cost.
    square = (mass * (scaled * scaled)).sum(-1) * beta**2 / total
    return _End(u, jnp.log(total) - log_count, mean, jnp.maximum(square - mean**2, 0), tilt)


# Control flow is compiled afresh at every eager call unless the function around it is jitted.
@jax.jit
def _maximiser(gaps: LabelGaps, price: _Price) -> Array:
    """The better of the largest and the smallest fixed point of T, each reached from outside."""
    gaps, price = jax.lax.stop_gradient((gaps, price))
    values = gaps.values
    # Below the floor an exponential is lost in the sum, and squares would overflow.
    floor = math.log(float(jnp.finfo(values.dtype).tiny)) + 10
    below_top = (values - values.max(-1, keepdims=True)) / along_classes(price.initial)
    scaled = jnp.maximum(below_top, floor)
    one = jnp.ones_like(gaps.constant)
    slope, log_count = price.slope * one, price.log_count

    def unfinished(carry):
        passes, *_, moving = carry
        return moving.any() & (passes < _MAX_PASSES)

    def close_in(carry):
        passes, upper, new_upper, lower, new_lower, _ = carry
        upper = _tightened(upper, _moments(scaled, new_upper, log_count, upper.tilt), jnp.maximum)
        lower = _tightened(lower, _moments(scaled, new_lower, log_count, lower.tilt), jnp.minimum)
        new_upper, new_lower, error = _certified_steps(upper, lower, slope)
        moving = (new_upper - new_lower > _TOLERANCE) & (error > _TOLERANCE)
        return passes + 1, upper, new_upper, lower, new_lower, moving

    # No moments are known yet: a variance of 0 says so to _tightened.
    upper = _End(one, 0 * one, 0 * one, 0 * one, -_UNKNOWN * one)
    lower = _End(one, 0 * one, 0 * one, 0 * one, _UNKNOWN * one)
    start = (0, upper, one, lower, one * (1 - 1 / price.alpha), one > 0)
    _, upper, u_upper, lower, u_lower, _ = jax.lax.while_loop(unfinished, close_in, start)
    better = jnp.where(_phi(lower, slope) > _phi(upper, slope), u_lower, u_upper)
    return price.initial * better


def _phi(end: _End, slope: Array) -> Array:
    """The objective up to a constant; near a fixed point the last step changes it to 2nd order."""
    return end.u * end.log_mass - (end.u - 1) ** 2 / (2 * slope)


def _tightened(before: _End, now: _End, better: Callable) -> _End:
    """Replaces the bound on the tilt at this end by its mean over the last step, if better."""
    step = 1 / now.u - 1 / before.u
    # Differences of rounded numbers say nothing over a short step or about a lost variance.
    known = jnp.abs(step) > 1e-2
    for end in (before, now):
        known &= end.variance > 1e-3 * end.mean**2
    change = jnp.log(jnp.where(known, now.variance * now.u**2, 1))
    change -= jnp.log(jnp.where(known, before.variance * before.u**2, 1))
    change += 2 * (now.log_mass - before.log_mass)
    mean_tilt = change / jnp.where(known, step, 1)
    return now._replace(tilt=jnp.where(known, better(now.tilt, mean_tilt), now.tilt))


def _certified_steps(upper: _End, lower: _End, slope: Array) -> tuple[Array, Array, Array]:
    """Moves both ends towards each other without crossing a fixed point; estimates what is left."""
    rate_down, rate_up = _rates(upper, lower)
    new_upper, error_above = _step_down(upper, lower.u, rate_down, slope)
    new_lower, error_below = _step_up(lower, upper.u, rate_up, slope)
    # Certified ends cannot cross; rounded ones can, and then they have met.
    new_upper = jnp.clip(new_upper, lower.u, upper.u)
    new_lower = jnp.clip(new_lower, lower.u, new_upper)
    return new_upper, new_lower, jnp.maximum(error_above, error_below)


def _rates(upper: _End, lower: _End) -> tuple[Array, Array]:
    r"""How fast, at most, the variance V falls from either end towards the other.

    In :math:`\beta = 1 / u` the KL has the slope :math:`\beta V`, so a bound from below on V bounds
    T. With A the log-partition function, :math:`V(\beta) e^{2 A(\beta)}` is up to a constant
    :math:`\sum_{jk} (\delta_j - \delta_k)^2 e^{\beta (\delta_j + \delta_k)}`: its logarithm is
    convex, so V falls from one end at most as :math:`e^{(t - 2 a) h}`, with t the tilt of that
    logarithm there and a the slope of A, itself convex, between the ends. The tilt grows with
    beta, so that its mean over an earlier step bounds it on the right side.
    """
    distance = jnp.maximum(1 / lower.u - 1 / upper.u, 0)
    chord = (lower.log_mass - upper.log_mass) / jnp.where(distance > 0, distance, 1)
    # Rounding must not move the chord out of the slopes at its ends.
    chord = jnp.clip(chord, upper.mean * upper.u, lower.mean * lower.u)
    return (2 * chord - upper.tilt) / upper.u, (lower.tilt - 2 * chord) / lower.u


def _step_down(upper: _End, limit: Array, rate: Array, slope: Array) -> tuple[Array, Array]:
    """From above the largest fixed point, towards it."""
    newton = _bound_down(upper, limit, 1.0, slope)
    certified = _bound_down(upper, newton, _kept(rate * (upper.u / newton - 1)), slope)
    return certified, certified - newton


def _bound_down(upper: _End, limit: Array, kept: Array | float, slope: Array) -> Array:
    root, exists, total = _bounded_root(upper, kept, slope)
    # From the near side of both roots the bound never meets the diagonal.
    return jnp.where(exists & (2 * upper.u >= total), jnp.maximum(root, limit), limit)


def _step_up(lower: _End, limit: Array, rate: Array, slope: Array) -> tuple[Array, Array]:
    """From below the smallest fixed point, towards it."""
    newton = _bound_up(lower, limit, 1.0, slope)
    step = 1 - lower.u / newton
    certified = _bound_up(lower, newton, _kept(rate * step) * (1 - step), slope)
    return certified, newton - certified


def _bound_up(lower: _End, limit: Array, kept: Array | float, slope: Array) -> Array:
    root, exists, _ = _bounded_root(lower, kept, slope)
    return jnp.where(exists, jnp.minimum(root, limit), limit)


def _kept(decay: Array) -> Array:
    """The mean of exp(-x) for x from 0 to `decay`: how much of V to count on over a step."""
    decay = jnp.maximum(decay, 0)
    return jnp.where(decay > 1e-3, -jnp.expm1(-decay) / jnp.maximum(decay, 1e-3), 1 - decay / 2)


def _bounded_root(end: _End, kept: Array | float, slope: Array) -> tuple[Array, Array, Array]:
    """Where T meets u for a KL linear in beta: the larger root, if any exists, the sum of both."""
    drop = slope * kept * end.variance
    total = 1 - slope * end.divergence + drop
    discriminant = total**2 / 4 - drop * end.u
    return total / 2 + jnp.sqrt(jnp.maximum(discriminant, 0)), discriminant >= 0, total
