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
from lnl_jax.losses._probabilities import centred
from lnl_jax.losses._tempered import tempered_mass, tempered_mean

# An accelerator starts the few operations of a short loop faster than the loop itself.
UNROLLED = 8


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
    :math:`\delta`. It can be negative, and for k > 1 it has no least value: where a class has a
    probability above :math:`1/k`, the risk falls without end as its score grows. Bound the scores
    (`softplus_mean_normalize`).

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
    check_count("top_k", top_k, at_most=scores.num_classes)
    temperature = read_hyperparameter("temperature", temperature, scores, above=0, below=math.inf)
    gaps = label_gaps(scores, margin)
    top, below = gaps.from_the_top()
    losses = tempered_mean(below, temperature, scores.included, scores.count, scores.axis)
    if top_k > 1:
        losses = _saturated(scores, below, temperature, top_k, losses)
    return finish(top + losses + gaps.shift, scores)


class LabelGaps(NamedTuple):
    r"""The margin violations :math:`\delta` of :func:`ldr_kl`.

    The label's own score is subtracted as a constant; it comes back, with its gradient and without
    a value, in `shift`, which the caller adds to any function that moves with its arguments, as all
    LDR losses do. So the gradient needs no second sum over the classes.
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

    def from_the_top(self) -> tuple[Array, Array]:
        """The largest, ``[...]``, held, and how far below it each is, ``[..., K]``."""
        axis, values = self.scores.axis, self.scores.logits
        # Without a margin the distances are those of the scores, and need no array of their own.
        # Under a distribution the constant may be far from the largest scores and round them.
        apart = self.margin is None or self.scores.soft
        if not apart:
            values = self.values
        elif self.margin is not None:
            values = values + self.margin * (1 - label_distribution(self.scores))
        top = jax.lax.stop_gradient(values.max(axis))
        below = values - along_classes(top, axis)
        return (top - self.constant if apart else top), below


def label_gaps(scores: Scores, margin: ArrayLike) -> LabelGaps:
    # Where the label's score is -inf so is everything relative to it, and the loss is infinite.
    if scores.soft:
        # The mean of large scores is rounded as they are.
        scores = centred(scores)
    own = jnp.where(scores.impossible, 0, label_score(scores))
    constant = jax.lax.stop_gradient(own)
    shift = jnp.where(scores.impossible, jnp.inf, constant - own)
    if isinstance(margin, int | float) and margin == 0:
        return LabelGaps(scores, constant, None, shift)
    margin = read_hyperparameter("margin", margin, scores, at_least=0, below=math.inf)
    return LabelGaps(scores, constant, along_classes(margin, scores.axis), shift)


def _saturated(
    scores: Scores, below: Array, temperature: Array, top_k: int, unsaturated: Array
) -> Array:
    r"""The maximum over :math:`p_j \le 1/k`, given its value where no bound binds.

    The violations are counted from the largest, as the value is.

    With s classes saturated the rest of the mass, :math:`r = 1 - s/k`, is a softmax over the other
    classes. Which ones saturate is piecewise constant, so the gradient holds it.
    """
    axis = scores.axis
    full = _saturated_classes(*jax.lax.stop_gradient((below, temperature)), top_k, axis)
    saturated = full.sum(axis).astype(below.dtype)
    held = jnp.where(full, below, 0).sum(axis) / top_k
    others = jnp.where(full, -jnp.inf, below)
    top = jax.lax.stop_gradient(others.max(axis))
    rest = 1 - saturated / top_k
    entropy = saturated / top_k * math.log(top_k) - rest * jnp.log(rest) - scores.log_count
    others = others - along_classes(top, axis)
    log_sum = jnp.log(tempered_mass(others, along_classes(temperature, axis)).sum(axis))
    losses = held + rest * top + temperature * (rest * log_sum + entropy)
    losses = jnp.where(saturated == 0, unsaturated, losses)
    # With no more classes than k nothing is left to choose.
    losses = jnp.where(scores.count == top_k, below.mean(axis, where=scores.included), losses)
    return jnp.where(scores.count < top_k, jnp.nan, losses)


# Control flow is compiled afresh at every eager call unless the function around it is jitted.
@functools.partial(jax.jit, static_argnums=(2, 3))
def _saturated_classes(values: Array, temperature: Array, top_k: int, axis: int) -> Array:
    r"""Which classes have :math:`p_j = 1/k`, ``[..., K]``.

    With s of them, the largest class left joins if :math:`(k - s) e^{\delta / \lambda}` is above
    the sum over those left. If it does not, neither do the smaller ones; equal ones join together.
    `jax.lax.top_k` would be faster, but collects a batch that is split over devices.
    """
    along = functools.partial(jnp.expand_dims, axis=axis)
    highest = _highest(values, top_k - 1, axis)
    unroll = top_k <= UNROLLED
    counts = jax.lax.scan(
        lambda _, value: (None, (values == along(value)).sum(axis)), None, highest, unroll=unroll
    )[1]
    last = along(highest[-1])
    others = jnp.where(values < last, values - last, -jnp.inf)
    beyond = tempered_mass(others, along_classes(temperature, axis)).sum(axis)

    def one_higher(after, below):
        fall, count = below
        after = fall * (count + after)
        return after, after

    # Of each of the highest: the sum over the classes below it, relative to its own term.
    falls = jnp.where(highest[1:] == -jnp.inf, -jnp.inf, highest[1:] - highest[:-1])
    falls = tempered_mass(falls, along_classes(temperature, 0))
    joining = counts.astype(values.dtype)
    after = beyond[None]
    if len(falls):
        _, higher = jax.lax.scan(
            one_higher, beyond, (falls, joining[1:]), reverse=True, unroll=unroll
        )
        after = jnp.concatenate([higher, after])
    before = jnp.cumsum(joining, axis=0) - joining
    joins = joining + after < top_k - before
    return values >= along(jnp.where(joins, highest, jnp.inf).min(0))


def _highest(values: Array, number: int, axis: int) -> Array:
    """The highest different values of ``[..., K]``, ``[number, ...]``; -inf if there are fewer."""

    def next_lower(last, _):
        lower = jnp.where(values < jnp.expand_dims(last, axis), values, -jnp.inf).max(axis)
        return lower, lower

    first = values.max(axis)
    if number == 1:
        # `jax_disable_jit` cannot loop over nothing.
        return first[None]
    _, others = jax.lax.scan(next_lower, first, None, length=number - 1, unroll=number < UNROLLED)
    return jnp.concatenate([first[None], others])
