"""The linear probe: multinomial logistic regression on frozen features."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from lnl_jax._arguments import as_array, in_range, read_classes, refuse_explicit_mesh
from lnl_jax._host_arguments import check_integer


class LinearProbe(NamedTuple):
    """A linear classifier, and how it was found.

    Attributes:
        kernel: ``[D, K]``.
        bias: ``[K]``.
        objective: what was minimised, at the end.
        gradient: the largest absolute entry of its gradient there; above the tolerance, the search
            has stopped at the limit of its iterations.
    """

    kernel: Array
    bias: Array
    objective: Array
    gradient: Array


def fit_linear_probe(
    features: Array,
    labels: Array,
    *,
    num_classes: int,
    l2: float | Array,
    weights: Array | None = None,
    max_iterations: int = 500,
    tolerance: float = 1e-5,
) -> LinearProbe:
    r"""Fits multinomial logistic regression by L-BFGS, as one compiled loop; pure, may be vmapped.

    .. math::
        \min_{W, b} \frac{\sum_i w_i \operatorname{CE}(x_i W + b, y_i)}{\sum_i w_i}
        + \frac{\lambda}{2} \|W\|^2

    which is scikit-learn's `LogisticRegression` with ``C = 1 / (l2 * weights.sum())``. Features of
    very different scales make the search slow: standardise them.

    Args:
        features: ``[N, D]``.
        labels: integers from 0 to K - 1, ``[N]``; another one is allowed where the weight is 0.
        num_classes: K.
        l2: :math:`\lambda`, above 0; the bias is free.
        weights: of the examples, at least 0, not all 0, ``[N]``, such as 0 for padding or the
            inverse size of the class; all 1 by default.
        max_iterations: of L-BFGS, at least 1.
        tolerance: the search stops where no entry of the gradient is larger; at least 0.

    Returns:
        The `LinearProbe`, in float32; NaN where a label that counts is outside ``[0, K)``.

    Raises:
        ValueError: if the shapes or types do not fit, a number is out of range, or the arrays are
            split over an Explicit axis of a mesh.

    Example:
        >>> features, labels = jnp.array([[-2.0], [-1.0], [1.0], [2.0]]), jnp.array([0, 0, 1, 1])
        >>> probe = fit_linear_probe(features, labels, num_classes=2, l2=0.1)
        >>> probe_scores(probe, features).argmax(-1).tolist()
        [0, 0, 1, 1]
    """
    features = as_array("features", features)
    if features.ndim != 2 or not len(features) or not jnp.issubdtype(features.dtype, jnp.floating):
        raise ValueError(
            f"features must be floating of shape [N, D], got {features.dtype} of shape "
            f"{features.shape}."
        )
    labels = read_classes("labels", labels, features.shape[:1])
    check_integer("num_classes", num_classes)
    if not isinstance(max_iterations, jax.Array):
        check_integer("max_iterations", max_iterations)
    tolerance = in_range("tolerance", tolerance, jnp.dtype(jnp.float32), at_least=0)
    l2 = in_range("l2", l2, jnp.dtype(jnp.float32), above=0, below=jnp.inf)
    weights = _read_weights(weights, labels.shape)
    refuse_explicit_mesh(features=features, labels=labels, weights=weights)
    outside = (labels < 0) | (labels >= num_classes)
    counts = weights != 0
    # A negative label would be taken for one that counts from the last class.
    labels = jnp.where(outside, 0, labels).astype(jnp.int32)
    weights = jnp.where(outside & counts, jnp.nan, weights / weights.sum())
    features = features.astype(jnp.float32)

    def objective(params: tuple[Array, Array]) -> Array:
        kernel, bias = params
        scores = features @ kernel + bias[None]
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, labels)
        return weights @ losses + l2 / 2 * jnp.square(kernel).sum()

    optimizer = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(objective)

    def advance(carry):
        params, state = carry
        value, grad = value_and_grad(params, state=state)
        updates, state = optimizer.update(
            grad, state, params, value=value, grad=grad, value_fn=objective
        )
        return optax.apply_updates(params, updates), state

    def unfinished(carry):
        _, state = carry
        count = optax.tree.get(state, "count")
        largest = optax.tree.norm(optax.tree.get(state, "grad"), ord="inf")
        return (count == 0) | ((count < max_iterations) & (largest > tolerance))

    start = (jnp.zeros((features.shape[1], num_classes)), jnp.zeros(num_classes))
    params, _ = jax.lax.while_loop(unfinished, advance, (start, optimizer.init(start)))
    value, grad = jax.value_and_grad(objective)(params)
    return LinearProbe(*params, value, optax.tree.norm(grad, ord="inf"))


def _read_weights(weights: Array | None, shape: tuple[int, ...]) -> Array:
    if weights is None:
        return jnp.ones(shape, jnp.float32)
    if np.shape(weights) != shape:
        raise ValueError(f"weights must have the shape {shape}, got {np.shape(weights)}.")
    if isinstance(weights, np.ndarray) and not weights.any():
        raise ValueError("weights must not all be 0: no example would count.")
    return in_range("weights", weights, jnp.dtype(jnp.float32), at_least=0, below=jnp.inf)


def probe_scores(probe: LinearProbe, features: Array) -> Array:
    """The scores of a linear probe.

    Args:
        probe: from `fit_linear_probe`.
        features: ``[N, D]``.

    Returns:
        ``[N, K]``, float32.

    Raises:
        ValueError: if the features have another width than those of the probe.
    """
    features = as_array("features", features)
    if features.ndim != 2 or features.shape[1] != len(probe.kernel):
        raise ValueError(
            f"features must have the shape [N, {len(probe.kernel)}], as those of the probe; got "
            f"{features.shape}."
        )
    return features.astype(jnp.float32) @ probe.kernel + probe.bias[None]
