"""Losses by which a student follows soft labels: logits of a teacher instead of classes."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax.distill._checks import (
    cross_entropy,
    expected_gap,
    log_probabilities,
    read_logits_and_targets,
    read_number,
)


def distillation_kl(logits: Array, targets: Array, *, temperature: ArrayLike = 20.0) -> Array:
    r"""Kullback-Leibler divergence of the softened distributions.

    .. math:: \ell = \mathrm{KL}\big(\mathrm{softmax}(t / T) \,\|\, \mathrm{softmax}(z / T)\big)

    There is no factor :math:`T^2`, as in the code of SRe2L, RDED and LPLD: it belongs to the
    learning rate. No gradient flows to `targets`.

    Args:
        logits: z, of the student, ``[..., K]``.
        targets: t, of the teacher, ``[..., K]``; minus infinity is a probability of 0.
        temperature: T, more than 0, a scalar or one per example, ``[...]``.

    Returns:
        A loss per example, ``[...]``, in the dtype of `logits`; computed in float32 at least.
        Infinite where the student's score is minus infinity and the teacher's is not.

    Raises:
        ValueError: if the arrays are not floating or of two shapes, or the temperature is out of
            range.

    Example:
        >>> distillation_kl(jnp.zeros((1, 2)), jnp.array([[0.0, -jnp.inf]])).tolist()
        [0.693]

    References:
        Hinton et al., "Distilling the Knowledge in a Neural Network" (2015), section 2.
    """
    logits, targets, dtype = read_logits_and_targets(logits, targets)
    temperature = read_number("temperature", temperature, logits, above=0)
    wanted = log_probabilities(targets, temperature)
    found = log_probabilities(logits, temperature)
    return expected_gap(jnp.exp(wanted), wanted, found).astype(dtype)


def distillation_mse(
    logits: Array, targets: Array, labels: Array, *, ce_weight: ArrayLike = 0.1
) -> Array:
    r"""Squared error to the teacher's logits plus cross-entropy.

    .. math:: \ell = \frac1K \sum_k (z_k - t_k)^2 + \beta\,\mathrm{CE}(z, y)

    No gradient flows to `targets`.

    Args:
        logits: z, of the student, ``[..., K]``.
        targets: t, of the teacher, finite, ``[..., K]``.
        labels: y, classes ``[...]`` or distributions ``[..., K]``, such as mixed ones.
        ce_weight: :math:`\beta`, at least 0, a scalar or one per example, ``[...]``.

    Returns:
        A loss per example, ``[...]``, in the dtype of `logits`; NaN where an integer label is
        outside ``[0, K)``.

    Raises:
        ValueError: if the arrays are not floating or of two shapes, the labels fit neither form, or
            the weight is out of range.

    Example:
        >>> logits, targets = jnp.array([[0.0, 0.0]]), jnp.array([[1.0, 1.0]])
        >>> distillation_mse(logits, targets, jnp.array([0]), ce_weight=1.0).tolist()
        [1.693]

    References:
        Shao et al., "Generalized Large-Scale Data Condensation via Various Backbone and Statistical
        Matching" (G-VBSM, CVPR 2024), the MSE+GT loss of its code; the student's loss of HeLlO.
    """
    logits, targets, dtype = read_logits_and_targets(logits, targets)
    ce_weight = read_number("ce_weight", ce_weight, logits, at_least=0)[..., 0]
    errors = jnp.square(logits - targets).mean(-1)
    return (errors + ce_weight * cross_entropy(logits, labels)).astype(dtype)


def soft_cross_entropy(logits: Array, targets: Array) -> Array:
    r"""Cross-entropy with the distribution of a teacher, :math:`-\sum_k p_k \log q_k`.

    Args:
        logits: of the student, :math:`q = \mathrm{softmax}(z)`, ``[..., K]``.
        targets: logits of :math:`p`, ``[..., K]``, minus infinity for a probability of 0; no
            gradient flows to them.

    Returns:
        A loss per example, ``[...]``, in the dtype of `logits`. Infinite where the student's score
        is minus infinity and the teacher's is not.

    Raises:
        ValueError: if the arrays are not floating or of two shapes.

    Example:
        >>> soft_cross_entropy(jnp.zeros((1, 2)), jnp.array([[0.0, -jnp.inf]])).tolist()
        [0.693]
    """
    logits, targets, dtype = read_logits_and_targets(logits, targets)
    found, weights = log_probabilities(logits), jnp.exp(log_probabilities(targets))
    return expected_gap(weights, jnp.zeros_like(found), found).astype(dtype)
