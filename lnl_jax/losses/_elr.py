"""Early-learning regularisation: the network's own earlier predictions hold it back."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax.losses._checks import (
    Scores,
    along_classes,
    finish,
    label_distribution,
    read_hyperparameter,
    read_scores,
)
from lnl_jax.losses._probabilities import label_cross_entropy, relative_scores
from lnl_jax.losses._rows import keep_unusable, read_row, with_classes_at


def elr_step(
    logits: Array,
    labels: Array,
    rows: Array,
    *,
    momentum: ArrayLike = 0.7,
    weight: ArrayLike = 3.0,
    floor: ArrayLike = 1e-4,
    axis: int = -1,
    where: Array | None = None,
) -> tuple[Array, Array]:
    r"""Cross-entropy with early-learning regularisation (ELR), and the new targets.

    .. math::
        \ell = -\sum_k y_k \log \mathrm{softmax}(f)_k + \lambda \log(1 - \langle t', p \rangle),
        \qquad p = \mathrm{clip}(\mathrm{softmax}(f), c, 1 - c), \qquad
        t' = \beta t + (1 - \beta) \frac{p}{\sum_k p_k}

    The target is a running mean of the predictions for this example. Early in the training these
    are right more often than the label, and the second term's gradient cancels the pull of
    cross-entropy towards a label that contradicts them. The class of the largest target is a guess
    at the true label.

    ELR+ builds the target from another network, mixes pairs of examples and ramps the weight up:
    :func:`early_learning_regularization` takes any targets.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        rows: the targets :math:`t` of these examples after their last visit, ``[..., K]``, with the
            classes last; 0 before the first (:func:`elr_table`).
        momentum: :math:`0 \le \beta < 1`, a scalar or one per example, ``[...]``. The paper takes
            0.7, and 0.9 for asymmetric noise and for CIFAR-100.
        weight: :math:`\lambda \ge 0`, a scalar or one per example, ``[...]``. The paper takes 3,
            1 for asymmetric noise, 7 for CIFAR-100.
        floor: :math:`c`, from 0 to less than 0.5, a scalar or one per example; with 0 the loss is
            minus infinity where target and prediction agree entirely.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        The losses, ``[...]``, in the dtype of `logits`: NaN where an integer label is outside
        ``[0, K)`` or masked, 0 where all classes are masked, ``inf`` where the label's own logit is
        ``-inf``. And the new rows, ``[..., K]``, in the dtype of `rows`; examples with an invalid
        label or without classes keep theirs. No gradient flows through the rows, and none where
        the prediction is clipped.

    Raises:
        ValueError: for labels that fit neither form, a hyperparameter out of range or of another
            shape, or rows of another shape.

    Example:
        >>> logits, labels = jnp.array([[2.0, 1.0, 0.0]]), jnp.array([1])
        >>> losses, rows = elr_step(logits, labels, jnp.zeros((1, 3)))
        >>> losses.tolist(), rows.tolist()
        ([0.909], [[0.200, 0.073, 0.027]])

    References:
        Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels"
        (NeurIPS 2020), Section 4; the clipping is that of the official code.
    """
    scores = read_scores(logits, labels, axis, where)
    rows = read_row("rows", rows, scores, of_classes=True)
    momentum = read_hyperparameter("momentum", momentum, scores, at_least=0, below=1)
    weight = read_hyperparameter("weight", weight, scores, at_least=0)
    p = _clipped_softmax(scores, floor)
    held = jax.lax.stop_gradient(p)
    beta = along_classes(jax.lax.stop_gradient(momentum), scores.axis)
    latest = held / held.sum(scores.axis, keepdims=True)
    targets = beta * with_classes_at(rows, scores) + (1 - beta) * latest
    values = label_cross_entropy(scores) + weight * _disagreement(targets, p, scores)
    new = jnp.moveaxis(targets, scores.axis, -1)
    return finish(values, scores), keep_unusable(new, rows, scores)


def early_learning_regularization(
    logits: Array,
    labels: Array,
    *,
    floor: ArrayLike = 1e-4,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""The second term of ELR, for targets from anywhere: pieces of ELR+.

    .. math::
        \ell = \log(1 - \langle t, p \rangle), \qquad
        p = \mathrm{clip}(\mathrm{softmax}(f), c, 1 - c)

    It is at most 0, and the less the more the prediction agrees with the target. In ELR+ the target
    of one network is the running mean of what the weight average of the *other* network predicts
    (`optax.incremental_update` of the rows); pairs of examples are mixed, their targets with the
    same weights; and the weight follows `lnl_jax.train.sigmoid_ramp_up`.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: the targets :math:`t`, distributions of shape ``[..., K]`` as `logits` has it, or
            classes, integers of shape ``[...]``.
        floor: :math:`c`, from 0 to less than 0.5, a scalar or one per example, ``[...]``.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One value per example, ``[...]``, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked; 0 where all classes are masked. Gradients flow to all
        arguments: stop those of the targets.

    Raises:
        ValueError: for labels that fit neither form, or a floor out of range or of another shape.

    Example:
        >>> mixed_logits, share = jnp.array([[2.0, 1.0, 0.0]]), 0.75
        >>> targets = jnp.array([[0.9, 0.1, 0.0], [0.0, 0.2, 0.8]])
        >>> mixed = share * targets[:1] + (1 - share) * targets[1:]
        >>> early_learning_regularization(mixed_logits, mixed).tolist()
        [-0.688]

    References:
        Liu et al., "Early-Learning Regularization Prevents Memorization of Noisy Labels"
        (NeurIPS 2020), Section 4 and the appendix on ELR+.
    """
    scores = read_scores(logits, labels, axis, where)
    p = _clipped_softmax(scores, floor)
    return finish(_disagreement(label_distribution(scores), p, scores), scores)


def _clipped_softmax(scores: Scores, floor: ArrayLike) -> Array:
    floor = along_classes(
        read_hyperparameter("floor", floor, scores, at_least=0, below=0.5), scores.axis
    )
    _, gaps, log_normaliser = relative_scores(scores)
    p = jnp.exp(gaps - jnp.expand_dims(log_normaliser, scores.axis))
    p = jnp.clip(p, floor, 1 - floor)
    return p if scores.included is None else jnp.where(scores.included, p, 0)


def _disagreement(targets: Array, p: Array, scores: Scores) -> Array:
    return jnp.log1p(-(targets * p).sum(scores.axis))
