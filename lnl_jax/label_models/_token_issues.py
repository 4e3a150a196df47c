"""Which tokens have a wrong label, and which sentences have such tokens."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lnl_jax.label_models._confident_filters import prune_by_noise_rate
from lnl_jax.label_models._label_issues import find_label_issues
from lnl_jax.label_models._label_scores import self_confidence


class TokenIssues(NamedTuple):
    """Which tokens have a wrong label; all tokens of all sentences are in one row.

    Attributes:
        ranking: sentence and position of each token, the most suspicious token first, the flagged
            ones before the others, ``[T, 2]``.
        scores: how well each token's label fits, ``[T]``, in the order of the sentences.
        flags: boolean, ``[T]``, likewise.
        suggested: the most probable class of each token, ``[T]``, likewise.
        noise_matrix: the estimated probability of a given label (columns) for each true class
            (rows), ``[K, K]``.
        sentence_scores: one score of those of each sentence, ``[S]``.

    Example:
        >>> TokenIssues._fields[:3]
        ('ranking', 'scores', 'flags')
    """

    ranking: np.ndarray
    scores: np.ndarray
    flags: np.ndarray
    suggested: np.ndarray
    noise_matrix: np.ndarray
    sentence_scores: np.ndarray


def find_token_issues(
    probabilities: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    *,
    flag: Callable[..., np.ndarray] = prune_by_noise_rate,
    score: Callable[[np.ndarray, np.ndarray], np.ndarray] = self_confidence,
    pool: Callable[[np.ndarray], np.ndarray] = np.min,
) -> TokenIssues:
    """Finds wrong labels of tokens, by confident learning of all tokens together.

    Args:
        probabilities: of each sentence, of a model that has not seen its labels, ``[T_s, K]``; rows
            sum to 1.
        labels: of each sentence, integers from 0 to K - 1, ``[T_s]``.
        flag: which are wrong, as :func:`find_label_issues` takes it.
        score: how well a label fits, likewise.
        pool: one score of those of a sentence, ``[T_s]`` to a number: the smallest, or
            :func:`soft_minimum` by `functools.partial`.

    Returns:
        The ranking of the tokens, and what it is made of.

    Raises:
        ValueError: if there is no sentence, one has no token, or its labels do not fit; if rows are
            no distributions, or labels no classes (tokens are counted over all sentences).

    Example:
        >>> probabilities = [np.array([[0.9, 0.1], [0.7, 0.3], [0.05, 0.95]]), np.eye(2)[[0, 0]]]
        >>> issues = find_token_issues(probabilities, [np.array([0, 0, 1]), np.array([0, 1])])
        >>> issues.ranking[0].tolist(), issues.sentence_scores.tolist()
        ([1, 1], [0.7, 0.0])

    References:
        Wang and Mueller, "Detecting Label Errors in Token Classification Data"
        (NeurIPS InterNLP workshop 2022).
    """
    lengths = _lengths(probabilities, labels)
    issues = find_label_issues(
        np.concatenate(probabilities), np.concatenate(labels), flag=flag, score=score
    )
    ends = np.cumsum(lengths)
    starts = ends - lengths
    sentence = np.repeat(np.arange(len(lengths)), lengths)[issues.ranking]
    tokens = np.stack([sentence, issues.ranking - starts[sentence]], -1)
    pooled = [pool(issues.scores[start:end]) for start, end in zip(starts, ends, strict=True)]
    return TokenIssues(tokens, *issues[1:], np.array(pooled))


def _lengths(probabilities: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> np.ndarray:
    if len(probabilities) != len(labels) or not len(labels):
        raise ValueError(
            f"probabilities and labels must be of the same sentences, at least one; got "
            f"{len(probabilities)} and {len(labels)}."
        )
    for number, (rows, given) in enumerate(zip(probabilities, labels, strict=True)):
        if np.ndim(rows) != 2 or np.shape(given) != np.shape(rows)[:1] or not len(rows):
            raise ValueError(
                f"probabilities and labels must have the shapes [T, K] and [T] for each sentence, "
                f"with a token; sentence {number} has {np.shape(rows)} and {np.shape(given)}."
            )
    return np.array([len(given) for given in labels])
