"""Cross-entropy that rewards confidence, whatever the label says."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import not_a_number
from lnl_jax.losses._checks import (
    Scores,
    finish,
    read_array,
    read_hyperparameter,
    read_scores,
    score_of,
)
from lnl_jax.losses._probabilities import label_cross_entropy, relative_scores, scaled

# What the official code of CORES adds to a probability before its logarithm.
_OFFSET = 1e-8


def confidence_regularized_cross_entropy(
    logits: Array,
    labels: Array,
    *,
    weight: ArrayLike,
    prior: Array | None = None,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Cross-entropy less that with a random label: the loss of CORES.

    .. math::
        \ell = -\sum_k y_k \log p_k - \beta \sum_k \pi_k \big(-\log(p_k + 10^{-8})\big), \qquad
        p = \mathrm{softmax}(f)

    The second term, the confidence regulariser, has the gradient of a peer loss in expectation: it
    rewards confident predictions, and with :math:`\beta` large enough the loss of an example with
    a false label stays above that of others. The sieve of CORES keeps those whose value at
    :math:`\beta = 1` is at most 0. It is not bounded below: ramp :math:`\beta` up from 0, to 2 in
    the paper.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        weight: :math:`\beta \ge 0`, a scalar or one per example, ``[...]``. The official code takes
            0 at first, and 2 in the end.
        prior: :math:`\pi`, the distribution of the noisy labels, a whole array ``[K]``; None takes
            the uniform one. Of masked classes it is left out and the rest is not scaled up.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked; 0 where all classes are masked; ``inf`` where the label's own
        logit is ``-inf``.

    Raises:
        ValueError: for labels that fit neither form, a weight out of range or of another shape, or
            a prior that is not ``[K]`` or has negative entries.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> values = confidence_regularized_cross_entropy(logits, jnp.array([0, 1]), weight=1.0)
        >>> (values <= 0).tolist()
        [True, False]

    References:
        Cheng et al., "Learning with Instance-Dependent Label Noise: A Sample Sieve Approach"
        (ICLR 2021), the CORES loss and sieve; the offset of 1e-8 is that of the official code.
    """
    scores = read_scores(logits, labels, axis, where)
    weight = read_hyperparameter("weight", weight, scores, at_least=0)
    _, gaps, log_normaliser = relative_scores(scores)
    least = jnp.finfo(gaps.dtype).min / 4
    log_p = jnp.maximum(gaps, least) - jnp.expand_dims(log_normaliser, scores.axis)
    surprise = -jnp.logaddexp(log_p, jnp.log(jnp.asarray(_OFFSET, log_p.dtype)))
    if scores.included is not None:
        surprise = jnp.where(scores.included, surprise, 0)
    if prior is None:
        expected = surprise.sum(scores.axis) / scores.count
    else:
        prior = read_array("prior", prior, (scores.num_classes,), scores, at_least=0, at_most=1)
        expected = jnp.tensordot(jnp.moveaxis(surprise, scores.axis, -1), prior, 1)
    return finish(label_cross_entropy(scores) - weight * expected, scores)


def log_confidence(
    logits: Array,
    labels: Array,
    *,
    weight: ArrayLike,
    thresholds: Array,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Cross-entropy with the label mixed with the network's own hardened prediction.

    .. math::
        \ell = -\sum_k \big((1 - w) y_k + w\, e_{\hat{k}, k}\big) \log p_k, \qquad
        \hat{k} = \arg\max_k p_k / t_k, \qquad p = \mathrm{softmax}(f)

    A strong network that learns from a weak one's labels may keep its own opinion where it is
    confident. The thresholds, :func:`confidence_thresholds`, keep the classes of the hardened
    predictions as frequent as those of the labels. Of two classes the first is predicted where
    :math:`p_0 \ge t_0`, with :math:`t_1 = 1 - t_0`, as in the paper; for more classes the rule
    above is ours. The paper takes 0.5 for w, growing to that over the first 200 steps.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        weight: :math:`0 \le w \le 1`, a scalar or one per example, ``[...]``.
        thresholds: :math:`t`, above 0 and at most 1, a whole array ``[K]``; they depend on the
            batch, which no loss of one example sees.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked; 0 where all classes are masked; ``inf`` where the label's own
        logit is ``-inf``, unless w is 1. The hardened class, the first of equals, is held in all
        derivatives.

    Raises:
        ValueError: for labels that fit neither form, a weight out of range or of another shape, or
            thresholds that are not ``[K]`` or out of range.

    Example:
        >>> logits, labels = jnp.array([[2.0, 0.0], [0.5, 0.0]]), jnp.array([1, 1])
        >>> log_confidence(logits, labels, weight=0.5, thresholds=jnp.array([0.7, 0.3])).tolist()
        [1.127, 0.974]

    References:
        Burns et al., "Weak-to-Strong Generalization: Eliciting Strong Capabilities With Weak
        Supervision" (ICML 2024), the auxiliary confidence loss; as in the code of Mallen and
        Belrose, "Balancing Label Quantity and Quality for Scalable Elicitation" (2024).
    """
    scores = read_scores(logits, labels, axis, where)
    weight = read_hyperparameter("weight", weight, scores, at_least=0, at_most=1)
    shape = (scores.num_classes,)
    thresholds = read_array("thresholds", thresholds, shape, scores, above=0, at_most=1)
    own = _surprise_of_hardened(scores, thresholds)
    return finish(scaled(1 - weight, label_cross_entropy(scores)) + weight * own, scores)


def _surprise_of_hardened(scores: Scores, thresholds: Array) -> Array:
    top, gaps, log_normaliser = relative_scores(scores)
    others = tuple(axis for axis in range(gaps.ndim) if axis != scores.axis % gaps.ndim)
    relative = gaps - jnp.expand_dims(jnp.log(thresholds), others)
    hardened = jax.lax.stop_gradient(relative).argmax(scores.axis).astype(jnp.int32)
    # The place of a NaN among them is a class like any other.
    unknown = jnp.where(jnp.isnan(thresholds).any(), not_a_number(thresholds.dtype), 0)
    return log_normaliser - (score_of(hardened, scores) - top) + unknown


def confidence_thresholds(logits: Array, labels: Array, *, axis: int = -1) -> Array:
    r"""The thresholds of :func:`log_confidence`, from a batch.

    .. math::
        t_k = \text{the quantile at } 1 - \bar{y}_k \text{ of the } p_{ik},
        \qquad \bar{y}_k = \frac{1}{B} \sum_i y_{ik}

    Above its threshold a class has as many predictions as labels.

    Args:
        logits: of a batch, ``[B, K]``, with the classes along `axis`.
        labels: integers ``[B]`` or distributions in the shape of `logits`.
        axis: the axis of the classes.

    Returns:
        ``[K]``, in the dtype of `logits`, at least its smallest normal number. No gradient flows
        through them.

    Raises:
        ValueError: for labels that fit neither form, or logits that are not a batch.

    Example:
        >>> logits = jnp.array([[2.0, 0.0], [0.5, 0.0], [0.0, 1.0]])
        >>> confidence_thresholds(logits, jnp.array([0, 1, 1])).tolist()
        [0.708, 0.292]

    References:
        Burns et al., "Weak-to-Strong Generalization: Eliciting Strong Capabilities With Weak
        Supervision" (ICML 2024), the auxiliary confidence loss.
    """
    scores = read_scores(logits, labels, axis, None)
    if scores.logits.ndim != 2:
        raise ValueError(f"logits must be a batch, [B, K], got the shape {scores.logits.shape}.")
    p = jnp.moveaxis(jax.nn.softmax(scores.logits, scores.axis), scores.axis, -1)
    if scores.soft:
        share = jnp.moveaxis(scores.labels, scores.axis, -1).mean(0)
    else:
        share = jax.nn.one_hot(scores.labels, scores.num_classes, dtype=p.dtype).mean(0)
    found = jax.vmap(jnp.quantile, (1, 0))(p, jnp.clip(1 - share, 0, 1))
    tiny = jnp.finfo(scores.dtype).tiny
    return jax.lax.stop_gradient(jnp.maximum(found, tiny).astype(scores.dtype))
