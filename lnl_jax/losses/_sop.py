"""Sparse over-parameterisation: a sparse noise term per example learns what is wrong in a label."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import not_a_number
from lnl_jax.losses._checks import (
    Scores,
    along_classes,
    finish,
    label_distribution,
    read_hyperparameter,
    read_scores,
)
from lnl_jax.losses._probabilities import relative_scores
from lnl_jax.losses._rows import SopRows, keep_unusable, read_row, with_classes_at

# What the official code keeps corrected predictions, and their sum, above.
_LEAST = 1e-4


def sop_step(
    logits: Array,
    labels: Array,
    rows: SopRows,
    *,
    rate_u: ArrayLike,
    rate_v: ArrayLike,
    axis: int = -1,
    where: Array | None = None,
) -> tuple[Array, SopRows]:
    r"""Sparse over-parameterisation (SOP), and the noise terms after a step of descent.

    .. math::
        \ell = -\sum_k y_k \log q_k + \lVert e_{\hat{k}} + U - V - y \rVert_2^2, \qquad
        q \propto \max(\mathrm{softmax}(f) + U - V, 10^{-4}),

    .. math::
        U = \mathrm{clip}(u^2 y, 0, 1), \qquad V = \mathrm{clip}(v^2 (1 - y), 0, 1), \qquad
        \hat{k} = \arg\max_k f_k

    U takes over the label's class where the network does not believe it, V the class that it
    predicts in its place, so that the network need not fit the label. :math:`u^2 + \sum_k v_k^2` is
    a score of how wrong the label is. The network follows the first term alone; u both; v the
    second, as V is held in the first.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        rows: u, ``[...]``, and v, ``[..., K]``, with the classes last, of these examples after
            their last visit; see :func:`sop_table` for their start.
        rate_u: at least 0, the step of u along the gradient of this example's loss, a scalar or one
            per example. The paper's rates are for the mean over a batch: divide them by its size
            (10 / 128 for CIFAR-N, 1 / 128 for CIFAR-100 with symmetric noise).
        rate_v: that of v, likewise (10 / 128 and 10 / 128; 100 / 128 with asymmetric noise).
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        The losses, ``[...]``, in the dtype of `logits`: NaN where an integer label is outside
        ``[0, K)`` or masked, 0 where all classes are masked. And the new rows, in the dtypes of
        `rows`; examples with an invalid label or without classes keep theirs. Their updates of an
        example that a batch holds twice are to be added up, as the table does. No gradient flows
        through the rows.

    Raises:
        ValueError: for labels that fit neither form, a rate out of range or of another shape, or
            rows of another shape.

    Example:
        >>> logits, labels = jnp.array([[2.0, 1.0, 0.0]]), jnp.array([1])
        >>> rows = SopRows(jnp.array([0.1]), jnp.full((1, 3), 0.1))
        >>> losses, rows = sop_step(logits, labels, rows, rate_u=0.1, rate_v=0.1)
        >>> losses.tolist(), rows.u.tolist(), rows.v.tolist()
        ([3.318], [0.198], [[0.140, 0.100, 0.100]])

    References:
        Liu et al., "Robust Training under Label Noise by Over-parameterization" (ICML 2022), the
        SOP loss; the clipping is that of the official code.
    """
    scores = read_scores(logits, labels, axis, where)
    u, v = _read_rows(rows, scores)
    rate_u = read_hyperparameter("rate_u", rate_u, scores, at_least=0)
    rate_v = read_hyperparameter("rate_v", rate_v, scores, at_least=0)
    y = label_distribution(scores)
    p = _softmax(scores)

    def total(u: Array, v: Array) -> tuple[Array, Array]:
        values = _loss(scores, p, y, u, v)
        return values.sum(), values

    computed = u.astype(scores.logits.dtype), with_classes_at(v, scores)
    gradient_u, gradient_v = jax.lax.stop_gradient(jax.grad(total, (0, 1), True)(*computed)[0])
    new_u = computed[0] - rate_u * gradient_u
    new_v = computed[1] - along_classes(rate_v, scores.axis) * gradient_v
    new_v = jnp.moveaxis(new_v, scores.axis, -1)
    new = SopRows(keep_unusable(new_u, u, scores), keep_unusable(new_v, v, scores))
    values = _loss(scores, p, y, *computed)
    # The rates are in the rows alone; a traced one out of range is to be seen at once.
    values = jnp.where(jnp.isnan(rate_u + rate_v), not_a_number(values.dtype), values)
    return finish(values, scores), new


def _read_rows(rows: SopRows, scores: Scores) -> tuple[Array, Array]:
    if not isinstance(rows, SopRows):
        raise ValueError(
            f"rows must be SopRows(u, v), got {type(rows).__name__}; sop_table makes a table of "
            "them."
        )
    u = read_row("rows.u", rows.u, scores, of_classes=False)
    return u, read_row("rows.v", rows.v, scores, of_classes=True)


def _softmax(scores: Scores) -> Array:
    _, gaps, log_normaliser = relative_scores(scores)
    return jnp.exp(gaps - jnp.expand_dims(log_normaliser, scores.axis))


def _loss(scores: Scores, p: Array, y: Array, u: Array, v: Array) -> Array:
    """Both terms; the classes of `v` are where the scores have them."""
    on_label = jnp.clip(along_classes(u, scores.axis) ** 2 * y, 0, 1)
    on_others = jnp.clip(v**2 * (1 - y), 0, 1)
    if scores.included is not None:
        on_others = jnp.where(scores.included, on_others, 0)
    corrected = jnp.maximum(p + on_label - jax.lax.stop_gradient(on_others), _LEAST)
    if scores.included is not None:
        corrected = jnp.where(scores.included, corrected, 0)
    # No sum of them is below the bound, which the official code asks for as well.
    q = corrected / corrected.sum(scores.axis, keepdims=True)
    cross = -(y * jnp.log(jnp.maximum(q, _LEAST))).sum(scores.axis)
    classes = jax.lax.broadcasted_iota(jnp.int32, p.shape, scores.axis % p.ndim)
    predicted = classes == scores.logits.argmax(scores.axis, keepdims=True).astype(jnp.int32)
    error = predicted.astype(p.dtype) + on_label - on_others - y
    return cross + (error**2).sum(scores.axis)
