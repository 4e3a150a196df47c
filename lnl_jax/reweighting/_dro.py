r"""Distributionally robust means of a batch: the loss under the worst weights of its examples.

All of them maximise :math:`\sum_i w_i \ell_i` over the simplex and differ in what keeps w near the
uniform weights 1/n. ``B`` is the batch size, ``n`` how many of its examples are included.
"""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import not_a_number
from lnl_jax.reweighting._batch import read_batch, read_scalar, weigh
from lnl_jax.reweighting._worst_weights import (
    chi2_ball,
    cvar,
    kl_ball,
    kl_penalty,
    kl_penalty_weights,
)


def kl_dro_weights(losses: Array, *, temperature: ArrayLike, where: Array | None = None) -> Array:
    r"""The worst weights at a KL price.

    .. math::
        w = \arg\max_w \sum_i w_i \ell_i - \lambda \mathrm{KL}(w \,\|\, 1/n)
        = \mathrm{softmax}(\ell / \lambda)

    Uniform as the temperature goes to infinity, all on the largest loss as it goes to 0.

    In a train step the weights are data, and the step divides by the count itself:
    ``losses * jax.lax.stop_gradient(count * weights)``, where `count` is how many examples are
    included. They must be those of the *global* batch. Under `jax.jit` they are, on sharded arrays
    as well; inside `pmap` and `shard_map`, `all_gather` the losses and the mask first, and take the
    device's own slice of the weights.

    Args:
        losses: one per example, ``[B]``.
        temperature: :math:`\lambda > 0`, a scalar.
        where: boolean, the examples to include, ``[B]``.

    Returns:
        The weights, ``[B]``, in the dtype of `losses`; they sum to 1, and are 0 where an example is
        masked, whatever it holds. NaN where an included loss is not finite; 0 where all are masked.
        No gradient flows to any argument.

    Raises:
        ValueError: for a shape or dtype that does not fit, or a temperature out of range.

    Example:
        >>> kl_dro_weights(jnp.array([0.0, 1.0, 2.0]), temperature=1.0).tolist()
        [0.090, 0.245, 0.665]

    References:
        Li, Beirami, Sanjabi and Smith, "Tilted Empirical Risk Minimization" (ICLR 2021), with the
        tilt :math:`1/\lambda`.
    """
    batch = read_batch(losses, where)
    temperature = read_scalar("temperature", temperature, batch, above=0, below=math.inf)
    return weigh(batch, kl_penalty_weights(batch, temperature), temperature).public


def kl_dro_value(losses: Array, *, temperature: ArrayLike, where: Array | None = None) -> Array:
    r"""The mean loss under the worst weights at a KL price, less that price.

    .. math::
        \lambda \log \frac{1}{n} \sum_i \exp(\ell_i / \lambda)

    Args:
        losses: one per example, ``[B]``.
        temperature: :math:`\lambda > 0`, a scalar.
        where: boolean, the examples to include, ``[B]``.

    Returns:
        A scalar, in the dtype of `losses`, between their mean and their maximum. The gradient with
        respect to `losses` is :func:`kl_dro_weights` (Danskin), and with respect to `temperature`
        it is :math:`-\mathrm{KL}(w \,\|\, 1/n)`; the Hessian is the derivative of these. NaN where
        an included loss is not finite; 0 where all are masked.

    Raises:
        ValueError: as :func:`kl_dro_weights`.

    Example:
        >>> kl_dro_value(jnp.array([0.0, 1.0, 2.0]), temperature=1.0).tolist()
        1.309

    References:
        As :func:`kl_dro_weights`.
    """
    batch = read_batch(losses, where)
    temperature = read_scalar("temperature", temperature, batch, above=0, below=math.inf)
    value = kl_penalty(batch, temperature)
    value = jnp.where(batch.broken | jnp.isnan(temperature), not_a_number(value.dtype), value)
    return jnp.where(batch.given.any(), value, 0).astype(batch.dtype)


def kl_ball_weights(losses: Array, *, radius: ArrayLike, where: Array | None = None) -> Array:
    r"""The worst weights in a KL ball around the uniform ones.

    .. math::
        w = \arg\max_w \sum_i w_i \ell_i \quad \text{subject to} \quad
        \mathrm{KL}(w \,\|\, 1/n) \le \rho

    A softmax, as :func:`kl_dro_weights`, at the temperature where the divergence is
    :math:`\rho`; found by bisection. Uniform at radius 0, and uniform over the t losses that
    tie for the largest from :math:`\rho = \log(n/t)` on. Unchanged by a shift and a positive scale
    of the losses.

    In a train step: ``losses * jax.lax.stop_gradient(count * weights)``, with weights over the
    global batch, as :func:`kl_dro_weights` says.

    Args:
        losses: one per example, ``[B]``.
        radius: :math:`\rho \ge 0`, a scalar.
        where: boolean, the examples to include, ``[B]``.

    Returns:
        The weights, ``[B]``, as :func:`kl_dro_weights`. No gradient flows to any argument.

    Raises:
        ValueError: for a shape or dtype that does not fit, or a radius out of range.

    Example:
        >>> kl_ball_weights(jnp.array([0.0, 1.0, 2.0]), radius=0.2).tolist()
        [0.115, 0.267, 0.618]

    References:
        Hu and Hong, "Kullback-Leibler Divergence Constrained Distributionally Robust Optimization"
        (Optimization Online 2013).
    """
    batch = read_batch(losses, where)
    radius = read_scalar("radius", radius, batch, at_least=0)
    return weigh(batch, kl_ball(batch, radius), radius).public


def kl_ball_value(losses: Array, *, radius: ArrayLike, where: Array | None = None) -> Array:
    r"""The mean loss under :func:`kl_ball_weights`.

    .. math::
        \max_{\mathrm{KL}(w \| 1/n) \le \rho} \sum_i w_i \ell_i

    Args:
        losses: one per example, ``[B]``.
        radius: :math:`\rho \ge 0`, a scalar.
        where: boolean, the examples to include, ``[B]``.

    Returns:
        A scalar, in the dtype of `losses`. Its gradient is the weights (Danskin), its Hessian their
        derivative; none flows to `radius`. Where losses tie so that several weights are worst,
        it is those that treat equal losses alike. NaN where an included loss is not finite; 0
        where all are masked.

    Raises:
        ValueError: as :func:`kl_ball_weights`.

    Example:
        >>> kl_ball_value(jnp.array([0.0, 1.0, 2.0]), radius=0.2).tolist()
        1.503

    References:
        As :func:`kl_ball_weights`.
    """
    batch = read_batch(losses, where)
    radius = read_scalar("radius", radius, batch, at_least=0)
    return weigh(batch, kl_ball(batch, radius), radius).value


def chi2_ball_weights(losses: Array, *, radius: ArrayLike, where: Array | None = None) -> Array:
    r"""The worst weights in a chi-squared ball around the uniform ones.

    .. math::
        w = \arg\max_w \sum_i w_i \ell_i \quad \text{subject to} \quad
        \frac{1}{2n} \sum_i (n w_i - 1)^2 \le \rho

    Proportional to :math:`\max(\ell - \eta, 0)` with :math:`\eta` where the constraint is met, so
    that a small radius adds :math:`\sqrt{2 \rho}` standard deviations to the mean and a larger one
    leaves out the smallest losses. Uniform at radius 0, and uniform over the t losses that tie
    for the largest from :math:`\rho = (n/t - 1)/2` on. Unchanged by a shift and a positive scale
    of the losses.

    In a train step: ``losses * jax.lax.stop_gradient(count * weights)``, with weights over the
    global batch, as :func:`kl_dro_weights` says.

    Args:
        losses: one per example, ``[B]``.
        radius: :math:`\rho \ge 0`, a scalar.
        where: boolean, the examples to include, ``[B]``.

    Returns:
        The weights, ``[B]``, as :func:`kl_dro_weights`. No gradient flows to any argument.

    Raises:
        ValueError: for a shape or dtype that does not fit, or a radius out of range.

    Example:
        >>> chi2_ball_weights(jnp.array([0.0, 1.0, 2.0]), radius=0.25).tolist()
        [0.045, 0.333, 0.622]

    References:
        Namkoong and Duchi, "Variance-based Regularization with Convex Objectives" (NeurIPS 2017),
        where the radius is written :math:`\rho / n`.
    """
    batch = read_batch(losses, where)
    radius = read_scalar("radius", radius, batch, at_least=0)
    return weigh(batch, chi2_ball(batch, radius), radius).public


def chi2_ball_value(losses: Array, *, radius: ArrayLike, where: Array | None = None) -> Array:
    r"""The mean loss under :func:`chi2_ball_weights`.

    .. math::
        \max_w \sum_i w_i \ell_i \quad \text{subject to} \quad
        \frac{1}{2n} \sum_i (n w_i - 1)^2 \le \rho

    Args:
        losses: one per example, ``[B]``.
        radius: :math:`\rho \ge 0`, a scalar.
        where: boolean, the examples to include, ``[B]``.

    Returns:
        A scalar, in the dtype of `losses`. Its gradient is the weights (Danskin), its Hessian their
        derivative; none flows to `radius`. Where losses tie so that several weights are worst,
        it is those that treat equal losses alike. NaN where an included loss is not finite; 0
        where all are masked.

    Raises:
        ValueError: as :func:`chi2_ball_weights`.

    Example:
        >>> chi2_ball_value(jnp.array([0.0, 1.0, 2.0]), radius=0.25).tolist()
        1.577

    References:
        As :func:`chi2_ball_weights`.
    """
    batch = read_batch(losses, where)
    radius = read_scalar("radius", radius, batch, at_least=0)
    return weigh(batch, chi2_ball(batch, radius), radius).value


def cvar_weights(losses: Array, *, fraction: ArrayLike, where: Array | None = None) -> Array:
    r"""The worst weights of at most :math:`1/(\alpha n)` each: conditional value at risk (CVaR).

    .. math::
        w = \arg\max_w \sum_i w_i \ell_i \quad \text{subject to} \quad w_i \le \frac{1}{\alpha n}

    Equal over the :math:`\alpha n` largest losses. What remains at the boundary is shared equally
    by the losses that tie there. Uniform at fraction 1; up to fraction 1/n, uniform over the
    largest losses. Unchanged by any increasing map of the losses.

    In a train step: ``losses * jax.lax.stop_gradient(count * weights)``, with weights over the
    global batch, as :func:`kl_dro_weights` says.

    Args:
        losses: one per example, ``[B]``.
        fraction: :math:`0 < \alpha \le 1`, a scalar.
        where: boolean, the examples to include, ``[B]``.

    Returns:
        The weights, ``[B]``, as :func:`kl_dro_weights`. No gradient flows to any argument.

    Raises:
        ValueError: for a shape or dtype that does not fit, a fraction out of range, or losses that
            are split over an Explicit axis of a mesh.

    Example:
        >>> cvar_weights(jnp.array([0.0, 1.0, 2.0]), fraction=0.5).tolist()
        [0.0, 0.333, 0.667]

    References:
        Rockafellar and Uryasev, "Optimization of Conditional Value-at-Risk" (Journal of Risk 2000).
    """
    batch = read_batch(losses, where)
    fraction = read_scalar("fraction", fraction, batch, above=0, at_most=1)
    return weigh(batch, cvar(batch, fraction), fraction).public


def cvar_value(losses: Array, *, fraction: ArrayLike, where: Array | None = None) -> Array:
    r"""The mean of the largest losses: conditional value at risk (CVaR).

    .. math::
        \max_{w_i \le 1/(\alpha n)} \sum_i w_i \ell_i

    Args:
        losses: one per example, ``[B]``.
        fraction: :math:`0 < \alpha \le 1`, the part of the examples that counts, a scalar.
        where: boolean, the examples to include, ``[B]``.

    Returns:
        A scalar, in the dtype of `losses`. Its gradient is the weights (Danskin), its Hessian their
        derivative; none flows to `fraction`. Where losses tie so that several weights are worst,
        it is those that treat equal losses alike. NaN where an included loss is not finite; 0
        where all are masked.

    Raises:
        ValueError: as :func:`cvar_weights`.

    Example:
        >>> cvar_value(jnp.array([0.0, 1.0, 2.0]), fraction=0.5).tolist()
        1.667

    References:
        As :func:`cvar_weights`.
    """
    batch = read_batch(losses, where)
    fraction = read_scalar("fraction", fraction, batch, above=0, at_most=1)
    return weigh(batch, cvar(batch, fraction), fraction).value
