"""A log-normaliser per example, for softmaxes over more classes than a step can look at."""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import as_array, in_range
from lnl_jax.losses._checks import finish, label_distribution, read_hyperparameter, read_scores
from lnl_jax.losses._probabilities import label_surprise, log_mixture, relative_scores
from lnl_jax.losses._rows import keep_unusable, read_row


def scent_step(
    logits: Array,
    labels: Array,
    rows: Array,
    *,
    log_step: ArrayLike = 10.0,
    axis: int = -1,
    where: Array | None = None,
) -> tuple[Array, Array]:
    r"""Cross-entropy over sampled classes with a stored log-normaliser (SCENT).

    .. math::
        \ell = E e^{-\nu'}, \qquad
        E = \frac{1}{K - 1} \sum_k (1 - y_k) e^{f_k - \langle y, f \rangle}, \qquad
        \nu' = \log\big((1 - \gamma) e^{\nu} + \gamma E\big), \quad
        \gamma = \mathrm{sigmoid}(a + \nu)

    The gradient is that of cross-entropy over all classes with :math:`\nu'` for the logarithm of
    the normaliser; the value itself is about 1 and means little. `logits` hold the classes that
    were drawn, the label's among them: `where` leaves out others. With a large step
    :math:`\nu' = \log E`: cross-entropy of the classes at hand, where these are all of them but for
    the label's own part in the normaliser.

    Args:
        logits: scores :math:`f` of the drawn classes, shape ``[..., K]``, along `axis`.
        labels: which of them is the label, integers of shape ``[...]``, or distributions :math:`y`
            of shape ``[..., K]``.
        rows: :math:`\nu` of these examples after their last visit, ``[...]``; ``-inf`` before the
            first, which then sets it to :math:`\log E` (:func:`scent_table`).
        log_step: :math:`a`, finite, the logarithm of the step of descent, a scalar or one per
            example, ``[...]``.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        The losses, ``[...]``, in the dtype of `logits`: NaN where an integer label is outside
        ``[0, K)`` or masked; 0 where all classes are masked or only one is left; ``inf`` where the
        label's own logit is ``-inf``. And the new rows, ``[...]``, in the dtype of `rows`; those of
        examples with an invalid label, or with no other class of a finite score, stay. No gradient
        flows through the rows.

    Raises:
        ValueError: for labels that fit neither form, a step out of range or of another shape, or
            rows of another shape.

    Example:
        >>> logits, labels = jnp.array([[2.0, 1.0, 0.0]]), jnp.array([0])
        >>> losses, rows = scent_step(logits, labels, jnp.array([-jnp.inf]))
        >>> losses.tolist(), rows.tolist()
        ([1.0], [-1.380])

    References:
        Wei et al., "A Geometry-Aware Efficient Algorithm for Compositional Entropic Risk
        Minimization" (2026), arXiv 2602.02877, SCENT. A first visit is marked by ``-inf``, not by 0
        as in the official code, where a normaliser of 1 counts as none; soft labels are ours.
    """
    scores = read_scores(logits, labels, axis, where)
    rows = read_row("rows", rows, scores, of_classes=False)
    log_step = read_hyperparameter("log_step", log_step, scores)
    relative = relative_scores(scores)
    others = 1 - label_distribution(scores)
    if scores.included is not None:
        others = jnp.where(scores.included, others, 0)
    alone = scores.count < 2
    rest = jnp.log(jnp.where(alone, 1, scores.count - 1))
    log_mean = (
        label_surprise(scores, relative) - rest + log_mixture(scores.logits, others, scores.axis)
    )
    silent = alone | scores.impossible | (log_mean == -jnp.inf)
    log_mean = jnp.where(silent, 0, log_mean)
    held = jax.lax.stop_gradient(log_mean)
    before = rows.astype(held.dtype)
    new = log_normalizer_step(before, held, log_step=log_step)
    # The difference of the two, which are as large as the scores, without their rounding.
    known = jnp.where(before == -jnp.inf, held, before)
    log_share = jnp.logaddexp(known - held, log_step + known) - jax.nn.softplus(log_step + known)
    share = jnp.exp(-jax.lax.stop_gradient(log_share))
    values = jnp.where(silent, 0, share * jnp.exp(log_mean - held))
    values = jnp.where(scores.impossible, jnp.inf, values)
    new = jnp.where(silent, before, new)
    return finish(values, scores), keep_unusable(new, rows, scores)


def log_normalizer_step(rows: Array, log_means: Array, *, log_step: ArrayLike) -> Array:
    r"""Moves stored log-normalisers towards what a batch estimates.

    .. math::
        \nu' = \log\big((1 - \gamma) e^{\nu} + \gamma e^{b}\big), \qquad
        \gamma = \mathrm{sigmoid}(a + \nu)

    A proximal step of mirror descent on :math:`e^{b - \nu} + \nu`, whose minimum is
    :math:`\nu = b`. One rule for three problems: :math:`b` is the logarithm of the mean of

    - :math:`e^{f_k - f_y}` over the classes drawn, for cross-entropy (:func:`scent_step`);
    - :math:`e^{(s_{ij} - s_{ii}) / \tau}` over the negatives, for a global contrastive loss, where
      :math:`\gamma` is constant in SogCLR;
    - :math:`e^{\ell_i / \lambda}` over a batch, for KL-regularised robust optimisation over
      examples, whose weights are then :math:`e^{\ell_i / \lambda - \nu'}`.

    Args:
        rows: :math:`\nu`, ``[...]``; ``-inf`` before the first visit.
        log_means: :math:`b`, ``[...]``.
        log_step: :math:`a`, a scalar or one per row; -2 to 10 in the paper.

    Returns:
        :math:`\nu'`, in the shape of `rows`: :math:`b` at the first visit.

    Raises:
        ValueError: if `rows` and `log_means` have different shapes, or a step is out of range.

    Example:
        >>> log_normalizer_step(jnp.array([-jnp.inf, 0.0]), jnp.full(2, 2.0), log_step=0.0).tolist()
        [2.000, 1.434]

    References:
        Wei et al., "A Geometry-Aware Efficient Algorithm for Compositional Entropic Risk
        Minimization" (2026), arXiv 2602.02877, the update of SCENT.
    """
    rows, log_means = as_array("rows", rows), as_array("log_means", log_means)
    if rows.shape != log_means.shape:
        raise ValueError(
            f"rows and log_means must have the same shape, got {rows.shape} and {log_means.shape}."
        )
    if jnp.shape(log_step) not in ((), rows.shape):
        raise ValueError(
            f"log_step must be a scalar or of shape {rows.shape}, got {jnp.shape(log_step)}."
        )
    log_step = in_range("log_step", log_step, rows.dtype, above=-math.inf, below=math.inf)
    new = rows == -jnp.inf
    known = jnp.where(new, 0, rows)
    moved = jax.nn.softplus(log_step + log_means) - jax.nn.softplus(log_step + known)
    return jnp.where(new, log_means, known + moved)
