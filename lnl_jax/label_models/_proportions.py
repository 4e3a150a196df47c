"""Labels of examples from the number of positives in each bag of them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lnl_jax._host_arguments import check_integer, check_number, host_array, read_class_numbers
from lnl_jax.label_models._bag_messages import bag_messages
from lnl_jax.label_models._nearest import nearest_neighbours, read_features


class SimilarityEdges(NamedTuple):
    """Pairs of examples that should have the same label.

    Attributes:
        pairs: rows of two examples each, integers, ``[E, 2]``, each pair once, the smaller first.
        similarities: of each pair, ``[E]``.

    Example:
        >>> similarity_edges(np.eye(2), num_neighbours=1).pairs.tolist()
        [[0, 1]]
    """

    pairs: np.ndarray
    similarities: np.ndarray


def similarity_edges(features: ArrayLike, *, num_neighbours: int = 5) -> SimilarityEdges:
    r"""Joins each example to its nearest ones by the cosine, as similar as they are near.

    The similarity is the Matern kernel of order 1/2, :math:`\exp(-\|x_i - x_j\|)`. A pair of which
    either is among the nearest of the other is an edge. The authors' code joins only examples of
    bags with at most one positive; here all are joined.

    Args:
        features: ``[N, D]``, finite. Their scale decides how fast the similarity falls.
        num_neighbours: of each example, from 1 to N - 1. The authors take 5.

    Returns:
        The `SimilarityEdges`.

    Raises:
        ValueError: if features are not finite, or the number of neighbours is out of range.

    Example:
        >>> features = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
        >>> edges = similarity_edges(features, num_neighbours=1)
        >>> edges.pairs.tolist(), edges.similarities.round(3).tolist()
        ([[0, 1], [1, 2]], [0.905, 0.26])

    References:
        Havaldar et al., "Learning from Label Proportions: Bootstrapping Supervised Learners via
        Belief Propagation" (ICLR 2024), Section 3.
    """
    features = read_features(features)
    positions = nearest_neighbours(features, num_neighbours).positions
    rows = np.repeat(np.arange(len(features)), num_neighbours)
    pairs = np.sort(np.column_stack([rows, positions.ravel()]), axis=1)
    pairs = np.unique(pairs, axis=0)
    difference = features[pairs[:, 0]].astype(np.float64) - features[pairs[:, 1]]
    return SimilarityEdges(pairs, np.exp(-np.linalg.norm(difference, axis=1)))


def bag_marginals(
    bags: ArrayLike,
    counts: ArrayLike,
    edges: SimilarityEdges | None = None,
    *,
    bag_weight: float = 10.0,
    similarity_weight: float = 10.0,
    steps: int = 100,
    damping: float = 0.5,
) -> np.ndarray:
    r"""The chance of each example to be positive, given the positives of each bag.

    Belief propagation (sums and products) in the Gibbs distribution of the labels y in {0, 1} with
    the energy

    .. math::
        E(y) = \lambda_b \sum_b \Big(\sum_{i \in b} y_i - n_b\Big)^2
             + \lambda_s \sum_{(i, j)} k_{ij} (y_i - y_j)^2

    In log-odds, with the potentials h of an example and J of a pair, the message from i to j is
    :math:`\mathrm{softplus}(c + J_{ij}) - \mathrm{softplus}(c)`, c being :math:`h_i` and all
    messages to i but that from j. It is exact where the pairs form a tree, which a bag of more than
    two does not: then bags are kept less strictly than the distribution asks, and in bags of dozens
    the messages of the default weights oscillate without an end. `bag_count_marginals` has neither
    fault. Time and memory grow with the squares of the sizes of the bags.

    Args:
        bags: the bag of each example, integers from 0 to B - 1, ``[N]``.
        counts: :math:`n_b`, the positives of each bag, whole numbers, ``[B]``.
        edges: of `similarity_edges`; None joins only the examples of a bag.
        bag_weight: :math:`\lambda_b`, not negative. The authors' default is 10.
        similarity_weight: :math:`\lambda_s`, not negative. The authors' default is 10.
        steps: passes over all messages. The authors take 100.
        damping: the share of the old message that is kept, from 0 to below 1. Large weights
            oscillate without it. The authors take 0.5.

    Returns:
        float64, ``[N]``; above 0.5 is the pseudo-label 1.

    Raises:
        ValueError: if a bag is empty or has more positives than examples, or a negative number of
            them; if edges name no examples; if a number is out of range.

    Example:
        >>> edges = SimilarityEdges(np.array([[1, 2]]), np.array([0.7]))
        >>> marginals = bag_marginals(
        ...     [0, 0, 1, 1], [1, 2], edges, bag_weight=1.0, similarity_weight=2.0
        ... )
        >>> marginals.round(3).tolist()
        [0.422, 0.669, 0.78, 0.78]

    References:
        Havaldar et al., "Learning from Label Proportions: Bootstrapping Supervised Learners via
        Belief Propagation" (ICLR 2024), Section 3.
    """
    bags, counts, pairs, similarities = _read_graph(bags, counts, edges)
    _check_numbers(bag_weight, similarity_weight, steps, damping)
    bag_weight, similarity_weight = float(bag_weight), float(similarity_weight)
    unary = -bag_weight * (1 - 2 * counts[bags])
    of_edges = similarity_weight * similarities
    for end in pairs.T:
        unary -= np.bincount(end, of_edges, minlength=len(bags))
    inside = _pairs_in_bags(bags)
    joint = _merged(
        np.concatenate([inside, pairs]),
        np.concatenate([np.full(len(inside), -2 * bag_weight), 2 * of_edges]),
    )
    return _propagate(unary, *joint, steps, damping)


def bag_count_marginals(
    bags: ArrayLike,
    counts: ArrayLike,
    edges: SimilarityEdges | None = None,
    *,
    bag_weight: float = 10.0,
    similarity_weight: float = 10.0,
    steps: int = 100,
    damping: float = 0.5,
) -> np.ndarray:
    r"""As `bag_marginals`, with each bag one factor of the graph instead of all its pairs.

    The energy is the same. A bag tells an example by how much the sum of the others' labels, each
    as likely as the edges say, is better completed by a positive:

    .. math::
        \log \sum_{y_{-i}} e^{-\lambda_b (1 + \sum_{j \ne i} y_j - n_b)^2} \prod_{j \ne i} q_j(y_j)
        - \log \sum_{y_{-i}} e^{-\lambda_b (\sum_{j \ne i} y_j - n_b)^2} \prod_{j \ne i} q_j(y_j)

    which is summed exactly. Only edges make loops: without them the marginals are exact.

    Args:
        bags: the bag of each example, integers from 0 to B - 1, ``[N]``.
        counts: :math:`n_b`, the positives of each bag, whole numbers, ``[B]``.
        edges: of `similarity_edges`; None joins only the examples of a bag.
        bag_weight: :math:`\lambda_b`, not negative.
        similarity_weight: :math:`\lambda_s`, not negative. A graph of neighbours has many loops,
            and messages that go round count what they say more than once.
        steps: passes over all messages.
        damping: the share of the old message that is kept, from 0 to below 1.

    Returns:
        float64, ``[N]``; above 0.5 is the pseudo-label 1.

    Raises:
        ValueError: if a bag is empty or has more positives than examples, or a negative number of
            them; if edges name no examples; if a number is out of range.

    Example:
        >>> edges = SimilarityEdges(np.array([[2, 3]]), np.array([1.0]))
        >>> marginals = bag_count_marginals([0, 0, 0, 1], [1, 1], edges, similarity_weight=2.0)
        >>> marginals.round(3).tolist()
        [0.107, 0.107, 0.787, 1.0]

    References:
        Havaldar et al., "Learning from Label Proportions: Bootstrapping Supervised Learners via
        Belief Propagation" (ICLR 2024), Section 3, for the energy; Tarlow, Givoni and Zemel,
        "HOP-MAP: Efficient Message Passing with High Order Potentials" (AISTATS 2010), Section 3,
        for factors that depend on a count.
    """
    bags, counts, pairs, similarities = _read_graph(bags, counts, edges)
    _check_numbers(bag_weight, similarity_weight, steps, damping)
    bag_weight, similarity_weight = float(bag_weight), float(similarity_weight)

    pairs, penalties = _merged(pairs, similarity_weight * similarities)
    half = len(pairs)
    source = np.concatenate([pairs[:, 0], pairs[:, 1]])
    target = np.concatenate([pairs[:, 1], pairs[:, 0]])
    penalties = np.concatenate([penalties, penalties])
    groups = _bags_by_size(bags)
    of_edges, of_bags = np.zeros(2 * half), np.zeros(len(bags))
    for _ in range(steps):
        by_edges = np.bincount(target, of_edges, minlength=len(bags))
        for numbers, members in groups:
            new = bag_messages(by_edges[members], counts[numbers], bag_weight)
            of_bags[members] = damping * of_bags[members] + (1 - damping) * new
        cavity = (by_edges + of_bags)[source] - np.roll(of_edges, half)
        new = np.logaddexp(-penalties, cavity) - np.logaddexp(0, cavity - penalties)
        of_edges = damping * of_edges + (1 - damping) * new
    return _chance(np.bincount(target, of_edges, minlength=len(bags)) + of_bags)


def _bags_by_size(bags: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each size m the numbers of its bags, ``[B]``, and their examples, ``[B, m]``."""
    sizes = np.bincount(bags)
    members = np.split(np.argsort(bags, kind="stable"), np.cumsum(sizes)[:-1])
    found = []
    for size in np.unique(sizes):
        numbers = np.flatnonzero(sizes == size)
        found.append((numbers, np.stack([members[number] for number in numbers])))
    return found


def _propagate(
    unary: np.ndarray, pairs: np.ndarray, potentials: np.ndarray, steps: int, damping: float
) -> np.ndarray:
    # Each pair sends both ways: first all from the first to the second, then back.
    half = len(pairs)
    source = np.concatenate([pairs[:, 0], pairs[:, 1]])
    target = np.concatenate([pairs[:, 1], pairs[:, 0]])
    potentials = np.concatenate([potentials, potentials])
    messages = np.zeros(2 * half)
    for _ in range(steps):
        belief = unary + np.bincount(target, messages, minlength=len(unary))
        cavity = belief[source] - np.roll(messages, half)
        new = np.logaddexp(0, cavity + potentials) - np.logaddexp(0, cavity)
        messages = damping * messages + (1 - damping) * new
    return _chance(unary + np.bincount(target, messages, minlength=len(unary)))


def _chance(odds: np.ndarray) -> np.ndarray:
    """By the logarithm: an exponential of large odds would overflow."""
    return np.exp(-np.logaddexp(0, -odds))


def _pairs_in_bags(bags: np.ndarray) -> np.ndarray:
    """All pairs of examples of one bag, the smaller first, ``[P, 2]``."""
    order = np.argsort(bags, kind="stable")
    found = [np.empty((0, 2), np.int64)]
    for members in np.split(order, np.cumsum(np.bincount(bags))[:-1]):
        first, second = np.triu_indices(len(members), 1)
        found.append(np.column_stack([members[first], members[second]]))
    return np.concatenate(found)


def _merged(pairs: np.ndarray, potentials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One potential for each pair: two pairs of the same examples would be a loop."""
    pairs, place = np.unique(pairs, axis=0, return_inverse=True)
    return pairs, np.bincount(place.ravel(), potentials, minlength=len(pairs))


def _read_graph(
    bags: ArrayLike, counts: ArrayLike, edges: SimilarityEdges | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    counts = _read_counts(counts)
    bags = read_class_numbers(bags, len(counts), "bags")
    _check_bags(bags, counts)
    return bags, counts, *_read_edges(edges, len(bags))


def _check_numbers(bag_weight: float, similarity_weight: float, steps: int, damping: float) -> None:
    check_number("bag_weight", bag_weight, at_least=0)
    check_number("similarity_weight", similarity_weight, at_least=0)
    check_integer("steps", steps)
    check_number("damping", damping, at_least=0, below=1)


def _read_counts(counts: ArrayLike) -> np.ndarray:
    counts = host_array("counts", counts)
    numbers = counts.dtype.kind in "iuf" and counts.ndim == 1
    if not numbers or not counts.size or not (counts == np.trunc(counts)).all():
        raise ValueError(
            f"counts must be whole numbers of shape [B], got {counts.dtype} of shape "
            f"{counts.shape}; of shares, multiply by the sizes of the bags and round."
        )
    return counts.astype(np.float64)


def _check_bags(bags: np.ndarray, counts: np.ndarray) -> None:
    sizes = np.bincount(bags, minlength=len(counts))
    for wrong, what in (
        (sizes == 0, "bags must have an example for every count"),
        ((counts < 0) | (counts > sizes), "counts must be from 0 to the size of the bag"),
    ):
        found = np.flatnonzero(wrong)
        if found.size:
            first = found[0]
            raise ValueError(
                f"{what}; {found.size} of {len(counts)} bags do not add up, the first is bag "
                f"{first}: {counts[first]:g} positives, {sizes[first]} examples."
            )


def _read_edges(edges: SimilarityEdges | None, size: int) -> tuple[np.ndarray, np.ndarray]:
    if edges is None:
        return np.empty((0, 2), np.int64), np.empty(0)
    pairs = host_array("edges", edges[0])
    similarities = host_array("edges", edges[1], np.float64)
    shapes = pairs.shape[1:] == (2,) and similarities.shape == pairs.shape[:1]
    if not shapes or pairs.dtype.kind not in "iu" or not np.isfinite(similarities).all():
        raise ValueError(
            "edges must be pairs of rows, integers [E, 2], and finite similarities [E], got "
            f"{pairs.dtype} of shape {pairs.shape} and {similarities.shape}."
        )
    outside = (pairs < 0) | (pairs >= size)
    if outside.any() or (pairs[:, 0] == pairs[:, 1]).any():
        raise ValueError(f"edges must join two different rows from 0 to {size - 1}.")
    return np.sort(pairs, axis=1).astype(np.int64), similarities
