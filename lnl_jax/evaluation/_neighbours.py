"""Nearest neighbours: search, classification and retrieval, a block of queries at a time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from lnl_jax._arguments import as_array, in_range, read_classes, refuse_explicit_mesh
from lnl_jax._host_arguments import LARGEST, check_integer

# Similarities of so many queries to all keys are in memory at once.
QUERIES_AT_ONCE = 256


def nearest(queries: Array, keys: Array, *, num_neighbours: int) -> tuple[Array, Array]:
    """The keys with the largest inner products.

    Args:
        queries: ``[Q, D]``; of unit norm for cosine similarity.
        keys: ``[N, D]``, likewise.
        num_neighbours: k, at most N.

    Returns:
        The similarities, float32, and the positions of the keys, int32, ``[Q, k]``, the most
        similar first.

    Raises:
        ValueError: if the shapes or types do not fit, k is not from 1 to N, or the arrays are split
            over an Explicit axis of a mesh.

    Example:
        >>> nearest(jnp.array([[1.0, 0.1]]), jnp.eye(2), num_neighbours=2)[1].tolist()
        [[0, 1]]
    """
    queries, keys = _read(queries, keys)
    check_integer("num_neighbours", num_neighbours, at_most=len(keys))

    def search(query: Array) -> tuple[Array, Array]:
        return jax.lax.top_k(_similarities(query, keys), num_neighbours)

    return _in_blocks(search, queries)


def knn_scores(
    queries: Array,
    keys: Array,
    labels: Array,
    *,
    num_classes: int,
    num_neighbours: int = 200,
    temperature: ArrayLike = 0.1,
) -> Array:
    r"""Weighted nearest neighbours: the similar keys vote for their class.

    .. math::
        \text{score}_k = \sum_{j \in \mathrm{NN}(i)} e^{s_{ij} / T} [y_j = k]
        \Big/ \sum_{j \in \mathrm{NN}(i)} e^{s_{ij} / T}

    Args:
        queries: of unit norm, ``[Q, D]``.
        keys: of unit norm, ``[N, D]``, of the training set.
        labels: of the keys, integers from 0 to K - 1, ``[N]``; a key with another one votes for no
            class.
        num_classes: K.
        num_neighbours: how many vote; with fewer keys, all do.
        temperature: T, above 0, of the votes; infinity counts them equally.

    Returns:
        ``[Q, K]``, float32; each row sums to 1, or less where a voter has no class.

    Raises:
        ValueError: if the shapes or types do not fit, a number is out of range, or the arrays are
            split over an Explicit axis of a mesh.

    Example:
        >>> scores = knn_scores(jnp.eye(2), jnp.eye(2), jnp.array([1, 0]), num_classes=2)
        >>> scores.argmax(-1).tolist()
        [1, 0]

    References:
        Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (CVPR
        2018), section 3.4, with their 200 neighbours; the temperature there is 0.07.
    """
    queries, keys = _read(queries, keys)
    labels = read_classes("labels", labels, keys.shape[:1])
    refuse_explicit_mesh(labels=labels)
    check_integer("num_classes", num_classes, at_most=LARGEST)
    check_integer("num_neighbours", num_neighbours)
    temperature = in_range("temperature", temperature, jnp.dtype(jnp.float32), above=0)
    count = min(num_neighbours, len(keys))
    similarities, positions = nearest(queries, keys, num_neighbours=count)
    # The largest, which comes first, is taken off before the quotient is rounded: a compiler that
    # multiplies and subtracts in one step is left with that rounding, whatever its size.
    votes = jax.nn.softmax((similarities - similarities[:, :1]) / temperature, axis=-1)
    rows = jnp.arange(len(queries))[:, None]
    # Beyond the end it is dropped; a negative one would count from there.
    voted = labels[positions]
    voted = jnp.where(voted < 0, num_classes, voted)
    return jnp.zeros((len(queries), num_classes)).at[rows, voted].add(votes, mode="drop")


def retrieval_ranks(queries: Array, keys: Array, positives: Array) -> Array:
    """How many wrong keys come before the best right one, for each query.

    Recall at k is ``(ranks < k).mean()``. A wrong key that is exactly as similar counts as before
    it, so that embeddings which have all collapsed into one find nothing.

    Args:
        queries: ``[Q, D]``; of unit norm for cosine similarity.
        keys: ``[N, D]``, likewise.
        positives: positions of the right keys, integers from 0 to N - 1, ``[Q]``, or ``[Q, P]``
            where a query has several; repeat one where it has fewer. A position that no key has
            is found after all keys.

    Returns:
        Integers from 0, ``[Q]``.

    Raises:
        ValueError: if the shapes or types do not fit, or the arrays are split over an Explicit axis
            of a mesh.

    Example:
        >>> keys = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
        >>> retrieval_ranks(keys, keys, jnp.array([0, 2, 1])).tolist()
        [0, 2, 1]
    """
    queries, keys = _read(queries, keys)
    if np.ndim(positives) not in (1, 2) or len(positives) != len(queries):
        raise ValueError(
            f"positives must have the shape [{len(queries)}] or [{len(queries)}, P], got "
            f"{np.shape(positives)}."
        )
    positives = read_classes("positives", positives, np.shape(positives))
    refuse_explicit_mesh(positives=positives)
    positives = positives[:, None] if positives.ndim == 1 else positives
    positives = jnp.where(positives < 0, len(keys), positives)

    def rank(rows: tuple[Array, Array]) -> Array:
        query, right = rows
        similarities = _similarities(query, keys)
        best = similarities.at[right].get(mode="fill", fill_value=-jnp.inf).max()
        is_wrong = jnp.ones(len(keys), bool).at[right].set(False, mode="drop")
        return (is_wrong & (similarities >= best)).sum()

    return _in_blocks(rank, (queries, positives))


def _similarities(query: Array, keys: Array) -> Array:
    return jnp.matmul(
        keys, query, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32
    )


def _in_blocks(function: Callable, rows: Array | tuple[Array, ...]):
    """A function of one query on all of them."""
    return jax.lax.map(function, rows, batch_size=QUERIES_AT_ONCE)


def _read(queries: Array, keys: Array) -> tuple[Array, Array]:
    queries, keys = as_array("queries", queries), as_array("keys", keys)
    if queries.ndim != 2 or keys.ndim != 2 or queries.shape[1] != keys.shape[1] or not len(keys):
        raise ValueError(
            f"queries and keys must have the shapes [Q, D] and [N, D], got {queries.shape} and "
            f"{keys.shape}."
        )
    for name, values in (("queries", queries), ("keys", keys)):
        if not jnp.issubdtype(values.dtype, jnp.floating):
            raise ValueError(f"{name} must be floating, got {values.dtype}; cast them to float32.")
    refuse_explicit_mesh(queries=queries, keys=keys)
    return queries, keys
