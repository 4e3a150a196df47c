"""Corrections of cross-entropy: labels mixed with predictions, and known noise undone."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import refuse_explicit_mesh
from lnl_jax.losses._checks import (
    Scores,
    classes_last,
    finish,
    label_distribution,
    read_array,
    read_hyperparameter,
    read_scores,
    score_of,
)
from lnl_jax.losses._probabilities import (
    cross_entropy_and_entropy,
    label_cross_entropy,
    log_mixture,
    relative_scores,
    scaled,
)


def soft_bootstrap(
    logits: Array,
    labels: Array,
    *,
    weight: ArrayLike,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Soft bootstrapping: cross-entropy with the label mixed with the prediction.

    .. math::
        \ell = -\sum_k \big(b y_k + (1 - b) p_k\big) \log p_k, \qquad p = \mathrm{softmax}(f)

    The second part is the entropy of the prediction; the gradient flows through both factors.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        weight: :math:`0 \le b \le 1`, of the label, a scalar or one per example, ``[...]``. The
            paper takes 0.95.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked; 0 where all classes are masked; ``inf`` where the label's own
        logit is ``-inf``, unless b is 0. Gradients flow to all three arguments.

    Raises:
        ValueError: for labels that fit neither form, a weight out of range, or one that is neither
            a scalar nor one per example.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> soft_bootstrap(logits, jnp.array([0, 1]), weight=0.95).tolist()
        [0.429, 2.958]

    References:
        Reed et al., "Training Deep Neural Networks on Noisy Labels with Bootstrapping"
        (ICLR workshop 2015), the soft variant.
    """
    scores = read_scores(logits, labels, axis, where)
    weight = read_hyperparameter("weight", weight, scores, at_least=0, at_most=1)
    cross, entropy = cross_entropy_and_entropy(scores)
    return finish(scaled(weight, cross) + (1 - weight) * entropy, scores)


def hard_bootstrap(
    logits: Array,
    labels: Array,
    *,
    weight: ArrayLike,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Hard bootstrapping: cross-entropy with the label mixed with the predicted class.

    .. math::
        \ell = -b \sum_k y_k \log p_k - (1 - b) \log \max_k p_k, \qquad p = \mathrm{softmax}(f)

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        weight: :math:`0 \le b \le 1`, of the label, a scalar or one per example, ``[...]``. The
            paper takes 0.8.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked; 0 where all classes are masked; ``inf`` where the label's own
        logit is ``-inf``, unless b is 0. Gradients flow to all three arguments; of equal maxima
        the first is meant.

    Raises:
        ValueError: for labels that fit neither form, a weight out of range, or one that is neither
            a scalar nor one per example.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> hard_bootstrap(logits, jnp.array([0, 1]), weight=0.8).tolist()
        [0.408, 2.495]

    References:
        Reed et al., "Training Deep Neural Networks on Noisy Labels with Bootstrapping"
        (ICLR workshop 2015), the hard variant.
    """
    scores = read_scores(logits, labels, axis, where)
    weight = read_hyperparameter("weight", weight, scores, at_least=0, at_most=1)
    # By index: the gradient of a maximum is two more passes.
    held = jax.lax.stop_gradient(scores.logits)
    largest = score_of(jax.lax.argmax(held, scores.axis % held.ndim, jnp.int32), scores)
    top, _, log_normaliser = relative_scores(scores)
    predicted = log_normaliser - (largest - top)
    cross = scaled(weight, label_cross_entropy(scores))
    return finish(cross + (1 - weight) * predicted, scores)


def forward_correction(
    logits: Array,
    labels: Array,
    *,
    matrix: ArrayLike,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Forward correction: cross-entropy with the prediction sent through the noise.

    .. math::
        \ell = -\sum_j y_j \log (T^\top p)_j, \qquad p = \mathrm{softmax}(f), \quad
        T_{ij} = P(\text{observed } j \mid \text{true } i)

    Its minimiser on noisy labels is that of cross-entropy on clean ones. For a class it takes one
    row of K numbers per example, for a distribution :math:`K^2`.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: observed classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        matrix: T, shape ``[K, K]``, rows of sum 1 (checked unless it is a JAX array), the same for
            all examples.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`. Rows and columns of the
            others are left out, and nothing is normalised again.

    Returns:
        One loss per example, ``[...]``, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked; 0 where all classes are masked; ``inf`` where no class with a
        finite logit is ever observed as the label. Gradients flow to all three arguments.

    Raises:
        ValueError: for labels that fit neither form, a matrix that is not ``[K, K]`` with
            probabilities in its rows, or classes that are split over an Explicit axis of a mesh.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> matrix = 0.4 * jnp.eye(3) + 0.2
        >>> forward_correction(logits, jnp.array([0, 1]), matrix=matrix).tolist()
        [0.763, 1.523]

    References:
        Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction
        Approach" (CVPR 2017), the forward procedure.
    """
    scores = classes_last(read_scores(logits, labels, axis, where))
    observed = _read_matrix(matrix, scores).T
    if not scores.soft:
        return finish(-log_mixture(scores.logits, _rows(observed, scores)), scores)
    labels = scores.labels
    log_observed = log_mixture(scores.logits[..., None, :], _in_front(observed, labels.ndim - 1))
    terms = jnp.where(labels > 0, labels * jnp.where(labels > 0, log_observed, 0), 0)
    return finish(-terms.sum(-1), scores)


def backward_correction(
    logits: Array,
    labels: Array,
    *,
    matrix: ArrayLike,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Backward correction: the combination of cross-entropies that is unbiased under the noise.

    .. math::
        \ell = -\sum_{ij} y_i (T^{-1})_{ij} \log p_j, \qquad p = \mathrm{softmax}(f), \quad
        T_{ij} = P(\text{observed } j \mid \text{true } i)

    Its mean over the observed labels of an example is the cross-entropy with the true one. It can
    be negative, without bound from below.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: observed classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        matrix: T, shape ``[K, K]``, rows of sum 1 (checked unless it is a JAX array), the same for
            all examples. A NumPy matrix is inverted once, on the host; a traced one in every call.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`. Rows and columns of the
            others are left out before the inversion, which then is one for each example.

    Returns:
        One loss per example, ``[...]``, in the dtype of `logits`. NaN where an integer label is
        outside ``[0, K)`` or masked; 0 where all classes are masked; not finite where a class
        with a coefficient scores ``-inf``, or for a singular JAX matrix. Gradients flow to all
        three arguments.

    Raises:
        ValueError: for labels that fit neither form, a matrix that is singular or not ``[K, K]``
            with probabilities in its rows, or classes that are split over an Explicit axis of a
            mesh.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> matrix = 0.4 * jnp.eye(3) + 0.2
        >>> backward_correction(logits, jnp.array([0, 1]), matrix=matrix).tolist()
        [-1.092, 4.595]

    References:
        Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction
        Approach" (CVPR 2017), the backward procedure.
    """
    scores = classes_last(read_scores(logits, labels, axis, where))
    coefficients = _unbiased_labels(matrix, scores)
    # A masked class has no coefficient, and 0 * -inf is NaN.
    _, gaps, log_normaliser = relative_scores(scores)
    used = jnp.where(coefficients == 0, 0, gaps)
    losses = log_normaliser * coefficients.sum(-1) - (coefficients * used).sum(-1)
    return finish(losses, scores)


def _read_matrix(matrix: ArrayLike, scores: Scores) -> Array:
    shape = 2 * scores.logits.shape[-1:]
    transition = read_array("matrix", matrix, shape, scores, at_least=0, at_most=1)
    if not isinstance(matrix, jax.Array):
        sums = np.sum(matrix, axis=-1)
        if (np.abs(sums - 1) > 1e-3).any():
            raise ValueError(
                f"matrix must have rows of sum 1, matrix[true, observed]; got the sums {sums}."
            )
    return transition


def _unbiased_labels(matrix: ArrayLike, scores: Scores) -> Array:
    r""":math:`y^\top T^{-1}` per example, ``[..., K]``; 0 for masked classes."""
    transition = _read_matrix(matrix, scores)
    if scores.included is not None:
        return _solved(transition, scores)
    if isinstance(matrix, jax.Array):
        inverse = jnp.linalg.inv(transition)
    else:
        inverse = jnp.asarray(_host_inverse(matrix), transition.dtype)
    return scores.labels @ inverse if scores.soft else _rows(inverse, scores)


def _rows(matrix: Array, scores: Scores) -> Array:
    """A row of a matrix for each label, ``[..., K]``."""
    refuse_explicit_mesh(labels=scores.labels)
    return matrix[scores.labels]


def _host_inverse(matrix: ArrayLike) -> np.ndarray:
    matrix = np.asarray(matrix, np.float64)
    # One that is singular but for rounding has an inverse too, of rounding errors.
    if np.linalg.matrix_rank(matrix) < len(matrix):
        raise ValueError("matrix must be invertible, got a singular one.")
    return np.linalg.inv(matrix)


def _solved(transition: Array, scores: Scores) -> Array:
    """With the rows and columns of the identity for masked classes, the rest is solved alone."""
    kept = scores.included[..., None, :] & scores.included[..., None]
    front = scores.logits.ndim - 1
    identity = _in_front(jnp.eye(len(transition), dtype=transition.dtype), front)
    systems = jnp.where(kept, _in_front(transition, front), identity)
    labels = label_distribution(scores)[..., None]
    return jnp.linalg.solve(jnp.swapaxes(systems, -1, -2), labels)[..., 0]


def _in_front(matrix: Array, axes: int) -> Array:
    """A matrix with so many axes of length 1 before its own."""
    return matrix.reshape(*(1,) * axes, *matrix.shape)
