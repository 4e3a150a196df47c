"""The bi-tempered logistic loss: a bounded loss over a heavy-tailed softmax.

With c = 1 - t1 and s = t2 - 1, everything is computed from logarithms of probabilities. The
normaliser is found as nu, minus the log-probability of the best class, which lies between 0 and
log K, whatever the scores and t2: Lambda itself, expm1(s nu) / s above the best score, can
overflow.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from lnl_jax.losses._checks import (
    Scores,
    along_classes,
    classes_last,
    finish,
    read_hyperparameter,
    read_scores,
)

# Newton's method needs about five, and nine for two groups of scores far apart in float64. Their
# number is fixed: with a stopping rule, devices that share a batch would have to ask each other.
_PASSES = 9
# Where a difference quotient of the functions below gives way to a series, |x| < _SMALL.
_SMALL = 0.1
# Derivatives of expm1(x) / x and log1p(x) / x, as many terms as float64 needs there.
_EXPM1_SERIES = [n / math.factorial(n + 1) for n in range(1, 12)]
_LOG1P_SERIES = [(-1) ** n * n / (n + 1) for n in range(1, 18)]
# Its square is finite in float32; see _bounded_square.
_LARGE = 1e15


def bi_tempered_logistic(
    logits: Array,
    labels: Array,
    *,
    t1: ArrayLike,
    t2: ArrayLike,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Bi-tempered logistic loss.

    The Bregman divergence of the logarithm of temperature t1 over the softmax of temperature t2:

    .. math::
        \ell = \sum_k y_k (\log_{t_1} y_k - \log_{t_1} p_k)
            - \frac{y_k^{2 - t_1} - p_k^{2 - t_1}}{2 - t_1},
        \qquad p = \exp_{t_2}(f - \Lambda), \quad \sum_k p_k = 1,

    .. math::
        \log_t x = \frac{x^{1 - t} - 1}{1 - t},
        \qquad \exp_t x = [1 + (1 - t) x]_+^{1 / (1 - t)}

    Cross-entropy, or :math:`\mathrm{KL}(y \,\|\, p)` for soft labels, at t1 = t2 = 1. Below 1, t1
    bounds the loss by 1/(1 - t1), so that an example far on the wrong side stops counting; above
    1, t2 gives the softmax a heavy tail, so that one near the boundary is not pulled hard to its
    label.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        t1: :math:`0 \le t_1 \le 1`, a scalar or one per example, ``[...]``.
        t2: :math:`t_2 \ge 1`, a scalar or one per example, ``[...]``. Our comparisons try t1 with
            t2 of 0.8 with 1.2, 0.5 with 2 and 0.2 with 4.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, at least 0 up to rounding, in the dtype of `logits`. NaN
        where an integer label is outside ``[0, K)`` or masked; 0 where all classes are masked;
        ``inf`` where the label's own logit is ``-inf`` and t1 = 1. Gradients flow to all four
        arguments.

    Raises:
        ValueError: for labels that fit neither form, t1 or t2 out of range, or one that is neither
            a scalar nor one per example.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> bi_tempered_logistic(logits, jnp.array([0, 1]), t1=0.8, t2=1.3).tolist()
        [0.374, 1.728]

    References:
        Amid, Warmuth, Anil and Koren, "Robust Bi-Tempered Logistic Loss Based on Bregman
        Divergences" (NeurIPS 2019). The paper finds the normaliser by a fixed-point iteration; here
        it is Newton's method.
    """
    scores = classes_last(read_scores(logits, labels, axis, where))
    t1 = read_hyperparameter("t1", t1, scores, at_least=0, at_most=1)
    t2 = read_hyperparameter("t2", t2, scores, at_least=1)
    log_p = log_tempered_softmax(scores.logits, t2 - 1)
    losses = _divergence(log_p, scores, 1 - t1)
    return finish(jnp.where(scores.impossible & (t1 == 1), jnp.inf, losses), scores)


def _divergence(log_p: Array, scores: Scores, c: Array) -> Array:
    """The loss for given log-probabilities.

    As p sums to 1, the sum of p^(1 + c) is 1 + c <p, log_t1 p>, and likewise for y. Written so, no
    ones cancel, and at c = 0 nothing is left but cross-entropy.
    """
    log_t1_p = _tempered_log(along_classes(c, -1), log_p)
    inner = (jnp.exp(log_p) * log_t1_p).sum(-1)
    if not scores.soft:
        own = jnp.take_along_axis(log_t1_p, scores.labels[..., None], -1)[..., 0]
        return c / (1 + c) * inner - own
    y = scores.labels
    # At y = 0 the derivative is -1 / (c (1 + c)), infinite at c = 0; so it is the one next to it.
    log_y = jnp.log(jnp.maximum(y, jnp.finfo(y.dtype).tiny))
    log_t1_y = _tempered_log(along_classes(c, -1), log_y)
    return (y * (log_t1_y / (1 + along_classes(c, -1)) - log_t1_p)).sum(-1) + c / (1 + c) * inner


def log_tempered_softmax(logits: Array, s: Array) -> Array:
    """Logarithms of the probabilities, ``[..., K]``; of a very small one for -inf."""
    gaps = jax.lax.stop_gradient(logits.max(-1, keepdims=True)) - logits
    return _log_probabilities(gaps, normaliser(gaps, s), s)


def _log_probabilities(gaps: Array, nu: Array, s: Array) -> Array:
    absent = gaps == jnp.inf
    s = along_classes(s, -1)
    nu = nu[..., None]
    scaled = jnp.where(absent, 0, gaps) * jnp.exp(-s * nu)
    # Finite, since it is multiplied by 0.
    lowest = -float(jnp.finfo(gaps.dtype).max) / 4
    return jnp.where(absent, lowest, -nu - _scaled_log1p(s, scaled))


def normaliser(gaps: Array, s: Array) -> Array:
    r""":math:`\nu = -\log \max_k p_k`, ``[...]``, from the distances below the largest score."""

    def log_total(nu: Array) -> Array:
        return jnp.log(jnp.exp(_log_probabilities(gaps, nu, s)).sum(-1))

    return jax.lax.custom_root(
        log_total,
        jnp.zeros_like(gaps[..., 0]),
        lambda *_: find_normaliser(gaps, s),
        lambda linear, value: value / linear(jnp.ones_like(value)),
    )


# Control flow is compiled afresh at every eager call unless the function around it is jitted.
@jax.jit
def find_normaliser(gaps: Array, s: Array) -> Array:
    r"""The normaliser, by Newton's method.

    As a function of :math:`\Lambda`, :math:`(\sum_k \exp_{t_2}(f_k - \Lambda))^{-s}` is up to a
    factor a power mean of negative order of linear functions: concave and increasing. So Newton's
    method on it never oversteps from below, and its first step is exact for equal scores.
    """

    def step(_, nu):
        log_p = _log_probabilities(gaps, nu, s)
        total = jnp.exp(log_p).sum(-1)
        log_total = jnp.log(total)
        # The mean of (p / max p)^s, from an exponential of its own: XLA on CPU fuses two into two
        # sums over log_p, but would write a shared one out.
        above = along_classes(s, -1) * (log_p + nu[..., None])
        mean = jnp.exp(log_p + above).sum(-1) / total
        # The step in Lambda, as one in nu.
        change = log_total + _scaled_log1p(s, _tempered_log(-s, log_total) * (1 / mean - 1))
        return nu + change

    # The distance of the largest is 0, and varies over devices as the others do.
    return jax.lax.fori_loop(0, _PASSES, step, gaps.min(-1))


@jax.custom_jvp
def _tempered_log(c: Array, x: Array) -> Array:
    """``expm1(c x) / c``: the logarithm of temperature 1 - c of exp(x); x at c = 0."""
    z = c * x
    zero = z == 0
    return jnp.where(zero, x, x * (jnp.expm1(z) / jnp.where(zero, 1, z)))


def _tempered_log_jvp(primals, tangents):
    (c, x), (c_dot, x_dot) = primals, tangents
    value, z = _tempered_log(c, x), c * x
    slope = jnp.exp(z)
    return value, _tangent(value, slope, _EXPM1_SERIES, (c, x, z), (c_dot, x_dot))


@jax.custom_jvp
def _scaled_log1p(s: Array, x: Array) -> Array:
    """``log1p(s x) / s``; x at s = 0."""
    z = s * x
    zero = z == 0
    return jnp.where(zero, x, x * (jnp.log1p(z) / jnp.where(zero, 1, z)))


def _scaled_log1p_jvp(primals, tangents):
    (s, x), (s_dot, x_dot) = primals, tangents
    value, z = _scaled_log1p(s, x), s * x
    slope = 1 / (1 + z)
    return value, _tangent(value, slope, _LOG1P_SERIES, (s, x, z), (s_dot, x_dot))


_tempered_log.defjvp(_tempered_log_jvp, symbolic_zeros=True)
_scaled_log1p.defjvp(_scaled_log1p_jvp, symbolic_zeros=True)


def _tangent(value: Array, slope: Array, series: list[float], primals, tangents) -> Array:
    """Of ``g(c x) / c`` with g'(c x) = `slope` and the derivative of g(z) / z a `series`."""
    (c, x, z), (c_dot, x_dot) = primals, tangents
    tangent = jnp.zeros_like(value)
    if not isinstance(x_dot, SymbolicZero):
        tangent += slope * x_dot
    if not isinstance(c_dot, SymbolicZero):
        small = jnp.abs(z) < _SMALL
        near = _bounded_square(x) * _polynomial(series, jnp.where(small, z, 0))
        far = (x * slope - value) / jnp.where(small, 1, c)
        tangent += jnp.where(small, near, far) * c_dot
    return tangent


def _bounded_square(x: Array) -> Array:
    """Finite, since it is multiplied by a probability of 0 wherever the bound binds."""
    return jnp.clip(x, -_LARGE, _LARGE) ** 2


def _polynomial(coefficients: list[float], x: Array) -> Array:
    total = jnp.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total
