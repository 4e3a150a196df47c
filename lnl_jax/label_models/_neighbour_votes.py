"""Which labels the labels of the neighbours contradict, and how the noise is by their agreement."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike

from lnl_jax._host_arguments import check_integer, check_number, host_array, host_classes
from lnl_jax.label_models._nearest import nearest_neighbours, read_features

# A floor of the logarithm, as in the authors' code.
FLOOR = 1e-8
# What a share of right labels is clipped to where it is no probability.
SHARES = (0.05, 0.95)


class NeighbourLabels(NamedTuple):
    """What the neighbours say of every label.

    Attributes:
        votes: the soft label of the neighbourhood, float64, ``[N, K]``, of unit Euclidean norm.
        scores: suspicion, ``[N]``: larger where the neighbours believe the label less.
        flags: boolean, ``[N]``: another class has more votes than the label.

    Example:
        >>> knn_label_scores(np.eye(3), [0, 1, 1], num_neighbours=1)._fields
        ('votes', 'scores', 'flags')
    """

    votes: np.ndarray
    scores: np.ndarray
    flags: np.ndarray


def knn_label_scores(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_neighbours: int = 9,
    min_similarity: float = 0.0,
    num_classes: int | None = None,
) -> NeighbourLabels:
    r"""Scores every label by the labels of its nearest neighbours in features (SimiFeat).

    .. math::
        q_{ic} \propto \sum_{j \in \mathcal N_i} (1 - m - d_{ij}) 1[y_j = c], \qquad
        s_i = -\log(q_{i y_i} + 10^{-8})

    with the cosine distance d, the neighbourhood of the k nearest other rows and the row itself, at
    the distance :math:`2 d_{(1)} - d_{(2)}` that goes on from its nearest two others, and q of unit
    Euclidean norm. The authors repeat this over random subsamples and augmentations of the images
    and flag what is flagged in most rounds; that loop is the caller's.

    Args:
        features: ``[N, D]``, of a network that saw no such labels, or raw; finite.
        labels: integers from 0 to K - 1, ``[N]``.
        num_neighbours: k, from 1 to N - 1. The authors take 9: ten with the row itself.
        min_similarity: m, a similarity that counts as none, below 1.
        num_classes: K; None takes one more than the largest label.

    Returns:
        A `NeighbourLabels`.

    Raises:
        ValueError: if features are not finite, labels are no classes, there are fewer
            than two classes, or k or m is out of range.

    Example:
        >>> features = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [0.0, 1.0], [0.1, 1.0]])
        >>> labels = np.array([0, 0, 1, 1, 1])
        >>> found = knn_label_scores(features, labels, num_neighbours=2)
        >>> np.flatnonzero(found.flags).tolist()
        [2]

    References:
        Zhu et al., "Detecting Corrupted Labels Without Training a Model to Predict" (ICML 2022),
        Algorithm 1.
    """
    features = read_features(features)
    labels, num_classes = _read_classes(labels, len(features), num_classes)
    check_integer("num_neighbours", num_neighbours, at_most=len(features) - 1)
    check_number("min_similarity", min_similarity, at_least=-1, below=1)
    # The distance of the row itself needs two others, even where one is enough for the votes.
    distances, indices = nearest_neighbours(
        features, min(max(num_neighbours, 2), len(features) - 1)
    )
    own = 2 * distances[:, 0] - distances[:, min(1, distances.shape[1] - 1)]
    distances = np.column_stack([own, distances[:, :num_neighbours]])
    given = labels[np.column_stack([np.arange(len(labels)), indices[:, :num_neighbours]])]
    votes = np.zeros((len(labels), num_classes))
    rows = np.broadcast_to(np.arange(len(labels))[:, None], given.shape)
    np.add.at(votes, (rows, given), 1 - min_similarity - distances)
    norm = np.linalg.norm(votes, axis=1, keepdims=True)
    # Votes that cancel have no direction: all classes alike.
    votes = np.divide(votes, norm, out=np.full_like(votes, num_classes**-0.5), where=norm > 0)
    believed = np.take_along_axis(votes, labels[:, None], 1)[:, 0]
    # Far neighbours vote against a class: less than nothing is believed as little as nothing.
    scores = -np.log(np.maximum(believed, 0) + FLOOR)
    return NeighbourLabels(votes, scores, votes.argmax(1) != labels)


def flag_by_rank(
    scores: ArrayLike, labels: ArrayLike, transition: ArrayLike, prior: ArrayLike
) -> np.ndarray:
    r"""Flags in each class as many of the most suspicious labels as the noise makes false.

    .. math::
        r_c = 1 - P(Y = c \mid \tilde Y = c) = 1 - T_{cc}\, p_c / \tilde p_c

    Flagged are the scores of class c that reach its percentile :math:`100 (1 - r_c)`; the share
    :math:`\tilde p_c` of the given labels is counted. A share of right labels beyond [0, 1], as an
    estimate may give, is clipped to [0.05, 0.95]. The most suspicious of a class always reaches it.

    Args:
        scores: suspicion, ``[N]``, larger is more suspicious.
        labels: integers from 0 to K - 1, ``[N]``.
        transition: :math:`T_{ij} = P(\tilde Y = j \mid Y = i)`, ``[K, K]``, as of `fit_transition`.
        prior: p, the shares of the true classes, ``[K]``.

    Returns:
        Boolean, ``[N]``.

    Raises:
        ValueError: if shapes do not fit, labels are no classes, or a number is not finite.

    Example:
        >>> scores, labels = np.array([0.1, 2.0, 3.0, 0.2, 0.1]), np.array([0, 0, 0, 1, 1])
        >>> transition = np.array([[0.8, 0.2], [0.5, 0.5]])
        >>> flag_by_rank(scores, labels, transition, np.array([0.3, 0.7])).tolist()
        [False, True, True, True, False]

    References:
        Zhu et al., "Detecting Corrupted Labels Without Training a Model to Predict" (ICML 2022),
        Algorithm 1, its ranking.
    """
    transition, prior = (
        host_array("transition", transition, np.float64),
        host_array("prior", prior, np.float64),
    )
    if prior.ndim != 1 or transition.shape != 2 * prior.shape:
        raise ValueError(
            "transition and prior must have the shapes [K, K] and [K], got "
            f"{transition.shape} and {prior.shape}."
        )
    scores = host_array("scores", scores, np.float64)
    if scores.ndim != 1:
        raise ValueError(f"scores must have the shape [N], got {scores.shape}.")
    labels = host_classes(labels, len(scores), len(prior))
    for name, values in (("scores", scores), ("transition", transition), ("prior", prior)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite; {(~np.isfinite(values)).sum()} are not.")
    flags = np.zeros(len(labels), bool)
    for number in np.unique(labels):
        of_class = labels == number
        right = transition[number, number] * prior[number] / of_class.mean()
        right = right if 0 <= right <= 1 else float(np.clip(right, *SHARES))
        flags[of_class] = scores[of_class] >= np.percentile(scores[of_class], 100 * right)
    return flags


class ConsensusMoments(NamedTuple):
    """How often the labels of an example and of its nearest two neighbours come together.

    Attributes:
        first: shares of the labels, float64, ``[K]``.
        second: of the label and that of the nearest neighbour, ``[K, K]``.
        third: of the label and those of the nearest two, ``[K, K, K]``.

    Example:
        >>> [moment.shape for moment in consensus_moments(np.eye(3), [0, 1, 1])]
        [(2,), (2, 2), (2, 2, 2)]
    """

    first: np.ndarray
    second: np.ndarray
    third: np.ndarray


def consensus_moments(
    features: ArrayLike, labels: ArrayLike, *, num_classes: int | None = None
) -> ConsensusMoments:
    """Counts which labels an example and its nearest two neighbours have together (HOC).

    Neighbours are those of the smallest cosine distance. Each moment sums to 1. The authors average
    over random subsamples; the mean of several `ConsensusMoments` is one line of the caller's.

    Args:
        features: ``[N, D]``, finite, N at least 3; neighbours should be of one true class.
        labels: integers from 0 to K - 1, ``[N]``.
        num_classes: K; None takes one more than the largest label.

    Returns:
        The `ConsensusMoments`, for `fit_transition`.

    Raises:
        ValueError: if features are not finite, there are fewer than three, labels are
            no classes, or there are fewer than two classes.

    Example:
        >>> features = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [1.0, 0.3]])
        >>> consensus_moments(features, np.array([0, 0, 1, 1])).second.tolist()
        [[0.25, 0.25], [0.0, 0.5]]

    References:
        Zhu et al., "Clusterability as an Alternative to Anchor Points When Learning with Noisy
        Labels" (ICML 2021), Section 3.
    """
    features = read_features(features)
    labels, num_classes = _read_classes(labels, len(features), num_classes)
    if len(features) < 3:
        raise ValueError(
            f"features must hold at least three rows, each with two others, got {len(features)}."
        )
    positions = nearest_neighbours(features, 2).positions
    together = np.column_stack([labels, labels[positions]])
    moments = []
    for order in (1, 2, 3):
        cells = np.ravel_multi_index(together[:, :order].T, order * (num_classes,))
        counts = np.bincount(cells, minlength=num_classes**order)
        moments.append(counts.reshape(order * (num_classes,)) / len(labels))
    return ConsensusMoments(*moments)


class TransitionEstimate(NamedTuple):
    r"""The noise of labels, by their consensus.

    Attributes:
        matrix: :math:`T_{ij} = P(\tilde Y = j \mid Y = i)`, ``[K, K]``.
        prior: the shares of the true classes, ``[K]``.
        loss: what is left of the moments that they do not explain.

    Example:
        >>> fit_transition(consensus_moments(np.eye(3), [0, 1, 1]), steps=1).matrix.shape
        (2, 2)
    """

    matrix: np.ndarray
    prior: np.ndarray
    loss: float


def fit_transition(
    moments: ConsensusMoments, *, steps: int = 1500, learning_rate: float = 0.1
) -> TransitionEstimate:
    r"""Estimates the transition matrix of the noise without any clean label (HOC).

    .. math::
        \min_{T, p} \; \|c_1 - T^\top p\| + \|c_2 - \hat c_2\| + \|c_3 - \hat c_3\|, \qquad
        \hat c_{2,ij} = \sum_k p_k T_{ki} T_{kj}, \quad
        \hat c_{3,ijl} = \sum_k p_k T_{ki} T_{kj} T_{kl}

    where rows of T and p are softmaxes, T starting from that of :math:`5 I - 1`; Adam, the best
    step is kept. It holds where an example and its neighbours share their true class, and the noise
    of each depends on that class alone.

    Args:
        moments: of `consensus_moments`.
        steps: of Adam. The authors take 1500.
        learning_rate: of Adam. The authors take 0.1.

    Returns:
        The `TransitionEstimate`; its matrix is what `losses.forward_correction` takes.

    Raises:
        ValueError: if the moments are not finite, have shapes that do not fit, or of one class; if
            a number is out of range.

    Example:
        The estimated matrix corrects a training on the noisy labels.

        >>> from lnl_jax import losses
        >>> rng = np.random.default_rng(0)
        >>> true = np.repeat([0, 1], 500)
        >>> features = np.eye(2)[true] + 0.1 * rng.normal(size=(1000, 2))
        >>> labels = np.where(rng.random(1000) < 0.2, 1 - true, true)
        >>> estimate = fit_transition(consensus_moments(features, labels))
        >>> bool(np.abs(estimate.matrix - [[0.8, 0.2], [0.2, 0.8]]).max() < 0.05)
        True
        >>> logits = jnp.zeros((1000, 2))
        >>> losses.forward_correction(logits, jnp.asarray(labels), matrix=estimate.matrix).shape
        (1000,)

    References:
        Zhu et al., "Clusterability as an Alternative to Anchor Points When Learning with Noisy
        Labels" (ICML 2021), Section 3.
    """
    moments = [np.asarray(moment, np.float64) for moment in moments]
    num_classes = len(moments[0]) if moments[0].ndim else 0
    shapes = [order * (num_classes,) for order in (1, 2, 3)]
    if num_classes < 2 or [moment.shape for moment in moments] != shapes:
        raise ValueError(
            "moments must be those of consensus_moments, [K], [K, K] and [K, K, K] of at least two "
            f"classes, got the shapes {', '.join(str(moment.shape) for moment in moments)}."
        )
    if not all(np.isfinite(moment).all() for moment in moments):
        raise ValueError("moments must be finite.")
    check_integer("steps", steps)
    check_number("learning_rate", learning_rate, above=0)
    matrix, prior, loss = _fit_moments(tuple(map(jnp.asarray, moments)), learning_rate, steps)
    # In half the digits rows would sum to 1 less well than a correction asks for.
    matrix, prior = np.asarray(matrix, np.float64), np.asarray(prior, np.float64)
    return TransitionEstimate(
        matrix / matrix.sum(1, keepdims=True), prior / prior.sum(), float(loss)
    )


@functools.partial(jax.jit, static_argnames="steps")
def _fit_moments(
    moments: tuple[jax.Array, ...], learning_rate: float, steps: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """T, p and the loss at the best of the steps."""
    num_classes = len(moments[0])
    dtype = moments[0].dtype
    start = (5 * jnp.eye(num_classes, dtype=dtype) - 1, jnp.zeros(num_classes, dtype))
    optimizer = optax.adam(learning_rate)

    def loss_of(logits):
        matrix, prior = jax.nn.softmax(logits[0]), jax.nn.softmax(logits[1])
        weighted = prior[:, None] * matrix
        modelled = (
            weighted.sum(0),
            weighted.T @ matrix,
            jnp.einsum("ki,kj,kl->ijl", weighted, matrix, matrix),
        )
        gaps = zip(moments, modelled, strict=True)
        return sum(_norm(jnp.ravel(given - found)) for given, found in gaps)

    def step(carry, _):
        logits, state, best, least = carry
        loss, slope = jax.value_and_grad(loss_of)(logits)
        better = loss < least
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), logits, best)
        updates, state = optimizer.update(slope, state)
        logits = optax.apply_updates(logits, updates)
        return (logits, state, best, jnp.minimum(loss, least)), None

    carry = (start, optimizer.init(start), start, jnp.asarray(jnp.inf, dtype))
    (_, _, best, least), _ = jax.lax.scan(step, carry, None, steps)
    return jax.nn.softmax(best[0]), jax.nn.softmax(best[1]), least


def _norm(values: jax.Array) -> jax.Array:
    """The Euclidean norm, without slope at 0: what fits exactly does not pull."""
    total = (values**2).sum()
    return jnp.where(total > 0, jnp.sqrt(jnp.where(total > 0, total, 1)), 0)


def _read_classes(labels: ArrayLike, size: int, num_classes: int | None) -> tuple[np.ndarray, int]:
    if num_classes is not None:
        check_integer("num_classes", num_classes, at_least=2)
    labels = host_classes(labels, size, num_classes)
    num_classes = int(labels.max()) + 1 if num_classes is None else num_classes
    if num_classes < 2:
        raise ValueError(
            "labels must be of at least two classes, all are 0; where others are possible give "
            "num_classes."
        )
    return labels, num_classes
