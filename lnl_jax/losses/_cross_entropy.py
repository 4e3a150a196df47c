"""Losses of the probability of the label alone, between cross-entropy and mean absolute error."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax.losses._checks import Scores, finish, label_score, read_hyperparameter, read_scores


def generalized_cross_entropy(
    logits: Array,
    labels: Array,
    *,
    q: ArrayLike = 0.7,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Generalized cross-entropy (GCE).

    .. math::
        \ell = \frac{1 - p_y^q}{q}, \qquad p_y = \langle y, \mathrm{softmax}(f) \rangle

    Cross-entropy as q goes to 0, half the mean absolute error :math:`1 - p_y` at q = 1: the larger
    q, the less a confidently contradicted label counts, and the slower the training.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        q: :math:`0 < q \le 1`, a scalar or one per example, ``[...]``.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, from 0 to 1/q, in the dtype of `logits`. NaN where an
        integer label is outside ``[0, K)`` or masked; 0 where all classes are masked. Gradients
        flow to all three arguments.

    Raises:
        ValueError: for labels that fit neither form, q out of range, or a q that is neither a
            scalar nor one per example.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> generalized_cross_entropy(logits, jnp.array([0, 1]), q=0.7).tolist()
        [0.355, 1.265]

    References:
        Zhang and Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with
        Noisy Labels" (NeurIPS 2018), the Lq loss. Soft labels are not in the paper; they enter
        through :math:`p_y`, as in the official code of Zhu et al. (ICML 2023).
    """
    scores = read_scores(logits, labels, axis, where)
    q = read_hyperparameter("q", q, scores, above=0, at_most=1)
    return finish(-jnp.expm1(q * label_log_probability(scores)) / q, scores)


def label_log_probability(scores: Scores) -> Array:
    r""":math:`\log \langle y, \mathrm{softmax}(f) \rangle`, per example, ``[...]``."""
    log_normaliser = jax.nn.logsumexp(scores.logits, axis=-1)
    if not scores.soft:
        return label_score(scores) - log_normaliser
    # Shifted by the largest score among the labels, not among all classes, so that a label far
    # below the others does not underflow. Classes without mass are capped: they add 0 whatever
    # their exponential, which is their gradient with respect to the label and must stay finite.
    labelled = jnp.where(scores.labels > 0, scores.logits, -jnp.inf).max(-1)
    top = jax.lax.stop_gradient(labelled)
    mass = jnp.exp(jnp.minimum(scores.logits - top[..., None], 80.0))
    return jnp.log((scores.labels * mass).sum(-1)) + top - log_normaliser
