"""Log-probabilities that the losses share, from scores and labels.

The largest score is subtracted before anything is added up: a whole logarithm of the normaliser is
as large as the scores, and so would be its rounding.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from lnl_jax.losses._checks import Scores, label_score


def label_cross_entropy(scores: Scores) -> Array:
    r""":math:`-\sum_k y_k \log \mathrm{softmax}(f)_k`, per example, ``[...]``.

    Optax's takes integers and distributions by different functions and is NaN where a class
    without mass scores ``-inf``.
    """
    return jnp.where(scores.impossible, jnp.inf, label_surprise(scores, relative_scores(scores)))


def scaled(weight: Array, losses: Array) -> Array:
    """``weight * losses``, where a weight of 0 leaves an infinite loss out."""
    return weight * jnp.where((weight == 0) & (losses == jnp.inf), 0, losses)


def label_log_probability(scores: Scores) -> Array:
    r""":math:`\log \langle y, \mathrm{softmax}(f) \rangle`, per example, ``[...]``."""
    if scores.soft:
        return log_mixture(scores.logits, scores.labels, scores.axis)
    top, _, log_normaliser = relative_scores(scores)
    return label_score(scores) - top - log_normaliser


def other_probability(scores: Scores) -> Array:
    r""":math:`1 - \langle y, \mathrm{softmax}(f) \rangle`, per example, ``[...]``."""
    return -jnp.expm1(label_log_probability(scores))


def relative_scores(scores: Scores) -> tuple[Array, Array, Array]:
    r"""``top``, the largest score; ``f - top``; :math:`\log \sum_k e^{f_k - top}`.

    For what needs another sum over the classes: with the normaliser of `jax.nn.logsumexp` XLA on
    CPU would go over them twice as often.
    """
    return _relative(scores.logits, scores.axis)


def _relative(logits: Array, axis: int) -> tuple[Array, Array, Array]:
    top = jax.lax.stop_gradient(logits.max(axis))
    # Where every class scores -inf, so that they do not become NaN.
    top = jnp.where(top == -jnp.inf, 0, top)
    gaps = logits - jnp.expand_dims(top, axis)
    return top, gaps, jnp.log(jnp.exp(gaps).sum(axis))


def label_surprise(scores: Scores, relative: tuple[Array, Array, Array]) -> Array:
    """The cross-entropy with the label, with 0 for the surprise of a class that scores -inf."""
    top, gaps, log_normaliser = relative
    if not scores.soft:
        own = jnp.where(scores.impossible, 0, label_score(scores) - top)
        return jnp.where(scores.impossible, 0, log_normaliser - own)
    surprise = jnp.expand_dims(log_normaliser, scores.axis) - gaps
    # A class without mass may score -inf, and 0 * -inf is NaN.
    return (scores.labels * jnp.where(gaps == -jnp.inf, 0, surprise)).sum(scores.axis)


def centred(scores: Scores) -> Scores:
    """The same up to a constant per example, which is held, so that no difference is rounded.

    Less the label's own score, or for a distribution the largest one. For losses of differences
    between scores.
    """
    if scores.soft:
        _, gaps, _ = relative_scores(scores)
        return dataclasses.replace(scores, logits=gaps)
    own = jax.lax.stop_gradient(jnp.where(scores.impossible, 0, label_score(scores)))
    return dataclasses.replace(scores, logits=scores.logits - jnp.expand_dims(own, scores.axis))


def cross_entropy_and_entropy(scores: Scores) -> tuple[Array, Array]:
    r"""Cross-entropy with the label and entropy of the prediction, per example, ``[...]``."""
    _, gaps, log_normaliser = relative = relative_scores(scores)
    mass = jnp.exp(gaps)
    # A class of score -inf adds nothing, but 0 * -inf is NaN.
    moment = (mass * jnp.where(mass > 0, gaps, 0)).sum(scores.axis) / mass.sum(scores.axis)
    cross = jnp.where(scores.impossible, jnp.inf, label_surprise(scores, relative))
    return cross, log_normaliser - moment


def log_mixture(logits: Array, weights: Array, axis: int = -1) -> Array:
    r""":math:`\log \langle w, \mathrm{softmax}(f) \rangle`, for w of at least 0, ``[...]``."""
    _, gaps, log_normaliser = _relative(logits, axis)
    # Shifted by the largest score with weight, not by the largest of all, so that a label far
    # below the others does not underflow. Classes without weight are capped: they add 0 whatever
    # their exponential, which is their gradient with respect to the weight and must stay finite.
    weighted = jnp.where(weights > 0, gaps, -jnp.inf).max(axis)
    shift = jax.lax.stop_gradient(jnp.where(weighted == -jnp.inf, 0, weighted))
    mass = jnp.exp(jnp.minimum(gaps - jnp.expand_dims(shift, axis), 80.0))
    total = (weights * mass).sum(axis)
    log_total = jnp.where(total > 0, jnp.log(jnp.where(total > 0, total, 1)), -jnp.inf)
    # A comparison with NaN is false, and would hide it.
    log_total = jnp.where(jnp.isnan(total), total, log_total)
    return shift + (log_total - log_normaliser)
