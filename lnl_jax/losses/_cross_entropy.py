"""Losses of the probability of the label alone, between cross-entropy and mean absolute error."""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._host_arguments import check_integer
from lnl_jax.losses._checks import finish, read_hyperparameter, read_scores
from lnl_jax.losses._probabilities import label_log_probability, other_probability

# The series is written out; beyond, cross-entropy itself is meant.
MAX_ORDER = 1000


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

    For a class: cross-entropy as q goes to 0, half the mean absolute error :math:`1 - p_y` at
    q = 1. The larger q, the less a confidently contradicted label counts, and the slower the
    training.

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


def truncated_generalized_cross_entropy(
    logits: Array,
    labels: Array,
    *,
    q: ArrayLike = 0.7,
    threshold: ArrayLike = 0.5,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Truncated generalized cross-entropy: constant where the label is not believed.

    .. math::
        \ell = \frac{1 - \max(p_y, k)^q}{q}, \qquad p_y = \langle y, \mathrm{softmax}(f) \rangle

    An example whose label has no more than the probability k has no gradient: it is left out. That
    is the paper's optimal pruning weight for given predictions, in closed form. A network at its
    start gives most labels less than 0.5, so begin with :func:`generalized_cross_entropy`, or keep
    the pruning of an earlier epoch with :func:`confident`, as the paper does.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        q: :math:`0 < q \le 1`, a scalar or one per example, ``[...]``.
        threshold: :math:`0 < k \le 1`, a scalar or one per example, ``[...]``.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked; 0 where all classes are masked. Gradients flow to all
        arguments.

    Raises:
        ValueError: for labels that fit neither form, a hyperparameter out of range, or one that is
            neither a scalar nor one per example.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> truncated_generalized_cross_entropy(logits, jnp.array([0, 1])).tolist()
        [0.355, 0.549]

    References:
        Zhang and Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with
        Noisy Labels" (NeurIPS 2018), the truncated Lq loss.
    """
    scores = read_scores(logits, labels, axis, where)
    q = read_hyperparameter("q", q, scores, above=0, at_most=1)
    threshold = read_hyperparameter("threshold", threshold, scores, above=0, at_most=1)
    log_p, least = label_log_probability(scores), jnp.log(threshold)
    kept = jnp.where(log_p > least, log_p, least)
    # A comparison with NaN is false, and would hide it.
    kept = jnp.where(jnp.isnan(log_p), log_p, kept)
    return finish(-jnp.expm1(q * kept) / q, scores)


def confident(
    logits: Array,
    labels: Array,
    *,
    threshold: ArrayLike = 0.5,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Which labels the scores believe: :math:`\langle y, \mathrm{softmax}(f) \rangle > k`.

    For training that prunes: compute it every few epochs, keep it as rows of a table, and multiply
    the losses of the epochs in between by it.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        threshold: :math:`0 \le k \le 1`, a scalar or one per example, ``[...]``.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        Boolean, ``[...]``; false where an integer label is outside ``[0, K)`` or masked, where all
        classes are masked, and where the scores are NaN.

    Raises:
        ValueError: for labels that fit neither form, or a threshold out of range or of another
            shape.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> kept = confident(logits, jnp.array([0, 1]))
        >>> kept.tolist()
        [True, False]
        >>> losses = kept * generalized_cross_entropy(logits, jnp.array([0, 1]))

    References:
        Zhang and Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with
        Noisy Labels" (NeurIPS 2018), the pruning step of the algorithm for the truncated Lq loss.
    """
    scores = read_scores(logits, labels, axis, where)
    threshold = read_hyperparameter("threshold", threshold, scores, at_least=0, at_most=1)
    believed = label_log_probability(scores) > jnp.log(threshold)
    nowhere = scores.invalid if scores.empty is None else scores.invalid | scores.empty
    return believed & ~nowhere


def taylor_cross_entropy(
    logits: Array,
    labels: Array,
    *,
    order: int,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Taylor cross-entropy: the series of :math:`-\log p_y` around 1, cut off.

    .. math::
        \ell = \sum_{j=1}^{t} \frac{(1 - p_y)^j}{j}, \qquad
        p_y = \langle y, \mathrm{softmax}(f) \rangle

    For a class: half the mean absolute error for order 1, cross-entropy as the order goes to
    infinity. Bounded by the harmonic number of the order.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        order: :math:`t`, a static integer from 1 to 1000: there are as many operations. Our
            comparisons take 2.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked; 0 where all classes are masked. Gradients flow to `logits` and
        `labels`.

    Raises:
        ValueError: for labels that fit neither form, or an order that is no integer from 1 to 1000.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> taylor_cross_entropy(logits, jnp.array([0, 1]), order=2).tolist()
        [0.391, 1.410]

    References:
        Feng et al., "Can Cross Entropy Loss Be Robust to Label Noise?" (IJCAI 2020), the Taylor
        cross entropy loss.
    """
    check_integer("order", order, at_most=MAX_ORDER)
    scores = read_scores(logits, labels, axis, where)
    other = other_probability(scores)
    losses = jnp.zeros_like(other)
    for power in range(order, 0, -1):
        losses = other * (1 / power + losses)
    return finish(losses, scores)


def partially_huberised_cross_entropy(
    logits: Array,
    labels: Array,
    *,
    temperature: ArrayLike,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Partially Huberised cross-entropy: linear in the probability where it is low.

    .. math::
        \ell = \begin{cases}
            -\log p_y & p_y > 1 / \tau \\
            -\tau p_y + \log \tau + 1 & \text{otherwise}
        \end{cases}
        \qquad p_y = \langle y, \mathrm{softmax}(f) \rangle

    The two meet with equal slope; the loss is bounded by :math:`\log \tau + 1`. Linear throughout
    for :math:`\tau = 1`; as it goes to infinity, for a class, cross-entropy.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        temperature: :math:`\tau \ge 1`, a scalar or one per example, ``[...]``. Our comparisons try
            2, 10 and 30.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked; 0 where all classes are masked. Gradients flow to all three
        arguments.

    Raises:
        ValueError: for labels that fit neither form, a temperature below 1, or one that is neither
            a scalar nor one per example.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> partially_huberised_cross_entropy(logits, jnp.array([0, 1]), temperature=2.0).tolist()
        [0.408, 1.602]

    References:
        Menon et al., "Can gradient clipping mitigate label noise?" (ICLR 2020), the partially
        Huberised loss for the softmax cross-entropy.
    """
    scores = read_scores(logits, labels, axis, where)
    temperature = read_hyperparameter(
        "temperature", temperature, scores, at_least=1, below=math.inf
    )
    log_p, log_temperature = label_log_probability(scores), jnp.log(temperature)
    linear = 1 + log_temperature - jnp.exp(log_temperature + log_p)
    return finish(jnp.where(log_p > -log_temperature, -log_p, linear), scores)
