"""Heads for classes that a classifier was not trained on, from the embeddings of names."""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._host_arguments import check_number


def prototype_words(
    classifier: ArrayLike, known: ArrayLike, wanted: ArrayLike, *, ridge: float = 1.0
) -> Array:
    r"""Regresses what a classifier has learned for its classes on their names; then predicts.

    .. math:: w_k = \frac{M e_k}{\lVert M e_k \rVert}, \qquad
        M = C E^\top (E E^\top + \lambda I)^{-1}

    with the embeddings :math:`E` of the names of the classifier's classes as columns, and
    :math:`e_k` of a new one. No image is needed: it is how a tower without a text tower of its own
    classifies zero-shot. Computed in float64 on the host.

    Args:
        classifier: C, a column of the last layer for each of its M classes, ``[D, M]``.
        known: embeddings of their names, ``[M, E]``.
        wanted: embeddings of the new classes' names, ``[K, E]``.
        ridge: :math:`\lambda`, above 0.

    Returns:
        ``[D, K]``, float32, columns of length 1: `Foundation.words`.

    Raises:
        ValueError: if the shapes do not belong together, a number is not finite, `ridge` is out of
            range, or a prediction is zero.

    Example:
        >>> names = np.eye(2)
        >>> prototype_words([[2.0, 0.0], [0.0, 4.0]], names, names).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    check_number("ridge", ridge, above=0, below=math.inf)
    columns, names, new = (np.asarray(values, np.float64) for values in (classifier, known, wanted))
    shapes = columns.shape, names.shape, new.shape
    fitting = all(len(shape) == 2 and min(shape) for shape in shapes)
    if not fitting or columns.shape[1] != len(names) or names.shape[1] != new.shape[1]:
        raise ValueError(
            "classifier, known and wanted must have the shapes [D, M], [M, E] and [K, E], got "
            f"{shapes[0]}, {shapes[1]} and {shapes[2]}."
        )
    for name, values in (("classifier", columns), ("known", names), ("wanted", new)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must hold finite numbers.")
    gram = names.T @ names + ridge * np.eye(names.shape[1])
    found = new @ np.linalg.solve(gram, names.T @ columns.T)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError("wanted: nothing is predicted for a name whose embedding is zero.")
    return jnp.asarray((found / lengths).T, jnp.float32)
