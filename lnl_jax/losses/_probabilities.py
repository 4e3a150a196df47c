"""Log-probabilities that the losses share, from scores and labels."""

import jax
import jax.numpy as jnp
from jax import Array

from lnl_jax.losses._checks import Scores, label_score


def label_cross_entropy(scores: Scores) -> Array:
    r""":math:`-\sum_k y_k \log \mathrm{softmax}(f)_k`, per example, ``[...]``.

    Optax's takes integers and distributions by different functions and is NaN where a class
    without mass scores ``-inf``.
    """
    own = jnp.where(scores.impossible, 0, label_score(scores))
    log_normaliser = jax.nn.logsumexp(scores.logits, axis=scores.axis)
    return jnp.where(scores.impossible, jnp.inf, log_normaliser - own)


def scaled(weight: Array, losses: Array) -> Array:
    """``weight * losses``, where a weight of 0 leaves an infinite loss out."""
    return weight * jnp.where((weight == 0) & (losses == jnp.inf), 0, losses)


def label_log_probability(scores: Scores) -> Array:
    r""":math:`\log \langle y, \mathrm{softmax}(f) \rangle`, per example, ``[...]``."""
    if scores.soft:
        return log_mixture(scores.logits, scores.labels, scores.axis)
    return label_score(scores) - jax.nn.logsumexp(scores.logits, axis=scores.axis)


def other_probability(scores: Scores) -> Array:
    r""":math:`1 - \langle y, \mathrm{softmax}(f) \rangle`, per example, ``[...]``."""
    return -jnp.expm1(label_log_probability(scores))


def relative_scores(scores: Scores) -> tuple[Array, Array, Array]:
    r"""``top``, the largest score; ``f - top``; :math:`\log \sum_k e^{f_k - top}`.

    For what needs another sum over the classes: with the normaliser of `jax.nn.logsumexp` XLA on
    CPU would go over them twice as often.
    """
    top = jax.lax.stop_gradient(scores.logits.max(scores.axis))
    gaps = scores.logits - jnp.expand_dims(top, scores.axis)
    return top, gaps, jnp.log(jnp.exp(gaps).sum(scores.axis))


def cross_entropy_and_entropy(scores: Scores) -> tuple[Array, Array]:
    r"""Cross-entropy with the label and entropy of the prediction, per example, ``[...]``."""
    top, gaps, log_normaliser = relative_scores(scores)
    mass = jnp.exp(gaps)
    # A class of score -inf adds nothing, but 0 * -inf is NaN.
    moment = (mass * jnp.where(mass > 0, gaps, 0)).sum(scores.axis) / mass.sum(scores.axis)
    own = jnp.where(scores.impossible, 0, label_score(scores) - top)
    cross = jnp.where(scores.impossible, jnp.inf, log_normaliser - own)
    return cross, log_normaliser - moment


def log_mixture(logits: Array, weights: Array, axis: int = -1) -> Array:
    r""":math:`\log \langle w, \mathrm{softmax}(f) \rangle`, for w of at least 0, ``[...]``."""
    # Shifted by the largest score with weight, not by the largest of all, so that a label far
    # below the others does not underflow. Classes without weight are capped: they add 0 whatever
    # their exponential, which is their gradient with respect to the weight and must stay finite.
    weighted = jnp.where(weights > 0, logits, -jnp.inf).max(axis)
    top = jax.lax.stop_gradient(jnp.where(weighted == -jnp.inf, 0, weighted))
    mass = jnp.exp(jnp.minimum(logits - jnp.expand_dims(top, axis), 80.0))
    total = (weights * mass).sum(axis)
    log_total = jnp.where(total > 0, jnp.log(jnp.where(total > 0, total, 1)), -jnp.inf)
    # A comparison with NaN is false, and would hide it.
    log_total = jnp.where(jnp.isnan(total), total, log_total)
    return log_total + top - jax.nn.logsumexp(logits, axis=axis)
