"""What contrastive losses sum over the keys of each anchor, all at once or in tiles."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lnl_jax.contrastive import _tiles
from lnl_jax.contrastive._tiles import Pairs


class Sums(NamedTuple):
    """Over the negatives of each anchor, all ``[A]``.

    Attributes:
        log_sum: ``log sum_j exp(s_j / temperature)``; ``-inf`` without negatives.
        mean: the similarity under these weights, 0 without negatives.
        log_sum_squares: ``log sum_j exp(2 s_j / temperature)``.
        count: how many there are.
    """

    log_sum: Array
    mean: Array
    log_sum_squares: Array
    count: Array


def log_sums(
    queries: Array, keys: Array, temperature: Array, pairs: Pairs, block_size: int | None
) -> Sums:
    """The sums of all anchors. Gradients flow through `log_sum` only."""
    if block_size is None:
        similarity = _tiles.similarities(queries, keys)
        sums = sums_over(similarity, _tiles.is_negative(pairs, similarity.shape), temperature)
    else:
        queries, keys, temperature = _tiles.equally_varying(queries, keys, temperature)
        sums = blocked_sums(queries, keys, temperature, pairs, block_size)
    return Sums(sums.log_sum, *jax.lax.stop_gradient(tuple(sums[1:])))


@jax.custom_jvp
def _exp_quotient(below: Array, temperature: Array) -> Array:
    """``exp(below / temperature)``, with a derivative by the temperature where that is 0."""
    return jnp.exp(below / temperature)


@_exp_quotient.defjvp
def _of_exp_quotient(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (below, temperature), (of_below, of_temperature) = primals, tangents
    value = _exp_quotient(below, temperature)
    finite = jnp.where(below == -jnp.inf, 0, below)
    return value, value * (of_below - finite / temperature * of_temperature) / temperature


class Partial(NamedTuple):
    """`Sums` on their way: over the keys that an anchor has met so far, all ``[A]``.

    Similarities are compared before they are divided: large ones differ by less than what their
    quotient by the temperature is rounded by.

    Attributes:
        top: the highest ``s_j``; ``-inf`` before the first negative.
        total: ``sum_j exp((s_j - top) / temperature)``.
        weighted: the same sum with a factor ``s_j``.
        squares: ``sum_j exp(2 (s_j - top) / temperature)``.
        count: how many negatives there were.
    """

    top: Array
    total: Array
    weighted: Array
    squares: Array
    count: Array

    @classmethod
    def empty(cls, like: Array) -> "Partial":
        """Of no keys."""
        zero = jnp.zeros_like(like)
        return cls(zero - jnp.inf, zero, zero, zero, zero)

    def with_keys(self, similarity: Array, negative: Array, temperature: Array) -> "Partial":
        """After more keys, of similarity ``[A, M]``."""
        masked = jnp.where(negative, similarity, -jnp.inf)
        top = jax.lax.stop_gradient(jnp.maximum(self.top, masked.max(-1)))
        held = jnp.where(top == -jnp.inf, 0, top)
        before = _exp_quotient(self.top - held, temperature)
        weights = _exp_quotient(masked - held[:, None], temperature[:, None])
        return Partial(
            top,
            before * self.total + weights.sum(-1),
            before * self.weighted + (weights * jnp.where(negative, similarity, 0)).sum(-1),
            before * before * self.squares + (weights * weights).sum(-1),
            self.count + negative.sum(-1).astype(self.count.dtype),
        )

    def levels(self) -> tuple[Array, Array, Array]:
        """`top` and the logarithm of `total`, 0 for anchors without negatives; the other anchors.

        Apart, as a sum of them would have lost what tells the weights of large similarities.
        """
        some = ~(self.total == 0)
        return jnp.where(some, self.top, 0), jnp.log(jnp.where(some, self.total, 1)), some

    def sums(self, temperature: Array) -> Sums:
        """The sums over these keys."""
        top, log_total, some = self.levels()
        total, squares = (jnp.where(some, part, 1) for part in (self.total, self.squares))
        top = top / temperature
        return Sums(
            jnp.where(some, top + log_total, -jnp.inf),
            self.weighted / total,
            jnp.where(some, 2 * top + jnp.log(squares), -jnp.inf),
            self.count,
        )


def sums_over(similarity: Array, negative: Array, temperature: Array) -> Sums:
    """The sums of given similarities ``[A, M]``."""
    return Partial.empty(temperature).with_keys(similarity, negative, temperature).sums(temperature)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def blocked_sums(
    queries: Array, keys: Array, temperature: Array, pairs: Pairs, block_size: int
) -> Sums:
    """The sums, a tile of `block_size` anchors and some keys at a time; so is their gradient."""
    start = Partial.empty(temperature)
    return after_keys(start, queries, keys, temperature, pairs, block_size).sums(temperature)


def after_keys(
    partial: Partial,
    queries: Array,
    keys: Array,
    temperature: Array,
    pairs: Pairs,
    block_size: int,
) -> Partial:
    """The sums after these keys, a tile at a time."""
    return _tiles.fold_tiles(
        Partial.with_keys, partial, temperature, queries, keys, pairs, block_size
    )


def _forward(
    queries: Array, keys: Array, temperature: Array, pairs: Pairs, block_size: int
) -> tuple[Sums, tuple]:
    # Not `blocked_sums`: a derivative of these residuals must not meet its rule.
    start = Partial.empty(temperature)
    partial = after_keys(start, queries, keys, temperature, pairs, block_size)
    return partial.sums(temperature), residuals(partial, queries, keys, temperature, pairs)


def residuals(
    partial: Partial, queries: Array, keys: Array, temperature: Array, pairs: Pairs
) -> tuple:
    """What `backward` needs, once `partial` has met all keys."""
    return queries, keys, temperature, pairs, partial.levels(), partial.sums(temperature).mean


def backward(block_size: int, residuals: tuple, cotangents: Sums) -> tuple:
    """Gradients by anchors, keys and temperatures; keys may be a part of those that were summed."""
    queries, keys, temperature, pairs, (top, log_total, some), mean = residuals
    scale = jnp.where(some, cotangents.log_sum, 0) / temperature
    of_temperature = -scale * mean / temperature

    def slopes(similarity: Array, negative: Array, rows: tuple[Array, ...]) -> Array:
        temperature, top, log_total, scale = (part[:, None] for part in rows)
        below = similarity - top
        # Products that are made again may round to more than the highest.
        below = jnp.where(negative & ~(below > 0), below, 0)
        return scale * jnp.exp(jnp.where(negative, below / temperature - log_total, -jnp.inf))

    rows = (temperature, top, log_total, scale)
    of_queries, of_keys = _tiles.pull_back(slopes, rows, queries, keys, pairs, block_size)
    return of_queries, of_keys, of_temperature, None


blocked_sums.defvjp(_forward, backward)
