"""How well a score finds the examples that are looked for, such as the mislabelled ones."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lnl_jax._arguments import as_array, refuse_explicit_mesh
from lnl_jax.metrics._checks import read_where


class _Ranking(NamedTuple):
    """The examples in ascending order of their scores.

    Attributes:
        positives: where an example is one of those looked for, boolean, ``[N]``.
        positives_before: how many of them stand before place i, int32, ``[N + 1]``.
        negatives_before: how many of the others do, int32, ``[N + 1]``.
        first: the place of the first example with the same score, int32, ``[N]``.
        last: the place after the last one with the same score, int32, ``[N]``.
        defined: whether both kinds occur and no score is NaN, a scalar.
    """

    positives: Array
    positives_before: Array
    negatives_before: Array
    first: Array
    last: Array
    defined: Array


def auroc(scores: Array, positives: Array, *, where: Array | None = None) -> Array:
    r"""Area under the receiver operating characteristic.

    .. math::
        \frac{1}{|P| \, |N|} \sum_{i \in P} \sum_{j \in N}
        \Big( [s_i > s_j] + \tfrac{1}{2} [s_i = s_j] \Big)

    the probability that a positive example scores higher than a negative one, equal scores counting
    half. 1/2 is chance, 1 a perfect ranking, whatever the share of the positives.

    It compares examples with each other, across batches too, so that values of batches do not
    average to that of the whole: collect the scores, and call it once.

    Args:
        scores: numbers of shape ``[...]``, the larger the more positive, such as the loss of an
            example; infinite ones are only the largest and smallest.
        positives: boolean, the examples that should be found, such as the mislabelled, ``[...]``.
        where: boolean, the examples to count, ``[...]``; None counts all.

    Returns:
        A scalar, float32: counts are exact integers up to :math:`2^{30}` examples. NaN if one kind
        of example is absent or a counted score is NaN. For several rankings at once, `jax.vmap`.

    Raises:
        ValueError: if `positives` or `where` have another shape or are not boolean, or the scores
            are split over an Explicit axis of a mesh.

    Example:
        >>> losses = jnp.array([0.1, 2.0, 0.3, 0.3])
        >>> float(auroc(losses, jnp.array([False, True, False, True])))
        0.875

    References:
        Fawcett, "An Introduction to ROC Analysis" (Pattern Recognition Letters 2006), Section 7.
    """
    ranking = _rank(scores, positives, where)
    # Negatives that score less, plus those that score no more: twice the wins and halves.
    doubled = (
        ranking.negatives_before[ranking.first] + ranking.negatives_before[ranking.last]
    ).astype(jnp.float32)
    count = jnp.maximum(ranking.negatives_before[-1], 1).astype(jnp.float32)
    return _mean_over_positives(doubled / (2 * count), ranking)


def average_precision(scores: Array, positives: Array, *, where: Array | None = None) -> Array:
    r"""Mean precision at the positives, the area under the steps of precision against recall.

    .. math::
        \frac{1}{|P|} \sum_{i \in P}
        \frac{|\{j \in P : s_j \ge s_i\}|}{|\{j : s_j \ge s_i\}|}

    1 is a perfect ranking, the share of the positives that of equal scores; unlike `auroc` it asks
    most of the highest scores, those that would be looked at first.

    It compares examples with each other, across batches too, so that values of batches do not
    average to that of the whole: collect the scores, and call it once.

    Args:
        scores: numbers of shape ``[...]``, the larger the more positive, such as the loss of an
            example; infinite ones are only the largest and smallest.
        positives: boolean, the examples that should be found, such as the mislabelled, ``[...]``.
        where: boolean, the examples to count, ``[...]``; None counts all.

    Returns:
        A scalar, float32: counts are exact integers up to :math:`2^{30}` examples. NaN if one kind
        of example is absent or a counted score is NaN. For several rankings at once, `jax.vmap`.

    Raises:
        ValueError: if `positives` or `where` have another shape or are not boolean, or the scores
            are split over an Explicit axis of a mesh.

    Example:
        >>> losses = jnp.array([0.1, 2.0, 0.4, 0.3])
        >>> round(float(average_precision(losses, jnp.array([False, True, False, True]))), 3)
        0.833

    References:
        Manning et al., "Introduction to Information Retrieval" (2008), Section 8.4, with the equal
        scores of one threshold taken together.
    """
    ranking = _rank(scores, positives, where)
    found = (ranking.positives_before[-1] - ranking.positives_before[ranking.first]).astype(
        jnp.float32
    )
    false = (ranking.negatives_before[-1] - ranking.negatives_before[ranking.first]).astype(
        jnp.float32
    )
    return _mean_over_positives(found / jnp.maximum(found + false, 1), ranking)


def _rank(scores: Array, positives: Array, where: Array | None) -> _Ranking:
    refuse_explicit_mesh(scores=scores, positives=positives)
    scores, positives = as_array("scores", scores), as_array("positives", positives)
    if not jnp.issubdtype(scores.dtype, jnp.floating) and not jnp.issubdtype(
        scores.dtype, jnp.integer
    ):
        raise ValueError(f"scores must be real numbers, got {scores.dtype}.")
    if positives.shape != scores.shape or positives.dtype != bool:
        raise ValueError(
            f"positives must be boolean of shape {scores.shape}, as scores have; got "
            f"{positives.dtype} of shape {positives.shape}."
        )
    where = read_where(where, scores.shape)
    # An example that is not counted takes a place, but adds to no count there.
    scores = jnp.where(where, scores, 0).reshape(-1)
    positives, negatives = ((where & kind).reshape(-1) for kind in (positives, ~positives))
    ordered, positives, negatives = jax.lax.sort((scores, positives, negatives), num_keys=1)
    positives_before, negatives_before = (_running(kind) for kind in (positives, negatives))
    rises = ordered[1:] != ordered[:-1]
    edge = jnp.ones(min(scores.size, 1), bool)
    places = jnp.arange(scores.size, dtype=jnp.int32)
    first = jax.lax.cummax(jnp.where(jnp.concatenate([edge, rises]), places, 0))
    ends = jnp.where(jnp.concatenate([rises, edge]), places + 1, scores.size)
    last = jax.lax.cummin(ends, reverse=True)
    defined = (positives_before[-1] > 0) & (negatives_before[-1] > 0) & ~jnp.isnan(scores).any()
    return _Ranking(positives, positives_before, negatives_before, first, last, defined)


def _running(kind: Array) -> Array:
    """How many there are before each place, and in all: integers, exact where float32 is not."""
    return jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(kind, dtype=jnp.int32)])


def _mean_over_positives(values: Array, ranking: _Ranking) -> Array:
    count = jnp.maximum(ranking.positives_before[-1], 1).astype(jnp.float32)
    total = jnp.where(ranking.positives, values, 0).sum()
    return jnp.where(ranking.defined, total / count, jnp.nan)
