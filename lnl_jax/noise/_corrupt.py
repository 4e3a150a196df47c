"""Labels drawn from a transition matrix."""

from typing import NamedTuple

import numpy as np

from lnl_jax._host_arguments import check_generator, host_array, read_class_numbers


class Corrupted(NamedTuple):
    """Noisy labels and what became of the old ones.

    Attributes:
        labels: ``[N]``, in the dtype of the clean ones.
        changed: boolean, where the label is no longer the old one, ``[N]``.
        rate: the fraction that changed.
    """

    labels: np.ndarray
    changed: np.ndarray
    rate: float


def corrupt(labels: np.ndarray, matrix: np.ndarray, rng: np.random.Generator) -> Corrupted:
    """Draws a label for each example from its row of the matrix.

    Args:
        labels: the clean labels, integers of shape ``[N]``.
        matrix: ``T[i, j]``, the probability of label j for an example of class i, ``[K, K]``, or of
            label j for example i, ``[N, K]``. (Where N = K the first is meant.)
        rng: the generator to draw from; one number per example, so that the same seed and a larger
            rate change a superset of the examples.

    Returns:
        `Corrupted`: the labels, the mask of the changed ones, and their fraction.

    Raises:
        ValueError: if the labels are not integers from 0 to K - 1, or the rows of the matrix are
            not distributions; the first such row is named. If `rng` is no generator.

    Example:
        >>> matrix = np.array([[0.0, 1.0], [0.0, 1.0]])
        >>> noisy = corrupt(np.array([0, 1, 0]), matrix, np.random.default_rng(0))
        >>> noisy.labels.tolist(), round(noisy.rate, 2)
        ([1, 1, 1], 0.67)
    """
    check_generator("rng", rng)
    labels, matrix = host_array("labels", labels), host_array("matrix", matrix)
    _check(labels, matrix)
    matrix = matrix.astype(np.float64)
    num_classes = matrix.shape[1]
    rows = matrix[labels] if matrix.shape[0] == num_classes else matrix
    # The old label comes first on the line that the number falls on, then the others in cyclic
    # order: a larger rate then only adds to the examples that change.
    order = (labels[:, None].astype(np.int64) + np.arange(num_classes)) % num_classes
    edges = np.take_along_axis(rows, order, 1).cumsum(1)
    # Rounding may leave the last edge a little short of 1.
    edges[:, -1] = np.inf
    drawn = (rng.random(len(labels))[:, None] < edges).argmax(1)
    noisy = np.take_along_axis(order, drawn[:, None], 1)[:, 0].astype(labels.dtype)
    changed = noisy != labels
    return Corrupted(noisy, changed, float(changed.mean()) if len(labels) else 0.0)


def _check(labels: np.ndarray, matrix: np.ndarray) -> None:
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        read_class_numbers(labels)
    if matrix.dtype.kind not in "biuf":
        raise ValueError(f"matrix must hold real numbers, got {matrix.dtype}.")
    if matrix.ndim != 2 or matrix.shape[0] not in (matrix.shape[1], len(labels)):
        raise ValueError(
            f"matrix must have shape [K, K] or [{len(labels)}, K], one row per class or per "
            f"example; got {matrix.shape}."
        )
    _check_rows(matrix)
    read_class_numbers(labels, matrix.shape[1])


def _check_rows(matrix: np.ndarray) -> None:
    impossible = ~np.isfinite(matrix) | (matrix < 0)
    sums = matrix.sum(1, where=~impossible)
    wrong = np.flatnonzero(impossible.any(1) | ~np.isclose(sums, 1))
    if wrong.size:
        first = wrong[0]
        entries = matrix[first][impossible[first]]
        found = f"has the entry {entries[0]:g}" if entries.size else f"sums to {sums[first]:.6g}"
        raise ValueError(
            "matrix must have rows that are distributions: at least 0, summing to 1; row "
            f"{first} {found}."
        )
