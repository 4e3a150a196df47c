"""What an accuracy on test labels says where some of these are wrong."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import as_array, in_range
from lnl_jax.metrics._average import Average


class AccuracyBounds(NamedTuple):
    """Between what the accuracy on the true labels lies.

    Attributes:
        lower: at least 0.
        upper: at most 1.

    Example:
        >>> AccuracyBounds._fields
        ('lower', 'upper')
    """

    lower: Array
    upper: Array


def accuracy_bounds(
    agreement: Average, error_rate: ArrayLike, *, deviations: ArrayLike = 1.96
) -> AccuracyBounds:
    r"""Bounds the accuracy on true labels, of which a share differs from those that were given.

    .. math::
        \max(0, m^- - \epsilon) \le a \le \min(1, m^+ + \epsilon), \qquad
        m^\pm = \frac{m + z^2 / 2n \pm z \sqrt{m (1 - m) / n + z^2 / 4n^2}}{1 + z^2 / n}

    Each wrong label turns at most one right prediction into a wrong one, or the other way round.
    Nothing is asked of where the errors are: a model may have learnt them. Two models whose bounds
    overlap may change places where the labels are corrected.

    Args:
        agreement: how often predictions are the given labels, :func:`accuracy`, of any shape.
        error_rate: :math:`\epsilon`, the share of wrong labels, or the most that it may be, from 0
            to 1; broadcasts to `agreement`.
        deviations: z of the interval of Wilson for n examples; 0 takes the examples for all there
            are.

    Returns:
        `AccuracyBounds`, float32, NaN where nothing was counted.

    Raises:
        ValueError: if the error rate or the deviations are out of range.

    Example:
        >>> agreement = Average(jnp.float32(90), jnp.float32(100))
        >>> lower, upper = accuracy_bounds(agreement, 0.05)
        >>> float(lower), float(upper)
        (0.776, 0.995)

    References:
        Wilson, "Probable Inference, the Law of Succession, and Statistical Inference" (JASA 1927),
        the interval m; the bounds by the share of errors are ours.
    """
    epsilon = in_range("error_rate", error_rate, jnp.float32, at_least=0, at_most=1)
    z = in_range("deviations", deviations, jnp.float32, at_least=0)
    share, count = agreement.value, agreement.count
    n = jnp.where(count > 0, count, 1)
    centre = share + z**2 / (2 * n)
    width = z * jnp.sqrt(jnp.maximum(share * (1 - share) / n + (z / (2 * n)) ** 2, 0))
    scale = 1 + z**2 / n
    lower = jnp.maximum((centre - width) / scale - epsilon, 0)
    return AccuracyBounds(lower, jnp.minimum((centre + width) / scale + epsilon, 1))


def noise_corrected_accuracy(counts: ArrayLike, matrix: ArrayLike) -> Array:
    r"""The accuracy on true labels, from given ones and the noise that is known of them.

    .. math::
        a = \frac{1}{n} \mathrm{tr}\big(T^{-\top} C\big)

    Where a prediction depends on the given label only through the true one, the counts of given
    labels and predictions are :math:`T^\top` times those of true ones, in expectation. A model that
    was trained on labels with the same noise breaks this: :func:`accuracy_bounds` does not need it.

    Args:
        counts: how often label k was given where j was predicted, ``[..., K, K]``, or their shares.
        matrix: :math:`T_{jk}`, the probability of the given label k where j is true, ``[K, K]``.

    Returns:
        float32, ``[...]``; unbiased, so that it may be below 0 or above 1, and NaN of no counts.
        Not finite where the matrix has no inverse.

    Raises:
        ValueError: if the counts or the matrix are of other shapes.

    Example:
        >>> matrix = jnp.array([[0.9, 0.1], [0.2, 0.8]])
        >>> float(noise_corrected_accuracy(jnp.array([[54.0, 8.0], [6.0, 32.0]]), matrix))
        1.0

    References:
        Lam & Stork, "Evaluating Classifiers by Means of Test Data with Noisy Labels" (IJCAI 2003),
        of two classes.
    """
    counts, matrix = (
        jnp.asarray(as_array(name, values), jnp.float32)
        for name, values in (("counts", counts), ("matrix", matrix))
    )
    size = matrix.shape[-1] if matrix.ndim else 0
    if matrix.shape != (size, size) or counts.shape[-2:] != (size, size) or not size:
        raise ValueError(
            "counts must have the shape [..., K, K] and matrix [K, K], given labels along the last "
            f"axis but one of counts and the last of matrix; got {counts.shape} and {matrix.shape}."
        )
    # The trace of a product is the sum of elementwise products with the transposed factor.
    inverse = jnp.broadcast_to(jnp.linalg.inv(matrix), counts.shape)
    right = (inverse * counts).sum((-2, -1))
    total = counts.sum((-2, -1))
    return jnp.where(total > 0, right / jnp.where(total > 0, total, 1), jnp.nan)


def crossing_prevalence(on_right: ArrayLike, on_wrong: ArrayLike) -> Array:
    r"""The share of wrong test labels at which two models change places.

    .. math::
        a_i(\rho) = (1 - \rho) a_i + \rho b_i, \qquad
        \rho_{ij} = \frac{a_i - a_j}{(a_i - a_j) - (b_i - b_j)}

    :math:`a` is the accuracy where the given label is right, :math:`b` where it is wrong, on the
    corrected labels; :math:`\rho` is the share of the latter among the test examples.

    Args:
        on_right: :math:`a` of M models, ``[M]``.
        on_wrong: :math:`b`, ``[M]``.

    Returns:
        float32, ``[M, M]``; NaN where neither is ahead on one part and behind on the other.

    Raises:
        ValueError: if the two are not one number for each model.

    Example:
        >>> crossing_prevalence(jnp.array([0.9, 0.8]), jnp.array([0.2, 0.6]))[0].tolist()
        [nan, 0.200]

    References:
        Northcutt, Athalye and Mueller, "Pervasive Label Errors in Test Sets Destabilize Machine
        Learning Benchmarks" (NeurIPS 2021, Datasets and Benchmarks), section 5.
    """
    right, wrong = jnp.asarray(on_right, jnp.float32), jnp.asarray(on_wrong, jnp.float32)
    if right.ndim != 1 or right.shape != wrong.shape:
        raise ValueError(
            "on_right and on_wrong must each have one number for each model, [M]; got "
            f"{right.shape} and {wrong.shape}."
        )
    ahead, behind = right[:, None] - right[None], wrong[None] - wrong[:, None]
    # Places change where the lead on one part is a lag on the other.
    changes = ahead * behind > 0
    return jnp.where(changes, ahead / jnp.where(changes, ahead + behind, 1), jnp.nan)
