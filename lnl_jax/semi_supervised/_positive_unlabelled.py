"""Losses of positive and unlabelled examples: some positives are known, no negative is.

Their means run over the batch, so the batch is what they sum over, as a contrastive loss does over
its keys: on several devices, over as much of it as the call is given. They still return one value
per example, whose mean over the included examples is the risk, in value and in gradient.

Shapes in this file: ``B`` is the number of examples (in the formulas, of the included ones), ``C``
the number of classes.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import (
    as_array,
    computation_dtype,
    finite,
    in_range,
    read_classes,
    read_example_mask,
    read_logits,
)

MIN_TEMPERATURE = 1e-6


def sigmoid_surrogate(margins: Array) -> Array:
    r"""Sigmoid loss of a margin, the usual surrogate of the zero-one loss in :func:`nn_pu`.

    .. math::
        s(z) = \frac{1}{1 + e^z}

    Bounded and symmetric, :math:`s(z) + s(-z) = 1`.

    Args:
        margins: the score of a positive, or minus the score of a negative, of any shape.

    Returns:
        One loss per margin, from 0 to 1, in the shape and dtype of `margins`.

    Example:
        >>> sigmoid_surrogate(jnp.array([-2.0, 0.0, 2.0])).tolist()
        [0.881, 0.5, 0.119]
    """
    margins = as_array("margins", margins)
    if not jnp.issubdtype(margins.dtype, jnp.floating):
        raise ValueError(f"margins must be floating, got {margins.dtype}; cast them to float32.")
    return jax.nn.sigmoid(-margins)


def nn_pu(
    logits: Array,
    labels: Array,
    *,
    prior: ArrayLike,
    surrogate: Callable[[Array], Array] = sigmoid_surrogate,
    where: Array | None = None,
) -> Array:
    r"""Non-negative risk of positive and unlabelled examples (nnPU), split over the examples.

    .. math::
        \frac{1}{B} \sum_i \ell_i = \pi R_p^+ + \max(0, R_u^- - \pi R_p^-)

    .. math::
        R_p^\pm = \frac{1}{|P|} \sum_{i \in P} s(\pm f_i), \qquad
        R_u^- = \frac{1}{|U|} \sum_{i \in U} s(-f_i)

    The risk of the negatives is that of the unlabelled less that of the positives among them. It
    is an estimate, which a flexible model drives below 0; the maximum keeps it from doing so. An
    example's loss is its terms in these means, times B:

    .. math::
        \ell_i = \frac{B}{|P|} \pi \left(s(f_i) - k s(-f_i)\right) \text{ for } i \in P, \qquad
        \ell_i = \frac{B}{|U|} k s(-f_i) \text{ for } i \in U

    with k = 1 where the bracket :math:`R_u^- - \pi R_p^-` of the batch is at least 0, else 0.
    Where it is negative, the gradient is that of this formula: the step descends the first term
    alone. Algorithm 1 of the paper leaves the first term out there and ascends the bracket.

    Args:
        logits: scores :math:`f` of being positive, shape ``[B]``.
        labels: integers of shape ``[B]``; 1 is positive, every other value unlabelled.
        prior: :math:`0 < \pi < 1`, a scalar: the share of positives among the unlabelled.
        surrogate: :math:`s`, the loss of a margin, elementwise.
        where: boolean, the examples to include, shape ``[B]``. What the others hold does not
            matter.

    Returns:
        One loss per example, ``[B]``, in the dtype of `logits`; 0 for excluded ones. Without
        positives (or unlabelled) among the included, their means are 0. A NaN score, or a
        traced prior out of range, makes every loss NaN. Gradients flow to `logits` and to `prior`,
        none through k, which is 1 where the bracket is exactly 0.

    Raises:
        ValueError: for an argument of another shape or dtype, or a prior out of range.

    Example:
        >>> logits = jnp.array([2.0, -1.0, 0.5, -3.0])
        >>> nn_pu(logits, jnp.array([1, 0, 0, 0]), prior=0.2).tolist()
        [-0.609, 0.359, 0.830, 0.063]

    References:
        Kiryo, Niu, du Plessis and Sugiyama, "Positive-Unlabeled Learning with Non-Negative Risk
        Estimator" (NeurIPS 2017), the non-negative risk estimator and Algorithm 1.
    """
    logits = _read_logits(logits, 1)
    positive = _read_positive("labels", labels, logits.shape)
    included = _read_included(where, logits)
    scores = jnp.where(included, logits.astype(computation_dtype(logits.dtype)), 0)
    prior = _read_number("prior", prior, scores, above=0, below=1)
    count = included.sum().astype(scores.dtype)

    share_p = _shares(positive & included, scores.dtype)
    share_u = _shares(~positive & included, scores.dtype)
    negatives = (share_u - prior * share_p) * surrogate(-scores)
    bracket = jax.lax.stop_gradient(negatives.sum())
    # A bracket of NaN stays one, which heaviside of older JAX makes a number.
    keep = jnp.where(jnp.isnan(bracket), bracket, (bracket >= 0).astype(bracket.dtype))
    losses = count * (prior * share_p * surrogate(scores) + keep * negatives)
    return jnp.where(included, losses, 0).astype(logits.dtype)


def pu_mlc(
    logits: Array,
    labels: Array,
    *,
    alpha: ArrayLike,
    gamma: ArrayLike,
    where: Array | None = None,
) -> Array:
    r"""Variational risk of many labels, some of the positives known (PU-MLC), split over examples.

    .. math::
        \frac{1}{B} \sum_i \ell_i = \sum_c \left( w_c \log \frac{1}{B} \sum_i \phi_{ic}
            - \frac{1}{|P_c|} \sum_{i \in P_c} \log \phi_{ic} \right)

    .. math::
        \phi_{ic} = \mathrm{sigmoid}(f_{ic} / \tau_c), \quad
        \tau_c = \max(10^{-6}, \min(1, \alpha\, \mathrm{std}_i f_{ic})), \quad
        w_c = \left( \frac{1}{B} \sum_i \phi_{ic} \right)^\gamma

    Every example is unlabelled, a known positive too. At w = 1 a class is at its minimum where
    :math:`\phi` is proportional to the probability that the class is there; the scale is free, and
    :func:`pu_mlc_consistency` settles it. The weight lowers the first term of rare classes.

    An example's loss is the first term whole and its own part of the second, times B:

    .. math::
        \ell_i = \sum_c w_c \log \frac{1}{B} \sum_j \phi_{jc}
            - \sum_{c:\, i \in P_c} \frac{B}{|P_c|} \log \phi_{ic}

    Args:
        logits: scores :math:`f`, shape ``[B, C]``.
        labels: integers of shape ``[B, C]``; 1 is positive, every other value (0 for unknown, -1
            for negative) unlabelled.
        alpha: :math:`\alpha > 0`, a scalar. Where it is large, :math:`\tau` is 1.
        gamma: :math:`\gamma \ge 0`, a scalar; 0 gives the variational risk of VPU.
        where: boolean, the examples to include, shape ``[B]``. What the others hold does not
            matter.

    Returns:
        One loss per example, ``[B]``, in the dtype of `logits`; 0 for excluded ones. Without
        positives the second term of a class is 0. NaN for infinite logits, which have no standard
        deviation. No gradient flows through :math:`\tau` and w, thus none to `alpha` and `gamma`.
        Where all scores of a class are equal, as those of a head that starts at zero,
        :math:`\tau` is :math:`10^{-6}` and the gradient a million times as large as at 1.

    Raises:
        ValueError: for an argument of another shape or dtype, or alpha or gamma out of range.

    Example:
        >>> logits = jnp.array([[2.0, -1.0], [0.0, 1.0], [-2.0, 0.5]])
        >>> labels = jnp.array([[1, 0], [0, 1], [-1, 0]])
        >>> pu_mlc(logits, labels, alpha=1.0, gamma=0.5).tolist()
        [-0.555, -0.130, -0.936]

    References:
        Yuan, Zhang and Huang, "Positive Label Is All You Need for Multi-Label Classification"
        (ICME 2024). The official code adds 1e-10 inside its logarithms; here they are computed
        from the logarithms of :math:`\phi`, without. It has no 1e-6 under :math:`\tau`: there a
        class with equal scores divides by 0.
        Chen, Liu, Wang, Zhao and Wu, "A Variational Approach for Learning from Positive and
        Unlabeled Data" (NeurIPS 2020), the variational risk.
    """
    logits = _read_logits(logits, 2)
    positive = _read_positive("labels", labels, logits.shape)
    included = _read_included(where, logits)
    scores = logits.astype(computation_dtype(logits.dtype))
    scores = jnp.where(included[:, None], scores, 0)
    # Where none is included they go on as if all were, so that nothing divides by zero.
    counted = included | ~included.any()
    present = counted[:, None]
    alpha = _read_number("alpha", alpha, scores, above=0)
    gamma = _read_number("gamma", gamma, scores, at_least=0)
    count = counted.sum().astype(scores.dtype)

    spread = jnp.std(jax.lax.stop_gradient(scores), axis=0, keepdims=True, where=present)
    temperature = jnp.maximum(jnp.minimum(alpha * spread, 1), MIN_TEMPERATURE)
    log_phi = jax.nn.log_sigmoid(scores / jax.lax.stop_gradient(temperature))
    log_sum = jax.nn.logsumexp(log_phi, axis=0, keepdims=True, where=present)
    log_mean = log_sum - jnp.log(count)
    weight = jax.lax.stop_gradient(jnp.exp(gamma * log_mean))
    shares = _shares(positive & present, scores.dtype)
    losses = (weight * log_mean - count * shares * log_phi).sum(-1)
    return jnp.where(included, losses, 0).astype(logits.dtype)


def pu_mlc_consistency(
    mixed_logits: Array,
    logits: Array,
    partner_logits: Array,
    labels: Array,
    partner_labels: Array,
    *,
    mix: ArrayLike,
) -> Array:
    r"""Squared log-distance of a mixed example's probabilities from the mixed targets (PU-MLC).

    .. math::
        \ell = \sum_c \left( \log(\lambda t_c + (1 - \lambda) t'_c)
            - \log \mathrm{sigmoid}(f^\mathrm{mix}_c) \right)^2

    with the targets t = 1 where the class is positive, else sigmoid(f), without a temperature.
    Added to :func:`pu_mlc` with weight 1, it regularises the model and fixes the scale of its
    probabilities.

    Args:
        mixed_logits: scores :math:`f^\mathrm{mix}` of the mixed inputs
            :math:`\lambda x + (1 - \lambda) x'`, shape ``[B, C]``.
        logits: scores :math:`f` of the inputs x, shape ``[B, C]``.
        partner_logits: scores :math:`f'` of their partners x', shape ``[B, C]``.
        labels: integers of shape ``[B, C]``; 1 is positive, every other value unlabelled.
        partner_labels: those of the partners, ``[B, C]``.
        mix: :math:`0 \le \lambda \le 1`, a scalar or one per example, ``[B]``.

    Returns:
        One loss per example, ``[B]``, in the dtype of `logits`. In float32 the square is infinite
        where the two logarithms are more than 1e19 apart. Gradients flow to all three scores, the
        targets' too; none to `mix`.

    Raises:
        ValueError: for an argument of another shape or dtype, or a mix out of range.

    Example:
        >>> logits = jnp.array([[2.0, -1.0], [0.0, 1.0]])
        >>> labels = jnp.array([[1, 0], [0, 0]])
        >>> mixed_logits = jnp.array([[1.0, 0.0], [0.0, 0.0]])
        >>> pu_mlc_consistency(
        ...     mixed_logits, logits, logits[::-1], labels, labels[::-1], mix=0.75
        ... ).tolist()
        [0.101, 0.093]

    References:
        Yuan, Zhang and Huang, "Positive Label Is All You Need for Multi-Label Classification"
        (ICME 2024), whose official code draws the mix from Beta(0.3, 0.3), takes the first half of
        the batch as x and the second as x', and adds 1e-10 inside the logarithms.
    """
    logits = _read_logits(logits, 2)
    mixed_logits = _read_like("mixed_logits", mixed_logits, logits)
    partner_logits = _read_like("partner_logits", partner_logits, logits)
    positive = _read_positive("labels", labels, logits.shape)
    partner_positive = _read_positive("partner_labels", partner_labels, logits.shape)
    dtype = computation_dtype(logits.dtype)
    mixed, own, partner = (x.astype(dtype) for x in (mixed_logits, logits, partner_logits))
    mix = jax.lax.stop_gradient(
        _read_number("mix", mix, own, per_example=True, at_least=0, at_most=1)
    )

    targets = jnp.stack(
        [
            jnp.where(positive, 0, jax.nn.log_sigmoid(own)),
            jnp.where(partner_positive, 0, jax.nn.log_sigmoid(partner)),
        ]
    )
    mix = jnp.broadcast_to(mix, own.shape[:1])[:, None]
    target = jax.nn.logsumexp(targets, axis=0, b=jnp.stack([mix, 1 - mix]))
    losses = jnp.square(target - jax.nn.log_sigmoid(mixed)).sum(-1)
    return losses.astype(logits.dtype)


def _shares(members: Array, dtype: np.dtype) -> Array:
    """1 over the number of members along the batch for each of them, else 0."""
    count = members.sum(0, keepdims=True).astype(dtype)
    return members.astype(dtype) / jnp.maximum(count, 1)


def _read_logits(logits: Array, ndim: int) -> Array:
    logits = read_logits(logits, -1)
    if logits.ndim == ndim:
        return logits
    form, repair = "[B]" if ndim == 1 else "[B, C]", ""
    if ndim == 1 and logits.shape[1:] == (1,):
        repair = " Drop the last axis: logits[:, 0]."
    elif ndim == 2 and logits.ndim == 1:
        repair = " For one class, add its axis: logits[:, None]."
    raise ValueError(f"logits must have shape {form}, got shape {logits.shape}.{repair}")


def _read_like(name: str, array: Array, logits: Array) -> Array:
    array = as_array(name, array)
    if jnp.issubdtype(array.dtype, jnp.floating) and array.shape == logits.shape:
        return array
    repair = "" if array.shape != logits.shape else " Cast them to float32."
    raise ValueError(
        f"{name} must be floating of the shape of logits, {logits.shape}; got {array.dtype} of "
        f"shape {array.shape}.{repair}"
    )


def _read_positive(name: str, labels: Array, shape: tuple[int, ...]) -> Array:
    """Which labels are 1, boolean, in the shape of the logits."""
    return read_classes(name, labels, shape) == 1


def _read_included(where: Array | None, logits: Array) -> Array:
    """The examples to include, boolean, ``[B]``."""
    shape = logits.shape[:1]
    return jnp.ones(shape, bool) if where is None else read_example_mask("where", where, shape)


def _read_number(
    name: str, value: ArrayLike, scores: Array, *, per_example: bool = False, **bounds: float
) -> Array:
    """A scalar, or if allowed one value per example, ``[B]``, in the dtype of the computation."""
    batch_shape = scores.shape[:1]
    if np.shape(value) != () and not (per_example and np.shape(value) == batch_shape):
        form = f" or have one value per example, shape {batch_shape}" if per_example else ""
        raise ValueError(f"{name} must be a scalar{form}; got shape {np.shape(value)}.")
    return in_range(name, value, scores.dtype, **finite(bounds))
