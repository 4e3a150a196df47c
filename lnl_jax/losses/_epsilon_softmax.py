"""Cross-entropy of predictions that are made almost one-hot first."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lnl_jax.losses._checks import along_classes, finish, read_hyperparameter, read_scores
from lnl_jax.losses._probabilities import label_surprise, relative_scores


def epsilon_softmax_cross_entropy(
    logits: Array,
    labels: Array,
    *,
    mass: ArrayLike,
    floor: ArrayLike = 1e-8,
    axis: int = -1,
    where: Array | None = None,
) -> Array:
    r"""Cross-entropy of the epsilon-softmax: a mass is added to the largest probability.

    .. math::
        \ell = -\sum_k y_k \log \max(q_k, c), \qquad
        q = \frac{\mathrm{softmax}(f) + m\, e_{\hat{k}}}{m + 1}, \qquad \hat{k} = \arg\max_k f_k

    An example whose label is the predicted class has almost no loss and no gradient; one that
    contradicts the prediction has the gradient of cross-entropy, until its label's probability
    falls below :math:`c (m + 1)`, where it has none. The larger the mass m, the fewer examples
    count: at 1e5 those with a probability below 0.001 are left out. The paper adds
    :func:`mean_absolute_error`, with weights of 0.01 to 0.05 for this loss and 5 to 10 for that.
    Plain cross-entropy for a mass of 0, but for c.

    Args:
        logits: scores :math:`f`, shape ``[..., K]``, with the classes along `axis`.
        labels: classes, integers of shape ``[...]``, or distributions :math:`y` of shape
            ``[..., K]``.
        mass: :math:`m`, at least 0, a scalar or one per example, ``[...]``. The paper takes 100 to
            1e5.
        floor: :math:`0 < c < 1`, a scalar or one per example, ``[...]``; the official code's.
        axis: the axis of the classes.
        where: boolean, the classes to include; broadcasts to `logits`.

    Returns:
        One loss per example, ``[...]``, from 0 to :math:`-\log c`, in the dtype of `logits`. NaN
        where an integer label is outside ``[0, K)`` or masked; 0 where all classes are masked. The
        predicted class, the first of equals, is held in all derivatives; at equals the loss jumps.

    Raises:
        ValueError: for labels that fit neither form, or a hyperparameter out of range or of another
            shape.

    Example:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
        >>> epsilon_softmax_cross_entropy(logits, jnp.array([0, 1]), mass=100.0).tolist()
        [0.003, 7.710]

    References:
        Wang et al., "epsilon-Softmax: Approximating One-Hot Vectors for Mitigating Label Noise"
        (NeurIPS 2024), CE with epsilon-softmax; the floor is that of the official code.
    """
    scores = read_scores(logits, labels, axis, where)
    mass = read_hyperparameter("mass", mass, scores, at_least=0)
    largest = -jnp.log(read_hyperparameter("floor", floor, scores, above=0, below=1))
    _, gaps, log_normaliser = relative = relative_scores(scores)
    predicted = scores.logits.argmax(scores.axis).astype(jnp.int32)
    if not scores.soft:
        surprise = label_surprise(scores, relative)
        values = _surprise(surprise, scores.labels == predicted, mass, largest)
        return finish(jnp.where(scores.impossible, largest, values), scores)
    mass, largest = along_classes(mass, scores.axis), along_classes(largest, scores.axis)
    classes = jax.lax.broadcasted_iota(jnp.int32, gaps.shape, scores.axis % gaps.ndim)
    absent = gaps == -jnp.inf
    surprise = jnp.expand_dims(log_normaliser, scores.axis) - jnp.where(absent, 0, gaps)
    is_predicted = classes == jnp.expand_dims(predicted, scores.axis)
    by_class = jnp.where(absent, largest, _surprise(surprise, is_predicted, mass, largest))
    return finish((scores.labels * by_class).sum(scores.axis), scores)


def _surprise(surprise: Array, is_predicted: Array, mass: Array, largest: Array) -> Array:
    """That of a class after the mass was added to the predicted one."""
    others = -jnp.expm1(-surprise)
    near = -jnp.log1p(-others / (1 + mass))
    return jnp.minimum(jnp.where(is_predicted, near, surprise + jnp.log1p(mass)), largest)
