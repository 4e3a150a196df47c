"""Nearest neighbours: search, classification and retrieval, a block of queries at a time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

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
        ValueError: if the shapes do not fit, or k is not from 1 to N.

    Example:
        >>> nearest(jnp.array([[1.0, 0.1]]), jnp.eye(2), num_neighbours=2)[1].tolist()
        [[0, 1]]
    """
    _check(queries, keys)
    if not 1 <= num_neighbours <= len(keys):
        raise ValueError(
            f"num_neighbours must be from 1 to the {len(keys)} keys, got {num_neighbours}."
        )

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
    temperature: float = 0.1,
) -> Array:
    r"""Weighted nearest neighbours: the similar keys vote for their class.

    .. math::
        \text{score}_k = \sum_{j \in \mathrm{NN}(i)} e^{s_{ij} / T} [y_j = k]
        \Big/ \sum_{j \in \mathrm{NN}(i)} e^{s_{ij} / T}

    Args:
        queries: of unit norm, ``[Q, D]``.
        keys: of unit norm, ``[N, D]``, of the training set.
        labels: of the keys, integers from 0 to K - 1, ``[N]``.
        num_classes: K.
        num_neighbours: how many vote; with fewer keys, all do.
        temperature: T, of the votes; infinity counts them equally.

    Returns:
        ``[Q, K]``, float32; each row sums to 1.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> scores = knn_scores(jnp.eye(2), jnp.eye(2), jnp.array([1, 0]), num_classes=2)
        >>> scores.argmax(-1).tolist()
        [1, 0]

    References:
        Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (CVPR
        2018), section 3.4, with their 200 neighbours; the temperature there is 0.07.
    """
    if labels.shape != keys.shape[:1]:
        raise ValueError(
            f"labels must have one entry per key, {keys.shape[:1]}, got {labels.shape}."
        )
    count = min(num_neighbours, len(keys))
    similarities, positions = nearest(queries, keys, num_neighbours=count)
    votes = jax.nn.softmax(similarities / temperature, axis=-1)
    rows = jnp.arange(len(queries))[:, None]
    return jnp.zeros((len(queries), num_classes)).at[rows, labels[positions]].add(votes)


def retrieval_ranks(queries: Array, keys: Array, positives: Array) -> Array:
    """How many wrong keys come before the best right one, for each query.

    Recall at k is ``(ranks < k).mean()``. A wrong key that is exactly as similar counts as before
    it, so that embeddings which have all collapsed into one find nothing.

    Args:
        queries: ``[Q, D]``; of unit norm for cosine similarity.
        keys: ``[N, D]``, likewise.
        positives: positions of the right keys, integers from 0 to N - 1, ``[Q]``, or ``[Q, P]``
            where a query has several; repeat one where it has fewer.

    Returns:
        Integers from 0, ``[Q]``.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> keys = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
        >>> retrieval_ranks(keys, keys, jnp.array([0, 2, 1])).tolist()
        [0, 2, 1]
    """
    _check(queries, keys)
    if positives.ndim not in (1, 2) or len(positives) != len(queries):
        raise ValueError(
            f"positives must have the shape [{len(queries)}] or [{len(queries)}, P], got "
            f"{positives.shape}."
        )
    positives = positives.reshape(len(queries), -1)

    def rank(rows: tuple[Array, Array]) -> Array:
        query, right = rows
        similarities = _similarities(query, keys)
        best = similarities[right].max()
        is_wrong = jnp.ones(len(keys), bool).at[right].set(False)
        return (is_wrong & (similarities >= best)).sum()

    return _in_blocks(rank, (queries, positives))


def _similarities(query: Array, keys: Array) -> Array:
    return jnp.matmul(
        keys, query, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32
    )


def _in_blocks(function: Callable, rows: Array | tuple[Array, ...]):
    """A function of one query on all of them."""
    return jax.lax.map(function, rows, batch_size=QUERIES_AT_ONCE)


def _check(queries: Array, keys: Array) -> None:
    if queries.ndim != 2 or keys.ndim != 2 or queries.shape[1] != keys.shape[1]:
        raise ValueError(
            f"queries and keys must have the shapes [Q, D] and [N, D], got {queries.shape} and "
            f"{keys.shape}."
        )
