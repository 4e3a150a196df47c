"""Losses by which a student follows soft labels: logits of a teacher instead of classes."""

import jax
import jax.numpy as jnp
import optax
from jax import Array


def distillation_kl(logits: Array, targets: Array, *, temperature: float = 20.0) -> Array:
    r"""Kullback-Leibler divergence of the softened distributions.

    .. math:: \ell = \mathrm{KL}\big(\mathrm{softmax}(t / T) \,\|\, \mathrm{softmax}(z / T)\big)

    There is no factor :math:`T^2`, as in the code of SRe2L, RDED and LPLD: it belongs to the
    learning rate. No gradient flows to `targets`.

    Args:
        logits: z, of the student, ``[B, K]``.
        targets: t, of the teacher, ``[B, K]``; minus infinity is a probability of 0.
        temperature: T, more than 0.

    Returns:
        A loss per example, ``[B]``.

    Example:
        >>> distillation_kl(jnp.zeros((1, 2)), jnp.array([[0.0, -jnp.inf]])).tolist()
        [0.693]

    References:
        Hinton et al., "Distilling the Knowledge in a Neural Network" (2015), section 2.
    """
    wanted = jax.nn.log_softmax(jax.lax.stop_gradient(targets) / temperature)
    found = jax.nn.log_softmax(logits / temperature)
    possible = wanted > -jnp.inf
    gaps = jnp.where(possible, wanted, 0) - found
    return jnp.where(possible, jnp.exp(wanted) * gaps, 0).sum(-1)


def distillation_mse(
    logits: Array, targets: Array, labels: Array, *, ce_weight: float = 0.1
) -> Array:
    r"""Squared error to the teacher's logits plus cross-entropy.

    .. math:: \ell = \frac1K \sum_k (z_k - t_k)^2 + \beta\,\mathrm{CE}(z, y)

    No gradient flows to `targets`.

    Args:
        logits: z, of the student, ``[B, K]``.
        targets: t, of the teacher, finite, ``[B, K]``.
        labels: y, classes ``[B]`` or distributions ``[B, K]``, such as mixed ones.
        ce_weight: :math:`\beta`.

    Returns:
        A loss per example, ``[B]``.

    References:
        Shao et al., "Generalized Large-Scale Data Condensation via Various Backbone and Statistical
        Matching" (G-VBSM, CVPR 2024), the MSE+GT loss of its code; the student's loss of HeLlO.
    """
    errors = jnp.square(logits - jax.lax.stop_gradient(targets)).mean(-1)
    if labels.ndim == logits.ndim:
        return errors + ce_weight * optax.softmax_cross_entropy(logits, labels)
    return errors + ce_weight * optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def soft_cross_entropy(logits: Array, targets: Array) -> Array:
    r"""Cross-entropy with the distribution of a teacher, :math:`-\sum_k p_k \log q_k`.

    Args:
        logits: of the student, :math:`q = \mathrm{softmax}(z)`, ``[B, K]``.
        targets: logits of :math:`p`, ``[B, K]``; no gradient flows to them.

    Returns:
        A loss per example, ``[B]``.
    """
    return optax.softmax_cross_entropy(logits, jax.nn.softmax(jax.lax.stop_gradient(targets)))
