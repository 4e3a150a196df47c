"""Adaptive label-distributionally robust loss: the temperature is solved for, per example."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax.losses._checks import Scores, along_classes, finish, read_hyperparameter, read_scores
from lnl_jax.losses._ldr import label_gaps
from lnl_jax.losses._temperature_search import adapted_temperature
from lnl_jax.losses._tempered import tempered_mass, tempered_mean


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
        logit is ``-inf``. The gradient is that of :math:`\phi` at the maximiser, whose own move
        changes nothing (Danskin); further derivatives move it. The gradient jumps where two
        maximisers tie, the loss does not.

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
    top, below = gaps.from_the_top()
    price = read_price(temperature, alpha, scores)
    largest = _maximum(below, price, scores.included, scores.axis)
    return finish(top + largest + gaps.shift, scores)


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

    There can be several. The search takes seven exact values and slopes of the KL, with cubics
    between them, and returns the fixed point with the largest :math:`\phi`. At
    :math:`\alpha \ge 1.1` and up to 1000 classes the loss there is the maximum but for rounding;
    nearer to 1, scores on several scales can have maxima that fall between the values. Where two
    maximisers tie to within the rounding of :math:`\phi`, either may be returned, and where two
    meet, so that :math:`\phi` is flat, the temperature is as exact as rounding lets it be: about
    the root of the relative precision.

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
        outside ``[0, K)`` or masked; 0 where all classes are masked. The gradient is that of the
        fixed point (implicit function theorem); to weigh losses with a temperature that is to be
        held, stop it.

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
    price = read_price(temperature, alpha, scores)
    _, below = label_gaps(scores, margin).from_the_top()
    return finish(_maximiser(below, price, scores.axis), scores)


class Price(NamedTuple):
    """What a temperature other than the initial one costs: stiffness / 2 times the difference^2."""

    initial: Array
    alpha: Array
    count: Array

    @property
    def log_count(self) -> Array:
        return jnp.log(self.count)

    @property
    def stiffness(self) -> Array:
        return self.alpha * self.log_count / self.initial

    @property
    def slope(self) -> Array:
        """Of T / initial with respect to the KL, as a positive number."""
        # With one class the KL is 0 and any temperature will do: keep the initial one.
        return 1 / (self.alpha * jnp.where(self.count > 1, self.log_count, 1))


def read_price(temperature: ArrayLike, alpha: ArrayLike, scores: Scores) -> Price:
    return Price(
        read_hyperparameter("temperature", temperature, scores, above=0, below=math.inf),
        read_hyperparameter("alpha", alpha, scores, above=1, below=math.inf),
        scores.count,
    )


def objective(
    below: Array, adapted: Array, price: Price, included: Array | None, axis: int
) -> Array:
    """At a given temperature, with the violations counted from the largest."""
    penalty = price.stiffness / 2 * (adapted - price.initial) ** 2
    return tempered_mean(below, adapted, included, price.count, axis) - penalty


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _maximum(below: Array, price: Price, included: Array | None, axis: int) -> Array:
    """The objective where it is largest."""
    return objective(below, _maximiser(below, price, axis), price, included, axis)


@_maximum.defjvp
def _maximum_moves(axis: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """The maximiser is held, as its own move changes nothing; the next derivative moves it."""
    below, price, included = primals
    adapted = _maximiser(below, price, axis)

    def held(below: Array, price: Price) -> Array:
        return objective(below, adapted, price, included, axis)

    # The value by itself: beside its derivative a sum would add up in another order.
    return held(below, price), jax.jvp(held, (below, price), tangents[:2])[1]


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _maximiser(below: Array, price: Price, axis: int) -> Array:
    """The temperature at which the objective is largest."""
    # The search has the classes last.
    relative = jnp.moveaxis(below, axis, -1) / along_classes(price.initial, -1)
    one = jnp.ones_like(relative[..., 0])
    lowest = one * (1 - 1 / price.alpha)
    return price.initial * adapted_temperature(relative, price.slope * one, lowest, price.log_count)


@_maximiser.defjvp
def _maximiser_moves(axis: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """The implicit function theorem at the fixed point of T."""
    adapted = _maximiser(*primals, axis)

    def mapped(below: Array, price: Price, adapted: Array) -> Array:
        return price.initial * (1 - price.slope * _divergence(below, adapted, price.count, axis))

    still = jax.tree.map(jnp.zeros_like, primals)
    at = (*primals, adapted)
    _, pushed = jax.jvp(mapped, at, (*tangents, jnp.zeros_like(adapted)))
    _, slope = jax.jvp(mapped, at, (*still, jnp.ones_like(adapted)))
    return adapted, pushed / (1 - slope)


def _divergence(below: Array, temperature: Array, count: Array, axis: int) -> Array:
    """The KL of the softmax at a temperature to the uniform distribution."""
    mass = tempered_mass(below, along_classes(temperature, axis))
    total = mass.sum(axis)
    # A score of -inf has no mass.
    mean = (mass * jnp.where(below == -jnp.inf, 0, below)).sum(axis) / total
    return mean / temperature - jnp.log(total / count)
