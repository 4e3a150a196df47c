"""Weights that are learned: a rescaling that keeps the total, and its gradient through a step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._host_arguments import check_number
from lnl_jax.reweighting._batch import read_batch, read_scalar

PyTree = Any


def rescale_preserving_sum(losses: Array, weights: Array, *, where: Array | None = None) -> Array:
    r"""Weighs losses so that their sum stays what it was.

    .. math::
        \ell_i' = w_i \ell_i \frac{\sum_j \ell_j}{\sum_j w_j \ell_j}

    Only the relations of the weights matter: the gradient flows to them through the quotient too,
    so that they cannot lower the loss by being small for all. The losses in the quotient are held.
    With them moving as well, the sum would be that of the plain losses for every weight, and no
    gradient of it would depend on the weights.

    Args:
        losses: one per example, ``[B]``.
        weights: at least 0, ``[B]``.
        where: boolean, the examples to include, ``[B]``.

    Returns:
        The rescaled losses, ``[B]``, in the dtype of `losses`; 0 where an example is masked. NaN
        where an included loss is not finite or a weight is negative; 0 where the weighted sum is 0.

    Raises:
        ValueError: for a shape or dtype that does not fit.

    Example:
        >>> rescale_preserving_sum(jnp.array([1.0, 3.0]), jnp.array([0.5, 0.5])).tolist()
        [1.0, 3.0]

    References:
        Heck et al., "Learning from Noisy Labels via Self-Taught On-the-Fly Meta Loss Rescaling"
        (AAAI 2025), the normalised inner loss of STORM, but for what is held.
    """
    batch = read_batch(losses, where)
    weights = jnp.asarray(weights)
    if weights.shape != batch.losses.shape or not jnp.issubdtype(weights.dtype, jnp.floating):
        raise ValueError(
            f"weights must be floating of shape {batch.losses.shape}, as losses have; got "
            f"{weights.dtype} of shape {weights.shape}."
        )
    weights = jnp.where(batch.given, weights.astype(batch.losses.dtype), 0)
    held = jax.lax.stop_gradient(batch.losses)
    weighted, total = weights * batch.losses, held.sum()
    weighted_total = (weights * held).sum()
    empty = weighted_total == 0
    scale = jnp.where(empty, 0, total / jnp.where(empty, 1, weighted_total))
    values = jnp.where(batch.broken | (weights < 0).any(), jnp.nan, weighted * scale)
    return jnp.where(batch.given, values, 0).astype(batch.dtype)


def meta_gradient(
    inner_loss: Callable[[PyTree, PyTree], Array],
    outer_loss: Callable[[PyTree, PyTree], Array],
    *,
    learning_rate: ArrayLike,
) -> Callable[[PyTree, PyTree], tuple[Array, PyTree]]:
    r"""Makes the gradient of what weighs the losses, through one step of what is trained.

    .. math::
        \theta' = \theta - \eta \nabla_\theta L_{in}(\phi, \theta), \qquad
        g = \nabla_\phi L_{out}(\phi, \theta'(\phi))

    It differentiates the step, so the losses must have right second derivatives.

    Args:
        inner_loss: ``(weighing, params) -> scalar``: the weighted loss of a batch.
        outer_loss: ``(weighing, params) -> scalar``: that of another batch after the step. STORM
            weighs it as well; learning to reweight takes plain losses of a clean batch.
        learning_rate: :math:`\eta > 0`, of the step, a scalar.

    Returns:
        ``(weighing, params) -> (value, gradient)``: the outer loss after the step, and its gradient
        in the structure of `weighing`. The parameters themselves are not moved.

    Raises:
        ValueError: if the learning rate is no positive number.

    Example:
        >>> def inner(weighing, params):
        ...     return weighing * (params - 3.0) ** 2
        >>> def outer(weighing, params):
        ...     return (params - 1.0) ** 2
        >>> value, gradient = meta_gradient(inner, outer, learning_rate=0.1)(0.5, 0.0)
        >>> round(float(value), 3), round(float(gradient), 3)
        (0.490, -0.840)

    References:
        Heck et al., "Learning from Noisy Labels via Self-Taught On-the-Fly Meta Loss Rescaling"
        (AAAI 2025); Ren et al., "Learning to Reweight Examples for Robust Deep Learning"
        (ICML 2018).
    """
    if not isinstance(learning_rate, jax.Array):
        check_number("learning_rate", learning_rate, above=0)

    def through_the_step(weighing: PyTree, params: PyTree) -> Array:
        gradient = jax.grad(inner_loss, 1)(weighing, params)
        moved = jax.tree.map(lambda p, g: p - learning_rate * g, params, gradient)
        return outer_loss(weighing, moved)

    return jax.value_and_grad(through_the_step)


def uncertainty_weights(first: Array, second: Array, *, scale: ArrayLike) -> Array:
    r"""Weights that fall with the disagreement of two predictions.

    .. math::
        w_i = \exp(-s\, |a_i - b_i|)

    Ctrl-U compares the rewards of two generations of one input. Its exact form could not be
    checked against a publication or code: the scale is for the caller to choose.

    Args:
        first: :math:`a`, one number per example, ``[B]``.
        second: :math:`b`, ``[B]``.
        scale: :math:`s \ge 0`, a scalar.

    Returns:
        The weights, ``[B]``, from 0 to 1, in the dtype of `first`. NaN where a prediction is not
        finite. No gradient flows to any argument.

    Raises:
        ValueError: for a shape or dtype that does not fit, or a scale out of range.

    Example:
        >>> first, second = jnp.array([0.5, 0.9]), jnp.array([0.5, 0.1])
        >>> uncertainty_weights(first, second, scale=2.0).tolist()
        [1.0, 0.202]

    References:
        Zhang et al., "Ctrl-U: Robust Conditional Image Generation via Uncertainty-aware Reward
        Modeling" (2024), the uncertainty-aware weight; its form is unverified.
    """
    batch, other = read_batch(first, None), read_batch(second, None)
    if batch.losses.shape != other.losses.shape:
        raise ValueError(
            f"first and second must have the same shape, got {batch.losses.shape} and "
            f"{other.losses.shape}."
        )
    scale = read_scalar("scale", scale, batch, at_least=0)
    weights = jnp.exp(-scale * jnp.abs(batch.losses - other.losses))
    finite = jnp.isfinite(first) & jnp.isfinite(second)
    return jax.lax.stop_gradient(jnp.where(finite, weights, jnp.nan)).astype(batch.dtype)
