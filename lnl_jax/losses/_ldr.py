"""Label-distributionally robust loss with a KL regulariser, and its top-k variant."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import check_count
from lnl_jax.losses._checks import (
    Scores,
    along_classes,
    finish,
    label_distribution,
    label_score,
    read_hyperparameter,
    read_scores,
)


def ldr_kl(
    logits: Array,
    labels: Array,
    *,
    temperature: ArrayLike = 1.0,
    margin: ArrayLike = 0.0,
    top_k: int = 1,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Label-distributionally robust loss with a KL regulariser (LDR-KL).

    The margin violation of the worst distribution over classes, at a KL price:

    .. math::
        \ell = \max_{p \in \Omega_k} \sum_j p_j \delta_j - \lambda \mathrm{KL}(p \,\|\, 1/K),
        \qquad \delta_j = f_j - \langle y, f \rangle + m (1 - y_j)

    over :math:`\Omega_k`, the distributions with :math:`p_j \le 1/k`. For ``top_k=1`` that is the
    whole simplex, and

    .. math::
        \ell = \lambda \log \frac{1}{K} \sum_j \exp(\delta_j / \lambda),

    which is cross-entropy minus :math:`\log K` at temperature 1 without a margin, the
    Crammer-Singer margin loss as the temperature goes to 0, and the mean of :math:`\delta` as it
    goes to infinity. For ``top_k=k`` the largest :math:`p_j` saturate at :math:`1/k` and the others
    share the rest by a softmax; as the temperature goes to 0 the loss is the mean of the k largest
    :math:`\delta`. It can be negative.

    A large temperature on normalised logits (`softplus_mean_normalize`) is what withstands label
    noise; at temperature 1 the gradient is that of cross-entropy.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        temperature: :math:`\lambda > 0`, a scalar or one per example, ``[...]``.
        margin: :math:`m \ge 0`, a scalar or one per example, ``[...]``.
        top_k: :math:`k`, a static integer from 1 to K.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`. K counts these.

    Returns:
        One loss per example, ``[...]``, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked, or where fewer than `top_k` classes are included; 0 where all
        are masked; ``inf`` where the label's own logit is ``-inf``; not finite where fewer than
        `top_k` logits are. Gradients flow to everything but `top_k`.

    Raises:
        ValueError: for labels that fit neither form, a hyperparameter out of range, or a shape that
            is neither a scalar nor the batch's.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> ldr_kl(logits, jnp.array([0, 1]), margin=0.5).tolist()
        [-0.494, 2.478]

    References:
        Zhu, Ying and Yang, "Label Distributionally Robust Losses for Multi-class Classification:
        Consistency, Robustness and Adaptivity" (ICML 2023), the LDR-KL and LDR-k losses. The
        official code normalises the logits inside the loss; here the caller does.
    """
    scores = read_scores(logits, labels, axis, where)
    temperature = read_hyperparameter("temperature", temperature, scores, above=0)
    gaps = label_gaps(scores, margin)
    losses = tempered_mean(gaps, temperature)
    check_count("top_k", top_k, at_most=scores.num_classes)
    if top_k > 1:
        losses = _saturated(gaps, temperature, top_k, losses)
    return finish(losses + gaps.shift, scores)


class LabelGaps(NamedTuple):
    r"""The margin violations :math:`\delta` of :func:`ldr_kl`.

    The label's own score is subtracted as a constant; it comes back, with its gradient and without
    a value, in `shift`, which the caller adds to any function that moves with its arguments, as all
    LDR losses do. So the gradient needs no second sum over the classes.

    The violations are a property, written out wherever they are used: XLA then computes them on the
    fly, where one shared array would be stored.
    """

    scores: Scores
    constant: Array
    margin: Array | None
    shift: Array

    @property
    def values(self) -> Array:
        gaps = self.scores.logits - along_classes(self.constant, self.scores.axis)
        if self.margin is None:
            return gaps
        return gaps + self.margin * (1 - label_distribution(self.scores))


def label_gaps(scores: Scores, margin: ArrayLike) -> LabelGaps:
    # Where the label's score is -inf so is everything relative to it, and the loss is infinite.
    own = jnp.where(scores.impossible, 0, label_score(scores))
    constant = jax.lax.stop_gradient(own)
    shift = jnp.where(scores.impossible, jnp.inf, constant - own)
    if isinstance(margin, int | float) and margin == 0:
        return LabelGaps(scores, constant, None, shift)
    margin = along_classes(read_hyperparameter("margin", margin, scores, at_least=0), scores.axis)
    return LabelGaps(scores, constant, margin, shift)


def tempered_mean(gaps: LabelGaps, temperature: Array) -> Array:
    r""":math:`\lambda \log \frac{1}{K} \sum_j \exp(\delta_j / \lambda)`, per example."""
    values, axis = gaps.values, gaps.scores.axis
    top = jax.lax.stop_gradient(values.max(axis))
    mean = jnp.exp(_scaled(values, top, temperature, axis)).sum(axis) / gaps.scores.count
    losses = top + temperature * jnp.log(mean)
    return losses + _lost_to_rounding(*jax.lax.stop_gradient((gaps, temperature, top, mean)))


def _scaled(values: Array, top: Array, temperature: Array, axis: int) -> Array:
    """The distance below `top` in temperatures, no less than a number whose exponential is 0.

    Subtracted before it is divided, so that a small temperature cannot overflow; bounded before,
    so that -inf leaves the gradient with respect to the temperature finite.
    """
    distance, temperature = values - along_classes(top, axis), along_classes(temperature, axis)
    floor = 2 * math.log(float(jnp.finfo(values.dtype).tiny)) * temperature
    return jnp.where(distance < floor, floor, distance) / temperature


# Control flow is compiled afresh at every eager call unless the function around it is jitted.
@jax.jit
def _lost_to_rounding(gaps: LabelGaps, temperature: Array, top: Array, mean: Array) -> Array:
    r"""What a logarithm near 0 loses when it is multiplied by a large temperature.

    :math:`\log(1 + \mathrm{mean}(e^x - 1))` has a small relative error there. Its gradient is the
    same softmax, so only the value is mended, and only in a batch that needs it.
    """
    flat = mean > 0.5

    def mend() -> Array:
        axis = gaps.scores.axis
        below = jnp.expm1(_scaled(gaps.values, top, temperature, axis)).mean(
            axis, where=gaps.scores.included
        )
        return jnp.where(flat, temperature * (jnp.log1p(below) - jnp.log(mean)), 0)

    return jax.lax.cond(flat.any(), mend, lambda: jnp.zeros_like(top))


def _saturated(gaps: LabelGaps, temperature: Array, top_k: int, unsaturated: Array) -> Array:
    r"""The maximum over :math:`p_j \le 1/k`, given its value where no bound binds.

    With s classes saturated the rest of the mass, :math:`r = 1 - s/k`, is a softmax over the other
    classes. Which ones saturate is piecewise constant, so the gradient holds it.
    """
    scores, values, axis = gaps.scores, gaps.values, gaps.scores.axis
    full = _saturated_classes(*jax.lax.stop_gradient((values, temperature)), top_k, axis)
    saturated = full.sum(axis).astype(values.dtype)
    held = jnp.where(full, values, 0).sum(axis) / top_k
    others = jnp.where(full, -jnp.inf, values)
    top = jax.lax.stop_gradient(others.max(axis))
    rest = 1 - saturated / top_k
    entropy = saturated / top_k * math.log(top_k) - rest * jnp.log(rest) - scores.log_count
    log_sum = jnp.log(jnp.exp(_scaled(others, top, temperature, axis)).sum(axis))
    losses = held + rest * top + temperature * (rest * log_sum + entropy)
    losses = jnp.where(saturated == 0, unsaturated, losses)
    # With no more classes than k nothing is left to choose.
    losses = jnp.where(scores.count == top_k, values.mean(axis, where=scores.included), losses)
    return jnp.where(scores.count < top_k, jnp.nan, losses)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _saturated_classes(values: Array, temperature: Array, top_k: int, axis: int) -> Array:
    r"""Which classes have :math:`p_j = 1/k`, ``[..., K]``.

    With s of them, the largest class left joins unless :math:`(k - s) e^{\delta / \lambda}` is at
    most the sum over those left. Equal classes join together. At most k - 1 rounds of a maximum
    and a sum: `jax.lax.top_k` takes ten times as long on CPU at 1000 classes.
    """

    def unfinished(carry):
        rounds, _, growing = carry
        return growing.any() & (rounds < top_k - 1)

    def saturate(carry):
        rounds, full, _ = carry
        left = jnp.where(full, -jnp.inf, values)
        top = left.max(axis)
        total = jnp.exp(_scaled(left, top, temperature, axis)).sum(axis)
        largest = left == along_classes(top, axis)
        joined = full | largest
        bound = (top_k - full.sum(axis)).astype(values.dtype)
        growing = (total < bound) & (joined.sum(axis) < top_k)
        return rounds + 1, jnp.where(along_classes(growing, axis), joined, full), growing

    none = jnp.zeros(values.shape, bool)
    _, full, _ = jax.lax.while_loop(unfinished, saturate, (0, none, ~none.all(axis)))
    return full
