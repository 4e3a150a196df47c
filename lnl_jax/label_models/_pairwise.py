"""The best of several candidates, from votes between two of them at a time."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csgraph

from lnl_jax._host_arguments import check_integer, check_number, host_array, read_class_numbers


class BradleyTerry(NamedTuple):
    """How strong each candidate is.

    Attributes:
        probabilities: the strengths, normalised, ``[..., C]``, float64; a beats b with probability
            :math:`p_a / (p_a + p_b)`.
        iterations: until no probability moved by more than the tolerance.

    Example:
        >>> bradley_terry(np.array([[0, 3], [1, 0]]), pseudo_votes=0.0).probabilities.tolist()
        [0.75, 0.25]
    """

    probabilities: np.ndarray
    iterations: int


class Choice(NamedTuple):
    """The best candidate of each item, and whether it may be taken unseen.

    Attributes:
        best: the strongest candidate, ``[...]``; the lowest of equals.
        certainty: the probability that it beats the second, from 0.5 to 1, ``[...]``.
        accepted: whether that is enough, boolean, ``[...]``; the others are for review.

    Example:
        >>> accept_or_review(np.array([[0.7, 0.3], [0.5, 0.5]]), 0.6).accepted.tolist()
        [True, False]
    """

    best: np.ndarray
    certainty: np.ndarray
    accepted: np.ndarray


def pairwise_wins(
    votes: ArrayLike,
    num_candidates: int,
    num_items: int | None = None,
    *,
    weights: ArrayLike | None = None,
) -> np.ndarray:
    """Counts how often each candidate was preferred to each other one, item by item.

    Args:
        votes: integers, ``[M, 3]``: the item, the candidate that was preferred, and the other one.
        num_candidates: C, at least 2.
        num_items: N; None takes one more than the largest item.
        weights: what each vote counts, not negative, ``[M]``, such as the skill of who gave it;
            None counts each once.

    Returns:
        The counts, ``[N, C, C]``, float64 where they are weighted, at ``[i, a, b]`` how often a was
        preferred to b; a sum over the first axis ranks the candidates over all items.

    Raises:
        ValueError: if the votes are not such triples, or a candidate is compared with itself, or
            there is not one weight, finite and not negative, for each.

    Example:
        >>> pairwise_wins([[0, 1, 0], [0, 1, 0], [0, 0, 1]], 2).tolist()
        [[[0, 1], [2, 0]]]

    References:
        Bradley & Terry, "Rank Analysis of Incomplete Block Designs" (Biometrika 1952).
    """
    check_integer("num_candidates", num_candidates, at_least=2)
    votes = host_array("votes", votes)
    if votes.ndim != 2 or votes.shape[1] != 3:
        raise ValueError(
            "votes must have the shape [M, 3]: item, preferred candidate, other candidate; got "
            f"{votes.shape}."
        )
    item = read_class_numbers(votes[:, 0], num_items, "votes' item")
    winner = read_class_numbers(votes[:, 1], num_candidates, "votes' preferred candidate")
    loser = read_class_numbers(votes[:, 2], num_candidates, "votes' other candidate")
    same = np.flatnonzero(winner == loser)
    if same.size:
        raise ValueError(
            f"votes must be between two candidates; {same.size} are of one with itself, the first "
            f"in row {same[0]}: drop them."
        )
    if num_items is None:
        num_items = int(item.max(initial=-1)) + 1
    cells = (item.astype(np.int64) * num_candidates + winner) * num_candidates + loser
    if weights is not None:
        weights = host_array("weights", weights, np.float64)
        if weights.shape != (len(votes),) or not (np.isfinite(weights) & (weights >= 0)).all():
            raise ValueError(
                f"weights must be finite and not negative, one for each of {len(votes)} votes; got "
                f"the shape {weights.shape}, the least {weights.min(initial=0):g}."
            )
    counts = np.bincount(cells, weights, minlength=num_items * num_candidates**2)
    return counts.reshape(num_items, num_candidates, num_candidates)


def bradley_terry(
    wins: ArrayLike,
    *,
    pseudo_votes: float = 0.5,
    max_iterations: int = 10_000,
    tolerance: float = 1e-10,
) -> BradleyTerry:
    r"""Ranks candidates by the strengths that make the votes between pairs of them most likely.

    .. math::
        P(a \succ b) = \frac{p_a}{p_a + p_b}, \qquad
        p_a \leftarrow \frac{\sum_b w_{ab}}{\sum_{b} (w_{ab} + w_{ba}) / (p_a + p_b)}

    by the minorise-maximise iteration, normalised after each step. With `pseudo_votes` added to
    both directions of every pair the strengths exist for any votes, and unanimous ones do not make
    them infinite; with 0 they are the maximum of the likelihood.

    Args:
        wins: how often a was preferred to b, at ``[..., a, b]``, of :func:`pairwise_wins`, say; the
            diagonal is 0.
        pseudo_votes: added to each direction of each pair, not negative.
        max_iterations: of the iteration.
        tolerance: the change of all probabilities together at which it stops.

    Returns:
        `BradleyTerry`, with the batch shape of `wins`.

    Raises:
        ValueError: if the counts are not square, negative, or on the diagonal, or if without pseudo
            votes a group of candidates never lost to or never met the rest: its strength would be
            infinite, or unknown.

    Example:
        >>> wins = np.array([[0, 3, 4], [1, 0, 2], [0, 2, 0]])
        >>> bradley_terry(wins).probabilities.round(3).tolist()
        [0.666, 0.192, 0.142]

    References:
        Bradley & Terry, "Rank Analysis of Incomplete Block Designs" (Biometrika 1952); Hunter, "MM
        Algorithms for Generalized Bradley-Terry Models" (Annals of Statistics 2004), equation 3.
    """
    check_number("pseudo_votes", pseudo_votes, at_least=0)
    check_integer("max_iterations", max_iterations)
    check_number("tolerance", tolerance, at_least=0)
    wins = _read_wins(wins, pseudo_votes)
    candidates = wins.shape[-1]
    met = wins + wins.swapaxes(-1, -2)
    won = wins.sum(-1)
    strengths = np.full(won.shape, 1 / candidates)
    for iteration in range(1, max_iterations + 1):
        both = strengths[..., :, None] + strengths[..., None, :]
        found = won / (met / both).sum(-1)
        found /= found.sum(-1, keepdims=True)
        change = np.abs(found - strengths).sum(-1).max(initial=0)
        strengths = found
        if change <= tolerance or iteration == max_iterations:
            break
    return BradleyTerry(strengths, iteration)


def accept_or_review(probabilities: ArrayLike, threshold: float) -> Choice:
    r"""Chooses the strongest candidate, and says whether to take it or to have it reviewed.

    .. math::
        \frac{p_{(1)}}{p_{(1)} + p_{(2)}} \ge \text{threshold}

    accepts it: the probability that it beats the second in one more vote. The rule is ours. It has
    no usual threshold: what a false label costs against a review decides that.

    Args:
        probabilities: strengths of candidates, of :func:`bradley_terry`, or the probabilities of
            the classes of any label model, ``[..., C]``.
        threshold: from 0.5, which accepts all, to 1.

    Returns:
        `Choice`.

    Raises:
        ValueError: if there are fewer than two candidates, a probability is negative, infinite or
            NaN, or the threshold is out of range.

    Example:
        >>> accept_or_review(np.array([[0.6, 0.3, 0.1], [0.4, 0.35, 0.25]]), 0.6).accepted.tolist()
        [True, False]

    References:
        Bassi et al., "Label Critic: Design Data Before Models" (2024), the choice between candidate
        labels by votes between pairs.
    """
    check_number("threshold", threshold, at_least=0.5, at_most=1)
    values = host_array("probabilities", probabilities, np.float64)
    if values.ndim < 1 or values.shape[-1] < 2 or not ((values >= 0) & (values < np.inf)).all():
        raise ValueError(
            "probabilities must have the shape [..., C] of at least two candidates and not be "
            f"negative, infinite or NaN; got the shape {values.shape}."
        )
    second, first = np.moveaxis(np.sort(values, -1)[..., -2:], -1, 0)
    total = first + second
    certainty = np.where(total > 0, first / np.where(total > 0, total, 1), 0.5)
    return Choice(values.argmax(-1), certainty, certainty >= threshold)


def _read_wins(wins: ArrayLike, pseudo_votes: float) -> np.ndarray:
    wins = host_array("wins", wins, np.float64)
    if wins.ndim < 2 or wins.shape[-1] != wins.shape[-2] or wins.shape[-1] < 2:
        raise ValueError(
            f"wins must have the shape [..., C, C] of at least two candidates, got {wins.shape}."
        )
    diagonal = np.eye(wins.shape[-1], dtype=bool)
    if not (np.isfinite(wins) & (wins >= 0)).all() or wins[..., diagonal].any():
        raise ValueError("wins must be counts from 0 on, and 0 on the diagonal.")
    if not pseudo_votes:
        _refuse_unconnected(wins)
    return np.where(diagonal, 0, wins + pseudo_votes)


def _refuse_unconnected(wins: np.ndarray) -> None:
    for index in np.ndindex(wins.shape[:-2]):
        parts, _ = csgraph.connected_components(wins[index] > 0, connection="strong")
        if parts > 1:
            raise ValueError(
                f"wins{list(index) if index else ''} must lead from each candidate to each other, "
                f"or strengths are infinite or unknown; got {parts} groups that never lost to or "
                "never met another: give pseudo_votes, 0.5 say."
            )
