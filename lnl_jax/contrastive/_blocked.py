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


class Partial(NamedTuple):
    """`Sums` on their way: over the keys that an anchor has met so far, all ``[A]``.

    Attributes:
        top: the highest ``s_j / temperature``; ``-inf`` before the first negative.
        total: ``sum_j exp(s_j / temperature - top)``.
        weighted: the same sum with a factor ``s_j``.
        squares: ``sum_j exp(2 (s_j / temperature - top))``.
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
        scaled = jnp.where(negative, similarity / temperature[:, None], -jnp.inf)
        top = jax.lax.stop_gradient(jnp.maximum(self.top, scaled.max(-1)))
        held = jnp.where(top == -jnp.inf, 0, top)
        before = jnp.exp(self.top - held)
        weights = jnp.exp(scaled - held[:, None])
        return Partial(
            top,
            before * self.total + weights.sum(-1),
            before * self.weighted + (weights * jnp.where(negative, similarity, 0)).sum(-1),
            before * before * self.squares + (weights * weights).sum(-1),
            self.count + negative.sum(-1).astype(self.count.dtype),
        )

    def sums(self) -> Sums:
        """The sums over these keys."""
        some = ~(self.total == 0)
        top, total, squares = (
            jnp.where(some, part, 1) for part in (self.top, self.total, self.squares)
        )
        return Sums(
            jnp.where(some, top + jnp.log(total), -jnp.inf),
            self.weighted / total,
            jnp.where(some, 2 * top + jnp.log(squares), -jnp.inf),
            self.count,
        )


def sums_over(similarity: Array, negative: Array, temperature: Array) -> Sums:
    """The sums of given similarities ``[A, M]``."""
    return Partial.empty(temperature).with_keys(similarity, negative, temperature).sums()


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def blocked_sums(
    queries: Array, keys: Array, temperature: Array, pairs: Pairs, block_size: int
) -> Sums:
    """The sums, a tile of `block_size` anchors and some keys at a time; so is their gradient."""
    start = Partial.empty(temperature)
    return after_keys(start, queries, keys, temperature, pairs, block_size).sums()


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
    sums = blocked_sums(queries, keys, temperature, pairs, block_size)
    return sums, (queries, keys, temperature, pairs, sums.log_sum, sums.mean)


def backward(block_size: int, residuals: tuple, cotangents: Sums) -> tuple:
    """Gradients by anchors, keys and temperatures; keys may be a part of those that were summed."""
    queries, keys, temperature, pairs, log_sum, mean = residuals
    some = ~(log_sum == -jnp.inf)
    scale = jnp.where(some, cotangents.log_sum, 0) / temperature
    of_temperature = -scale * mean / temperature

    def slopes(similarity: Array, negative: Array, rows: tuple[Array, ...]) -> Array:
        temperature, log_sum, scale = (part[:, None] for part in rows)
        exponents = jnp.where(negative, similarity / temperature - log_sum, -jnp.inf)
        return scale * jnp.exp(exponents)

    # A row without negatives has no weights: all its exponents are -inf.
    rows = (temperature, jnp.where(some, log_sum, 0), scale)
    of_queries, of_keys = _tiles.pull_back(slopes, rows, queries, keys, pairs, block_size)
    return of_queries, of_keys, of_temperature, None


blocked_sums.defvjp(_forward, backward)
