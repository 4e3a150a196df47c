"""Asymmetric losses: bounded functions of the probability of the label alone."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax.losses._checks import finish, read_hyperparameter, read_scores
from lnl_jax.losses._probabilities import label_log_probability, other_probability


def asymmetric_generalized_cross_entropy(
    logits: Array,
    labels: Array,
    *,
    a: ArrayLike,
    q: ArrayLike,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Asymmetric generalised cross-entropy (AGCE).

    .. math::
        \ell = \frac{(a + 1)^q - (a + p_y)^q}{q}, \qquad
        p_y = \langle y, \mathrm{softmax}(f) \rangle

    Generalised cross-entropy as a goes to 0; for q = 1 half the mean absolute error, which is
    symmetric; beyond, an example counts the less the less its label is believed.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        a: :math:`a > 0`, a scalar or one per example, ``[...]``.
        q: :math:`q > 0`, a scalar or one per example, ``[...]``. Our comparisons try a with q of 4
            with 0.2, 0.6 with 0.6 and 3 with 1.5.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, from 0 to :math:`((a + 1)^q - a^q) / q`, in the dtype of
        `logits`. NaN where an integer label is outside ``[0, K)`` or masked; 0 where all classes
        are masked. Gradients flow to all arguments.

    Raises:
        ValueError: for labels that fit neither form, a hyperparameter out of range, or one that is
            neither a scalar nor one per example.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> asymmetric_generalized_cross_entropy(logits, jnp.array([0, 1]), a=3.0, q=1.5).tolist()
        [0.655, 1.791]

    References:
        Zhou et al., "Asymmetric Loss Functions for Learning with Noisy Labels" (ICML 2021), AGCE.
    """
    scores = read_scores(logits, labels, axis, where)
    a = read_hyperparameter("a", a, scores, above=0)
    q = read_hyperparameter("q", q, scores, above=0)
    log_ratio = jnp.log1p(-other_probability(scores) / (a + 1))
    return finish((a + 1) ** q * -jnp.expm1(q * log_ratio) / q, scores)


def asymmetric_unhinged(
    logits: Array,
    labels: Array,
    *,
    a: ArrayLike,
    q: ArrayLike,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Asymmetric unhinged loss (AUL).

    .. math::
        \ell = \frac{(a - p_y)^q - (a - 1)^q}{q}, \qquad
        p_y = \langle y, \mathrm{softmax}(f) \rangle

    Half the mean absolute error for q = 1.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        a: :math:`a > 1`, a scalar or one per example, ``[...]``.
        q: :math:`q > 0`, a scalar or one per example, ``[...]``. Our comparisons try a with q of 3
            with 0.1, 5.5 with 3 and 6 with 1.5.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, from 0 to :math:`(a^q - (a - 1)^q) / q`, in the dtype of
        `logits`. NaN where an integer label is outside ``[0, K)`` or masked; 0 where all classes
        are masked. Gradients flow to all arguments.

    Raises:
        ValueError: for labels that fit neither form, a hyperparameter out of range, or one that is
            neither a scalar nor one per example.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> asymmetric_unhinged(logits, jnp.array([0, 1]), a=6.0, q=1.5).tolist()
        [0.761, 2.234]

    References:
        Zhou et al., "Asymmetric Loss Functions for Learning with Noisy Labels" (ICML 2021), AUL.
    """
    scores = read_scores(logits, labels, axis, where)
    a = read_hyperparameter("a", a, scores, above=1)
    q = read_hyperparameter("q", q, scores, above=0)
    log_ratio = jnp.log1p(other_probability(scores) / (a - 1))
    return finish((a - 1) ** q * jnp.expm1(q * log_ratio) / q, scores)


def asymmetric_exponential(
    logits: Array,
    labels: Array,
    *,
    a: ArrayLike,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Asymmetric exponential loss (AEL).

    .. math::
        \ell = \exp(-p_y / a), \qquad p_y = \langle y, \mathrm{softmax}(f) \rangle

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        a: :math:`a > 0`, a scalar or one per example, ``[...]``. Our comparisons try 1, 2.5 and
            3.5.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, from :math:`e^{-1/a}` to 1, in the dtype of `logits`. NaN
        where an integer label is outside ``[0, K)`` or masked; 0 where all classes are masked.
        Gradients flow to all three arguments.

    Raises:
        ValueError: for labels that fit neither form, an `a` out of range, or an `a` that is neither
            a scalar nor one per example.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> asymmetric_exponential(logits, jnp.array([0, 1]), a=2.0).tolist()
        [0.717, 0.978]

    References:
        Zhou et al., "Asymmetric Loss Functions for Learning with Noisy Labels" (ICML 2021), AEL.
    """
    scores = read_scores(logits, labels, axis, where)
    a = read_hyperparameter("a", a, scores, above=0)
    return finish(jnp.exp(-jnp.exp(label_log_probability(scores)) / a), scores)
