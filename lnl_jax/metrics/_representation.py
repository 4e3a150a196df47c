"""What a set of embeddings looks like, without labels."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import as_array, in_range, refuse_explicit_mesh
from lnl_jax._host_arguments import check_integer
from lnl_jax.metrics._average import Average, average, group_sums
from lnl_jax.metrics._checks import read_classes_below, read_matrix, read_where


def effective_rank(features: Array) -> Array:
    r"""RankMe: how many directions the features fill, from 1 to their dimension.

    .. math::
        \exp\Big(-\sum_k p_k \log p_k\Big), \quad p_k = \frac{\sigma_k}{\sum_j \sigma_j}

    with the singular values :math:`\sigma` of the matrix as it is; the centre is not subtracted.
    Where a singular value is 0 the slope is infinite; the gradient leaves it out.

    Args:
        features: floating point, ``[N, D]``.

    Returns:
        A scalar, float32; NaN where all features are 0.

    Raises:
        ValueError: if `features` is not a matrix of at least one row and one column.

    Example:
        >>> float(effective_rank(jnp.eye(4)))
        4.0

    References:
        Garrido et al., "RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised
        Representations by Their Rank" (ICML 2023), equation 1, without its small constant.
    """
    features = read_matrix("features", features)
    if not features.size:
        raise ValueError(
            f"features must have at least one row and one column, got shape {features.shape}."
        )
    refuse_explicit_mesh(features=features)
    values = jnp.linalg.svd(features.astype(jnp.float32), compute_uv=False)
    share = values / values.sum()
    # The entropy rises infinitely steeply from a direction that is empty.
    empty = share == 0
    safe = jnp.where(empty, 1, share)
    return jnp.exp(-jnp.where(empty, 0, safe * jnp.log(safe)).sum())


def alignment(first: Array, second: Array, *, where: Array | None = None) -> Average:
    r"""The squared distance of two views of an example, :math:`\|x_i - y_i\|^2`.

    Args:
        first: embeddings of unit norm, ``[N, D]``.
        second: those of the other views, ``[N, D]``.
        where: boolean, ``[N]``; examples to count.

    Returns:
        The `Average`.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> float(alignment(jnp.eye(2), -jnp.eye(2)).value)
        4.0

    References:
        Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and
        Uniformity on the Hypersphere" (ICML 2020), section 4.1, with their alpha of 2.
    """
    first = read_matrix("first", first)
    if first.shape != second.shape:
        raise ValueError(
            f"first and second must have one shape, got {first.shape} and {second.shape}."
        )
    difference = first.astype(jnp.float32) - second.astype(jnp.float32)
    return average(jnp.square(difference).sum(-1), where)


def uniformity(features: Array, *, scale: float = 2.0) -> Array:
    r"""How evenly embeddings lie on the sphere; lower is more even.

    .. math::
        \log \frac{2}{N (N - 1)} \sum_{i < j} e^{-t \|x_i - x_j\|^2}

    Every pair is compared, in memory that grows with N squared: a few thousand examples are enough.

    Args:
        features: embeddings of unit norm, ``[N, D]``, N at least 2.
        scale: t, above 0.

    Returns:
        A scalar, float32, from ``-4 t`` to 0.

    Raises:
        ValueError: if `features` is not a matrix of at least two rows, or `scale` is out of range.

    Example:
        >>> float(uniformity(jnp.array([[1.0, 0.0], [-1.0, 0.0]])))
        -8.0

    References:
        Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and
        Uniformity on the Hypersphere" (ICML 2020), section 4.1.
    """
    features = read_matrix("features", features)
    size = len(features)
    if size < 2:
        raise ValueError(f"features must have at least two rows, got {size}.")
    refuse_explicit_mesh(features=features)
    scale = in_range("scale", scale, jnp.dtype(jnp.float32), above=0, below=jnp.inf)
    features = features.astype(jnp.float32)
    squares = jnp.square(features).sum(-1)
    products = jnp.matmul(features, features.T, precision=jax.lax.Precision.HIGHEST)
    distances = squares[:, None] + squares[None] - 2 * products
    # Rounding makes some of them negative; a maximum would halve the slope of equal embeddings.
    distances = distances - jax.lax.stop_gradient(jnp.minimum(distances, 0))
    exponents = jnp.where(jnp.eye(size, dtype=bool), -jnp.inf, -scale * distances)
    return jax.nn.logsumexp(exponents) - jnp.log(float(size * (size - 1)))


def class_average(
    values: ArrayLike, labels: ArrayLike, *, num_classes: int, where: Array | None = None
) -> Average:
    """The average of a value per example within each class, such as its temperature.

    Args:
        values: ``[N]``, an array or a list.
        labels: integers, ``[N]``, likewise; one outside of the classes is in none.
        num_classes: K.
        where: boolean, ``[N]``; examples to count.

    Returns:
        The `Average` with arrays ``[K]``; its `count` is the size of each class.

    Raises:
        ValueError: if the shapes or types do not fit, or `num_classes` is below 1.

    Example:
        >>> found = class_average(jnp.array([1.0, 3.0, 5.0]), jnp.array([0, 0, 1]), num_classes=3)
        >>> found.value.tolist(), found.count.tolist()
        ([2.0, 5.0, nan], [2.0, 1.0, 0.0])
    """
    values = as_array("values", values)
    if values.ndim != 1 or values.shape != np.shape(labels):
        raise ValueError(
            f"values and labels must both have the shape [N], got {values.shape} and "
            f"{np.shape(labels)}."
        )
    check_integer("num_classes", num_classes)
    labels = read_classes_below("labels", labels, values.shape, num_classes)
    where = read_where(where, values.shape)
    return Average(
        group_sums(values, labels, num_classes, where),
        group_sums(jnp.ones(values.shape, jnp.float32), labels, num_classes, where),
    )
