r"""Losses minimised exactly under known class posteriors, and what their minimisers rank right.

For one input with class probabilities :math:`q` the risk of scores :math:`f` is

.. math::
    R(f) = \sum_y q_y \, \ell(f, y), \qquad
    r_k(f) = \sum_{j \le k} q_{(j)} - \sum_{j \in \mathrm{top}_k(f)} q_j

with :math:`r_k` the top-k regret, ties broken against the scores. A loss is top-k consistent if
scores whose risk goes to the infimum have a regret that goes to 0. Where the infimum is not
attained, as that of bounded losses, it matters that *all* such scores do.
"""

import functools
import types
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax._host_arguments import check_integer, check_number

# Scores beyond it are as good as infinite; risks that fall like 1 / f are 0 there.
BOX = 1e6
UNBOUNDED = BOX / 1e3  # a risk that falls so far has no least one
ITERATIONS = 80
# Newton's steps, damped by shares of the largest curvature, and parts of them; the gradient's.
DAMPING = np.array([0, 1e-4, 1e-2, 1])
PARTS = np.array([1, 0.5, 0.1])
SCALES = 4.0 ** -np.arange(12)
EQUAL = 1e-9  # scores that are as far apart, at most, are equal


class Minimum(NamedTuple):
    """What a loss has at its minimum.

    Attributes:
        risk: the least risk that was found, ``[Q]``.
        regret: the largest top-k regret of all scores found whose risk is within the tolerance of
            the least, ``[Q, K - 1]`` for k from 1 to K - 1.
        gap: how much more than the least the risk is, at least, where the k-th and the next class
            have equal scores, ``[Q, K - 1]``.
        scores: those with the least risk, ``[Q, K]``.
        bounded: whether there is a least risk, ``[Q]``; where not, the scores are as far as the
            search goes.
    """

    risk: np.ndarray
    regret: np.ndarray
    gap: np.ndarray
    scores: np.ndarray
    bounded: np.ndarray


def minimum(
    loss: Callable[..., jax.Array],
    posteriors: np.ndarray,
    setting: Mapping[str, float] = types.MappingProxyType({}),
    *,
    starts: int = 3,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> Minimum:
    """Minimises the risk of a loss in float64, freely and with pairs of classes held equal.

    Newton's method with the absolute values of the curvatures, from several random scores, within
    a box; of each direction, and of the gradient's, the best of several step lengths is taken.

    Args:
        loss: ``(logits [K, K], labels [K], **setting) -> losses [K]``, with a gradient. It is
            compiled once for all settings.
        posteriors: probabilities of the classes, ``[Q, K]``, no two of a row equal.
        setting: hyperparameters of the loss, scalars by name.
        starts: scores to start from, besides 0.
        tolerance: which risks are as good as the least.
        seed: of the starts.

    Returns:
        The `Minimum`.

    Raises:
        ValueError: if the posteriors are no distributions with different probabilities, a number
            is out of range, or the loss has no gradient at its minimum, which only a loss of
            pieces of planes has.

    Example:
        >>> import optax
        >>> posteriors = np.array([[0.5, 0.3, 0.2]])
        >>> found = minimum(optax.softmax_cross_entropy_with_integer_labels, posteriors)
        >>> np.round(np.exp(found.scores - found.scores.max()), 3).tolist()
        [[1.0, 0.6, 0.4]]
        >>> float(found.regret.max()), bool((found.gap > 1e-3).all())
        (0.0, True)
    """
    posteriors = _read(posteriors)
    check_integer("starts", starts, at_least=0)
    check_number("tolerance", tolerance, above=0)
    number, size = posteriors.shape
    order = np.argsort(-posteriors, axis=1)
    # Problem 0 is free; in problem k the k-th class has the score of the next one.
    ties = np.tile(np.arange(size), (number, size, 1))
    rows = np.arange(number)
    for k in range(1, size):
        ties[rows, k, order[:, k - 1]] = order[:, k]
    rng = np.random.default_rng(seed)
    begin = np.concatenate([np.zeros((1, size)), rng.normal(0, 2, (starts, size))])
    begin = np.tile(begin, (number, 1, 1))
    with jax.enable_x64(True):
        setting = {name: jnp.float64(value) for name, value in setting.items()}
        found = _solver(loss)(setting, *map(jnp.asarray, (posteriors, ties, begin)))
        scores, risks, kinks = map(np.asarray, found)
    least = risks.min((1, 2))
    bounded = least > -UNBOUNDED
    if kinks[bounded].any():
        raise ValueError(
            "loss has no gradient at its minimum, so that it is not found by gradients; take a "
            "smooth relative, such as ldr_kl with a small temperature for crammer_singer."
        )
    near = risks <= (least + tolerance)[:, None, None]
    regrets = top_k_regret(scores, posteriors[:, None, None])
    at = risks.reshape(number, -1).argmin(1)
    return Minimum(
        least,
        np.where(near[..., None], regrets, 0).max((1, 2)),
        risks[:, 1:].min(2) - least[:, None],
        scores.reshape(number, -1, size)[rows, at],
        bounded,
    )


def top_k_regret(scores: np.ndarray, posteriors: np.ndarray) -> np.ndarray:
    """How much probability the top k of scores lack, ties broken against them.

    Args:
        scores: ``[..., K]``.
        posteriors: that broadcast to them.

    Returns:
        ``[..., K - 1]``, for k from 1 to K - 1.

    Example:
        >>> top_k_regret(np.array([1.0, 1.0, 0.0]), np.array([0.5, 0.2, 0.3])).round(3).tolist()
        [0.3, 0.1]
    """
    posteriors = np.broadcast_to(posteriors, scores.shape)
    best = -np.sort(-posteriors, axis=-1)
    # Equal scores stand in the order of their probabilities, the smallest first.
    from_top = np.sort(-scores, axis=-1)
    apart = np.diff(from_top, axis=-1, prepend=from_top[..., :1]) > EQUAL
    level = np.cumsum(apart, axis=-1)
    own = np.argsort(np.argsort(-scores, axis=-1), axis=-1)
    level = np.take_along_axis(level, own, -1)
    order = np.lexsort((posteriors, level), axis=-1)
    got = np.take_along_axis(posteriors, order, -1)
    return (np.cumsum(best, -1) - np.cumsum(got, -1))[..., :-1]


def is_symmetric(
    loss: Callable[..., jax.Array],
    num_classes: int,
    setting: Mapping[str, float] = types.MappingProxyType({}),
    *,
    seed: int = 0,
) -> bool:
    """Whether the losses of all labels add up to the same, whatever the scores.

    Args:
        loss: as of `minimum`.
        num_classes: K.
        setting: hyperparameters of the loss.
        seed: of the scores that are tried.

    Returns:
        Whether they do, to 8 digits.

    Example:
        >>> from lnl_jax import losses
        >>> is_symmetric(losses.mean_absolute_error, 4), is_symmetric(losses.ldr_kl, 4)
        (True, False)
    """
    scores = np.random.default_rng(seed).normal(0, 3, (20, num_classes))
    with jax.enable_x64(True):
        add = jax.vmap(lambda f: loss(_rows(f), jnp.arange(num_classes), **setting).sum())
        sums = np.asarray(add(jnp.asarray(scores)))
    return bool(np.ptp(sums) <= 1e-8 * np.abs(sums).max())


def _read(posteriors: np.ndarray) -> np.ndarray:
    found = np.asarray(posteriors, np.float64)
    if found.ndim != 2 or found.shape[1] < 2 or not len(found):
        raise ValueError(f"posteriors must be of shape [Q, K], K at least 2; got {found.shape}.")
    if (
        not (np.isfinite(found).all() and (found >= 0).all())
        or (np.abs(found.sum(1) - 1) > 1e-6).any()
    ):
        raise ValueError("posteriors must be probabilities that add up to 1 in each row.")
    if (np.diff(np.sort(found, axis=1), axis=1) < 1e-6).any():
        raise ValueError("posteriors must be different in each row: equal ones have no order.")
    return found


def _rows(scores: jax.Array) -> jax.Array:
    return jnp.broadcast_to(scores, (scores.size, scores.size))


@functools.lru_cache(maxsize=32)
def _solver(loss: Callable[..., jax.Array]) -> Callable:
    """``(setting, posterior [Q, K], tie [Q, P, K], start [Q, S, K]) -> scores, risks, kinks``."""

    def solve(setting, posterior, tie, start):
        labels = jnp.arange(posterior.size)

        def risk(free):
            return posterior @ loss(_rows(free[tie]), labels, **setting)

        def step(free, _):
            slope, curvature = jax.grad(risk)(free), jax.hessian(risk)(free)
            held = ((free <= -BOX) & (slope > 0)) | ((free >= BOX) & (slope < 0))
            slope = jnp.where(held, 0, slope)
            curvature = jnp.where(held[:, None] | held[None], 0, curvature)
            sizes, axes = jnp.linalg.eigh(jnp.nan_to_num(curvature))
            sizes, own = jnp.abs(sizes), axes.T @ slope
            damping = jnp.maximum(DAMPING * sizes.max(), 1e-14)[:, None]
            newton = -(own[None] / (sizes[None] + damping)) @ axes.T
            # In a flat place: as far again as it is already.
            longest = 1 + jnp.abs(free).max()
            lengths = jnp.abs(newton).max(1, keepdims=True)
            newton *= jnp.minimum(1, longest / jnp.maximum(lengths, 1e-30))
            steepest = -slope * longest / jnp.maximum(jnp.abs(slope).max(), 1e-300)
            steps = jnp.concatenate(
                [
                    (PARTS[:, None, None] * newton[None]).reshape(-1, free.size),
                    SCALES[:, None] * steepest[None],
                ]
            )
            tried = jnp.clip(free[None] + steps, -BOX, BOX)
            risks = jnp.concatenate([risk(free)[None], jax.vmap(risk)(tried)])
            risks = jnp.where(jnp.isnan(risks), jnp.inf, risks)
            best = risks.argmin()
            return jnp.concatenate([free[None], tried])[best], best

        free, chosen = jax.lax.scan(step, start, None, length=ITERATIONS)
        slope = jnp.where(jnp.abs(free) < BOX, jax.grad(risk)(free), 0)
        # Steep, and yet no step goes down.
        kink = (jnp.abs(slope).max() > 1e-3) & (chosen[-1] == 0)
        return free[tie], risk(free), kink

    for axes in ((None, None, None, 0), (None, None, 0, None), (None, 0, 0, 0)):
        solve = jax.vmap(solve, axes)
    return jax.jit(solve)


def posteriors_of_order(number: int, num_classes: int, *, least: float, seed: int) -> np.ndarray:
    """Random posteriors whose probabilities are all apart, from even to peaked ones.

    Args:
        number: Q.
        num_classes: K.
        least: how far two of them are apart, and the smallest from 0, at least.
        seed: of the draw.

    Returns:
        ``[Q, K]``.

    Raises:
        ValueError: if so many classes cannot be so far apart.
    """
    check_integer("num_classes", num_classes, at_least=2)
    room = 1 - least * num_classes * (num_classes + 1) / 2
    check_number("least", least, above=0)
    if room <= 0:
        raise ValueError(
            f"least must be below {2 / (num_classes * (num_classes + 1)):.4f} for {num_classes} "
            f"classes that are so far apart, got {least:g}."
        )
    rng = np.random.default_rng(seed)
    # Sorted parts of a whole, with the steps of an even staircase below them.
    concentration = 10.0 ** rng.uniform(-0.5, 1, (number, 1))
    parts = rng.gamma(np.broadcast_to(concentration, (number, num_classes)))
    parts = np.sort(parts / parts.sum(1, keepdims=True), axis=1) * room
    found = parts + least * np.arange(1, num_classes + 1)
    return rng.permuted(found, axis=1)
