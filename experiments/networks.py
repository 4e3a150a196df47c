"""Networks as the studies of noisy labels call them, in training and at any other time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lnl_jax import models

PyTree = Any

# Standard deviation of what tells the views of an example apart; numbers are about from 0 to 1.
VIEW_JITTER = 0.1


def _directly(loss: Callable, scores: jax.Array, *per_example: PyTree) -> PyTree:
    return loss(scores, *per_example)


class Network(NamedTuple):
    """A model in a study.

    Attributes:
        num_classes: K.
        stats: what is carried along beside the parameters, such as batch statistics; at the start.
        training_scores: ``(params, stats, known, batch, key, views) -> (scores, stats)``: ``[B,
            K]``, or ``[V, B, K]`` of that many random views of each example.
        scores: ``(params, stats, known, part) -> scores`` of all examples of a part, ``[N, K]``.
        apply_loss: ``(loss, scores, *per_example) -> losses``, ``[B]``: how a function of scores
            with the classes last is applied to `training_scores`.
    """

    num_classes: int
    stats: PyTree
    training_scores: Callable
    scores: Callable
    apply_loss: Callable = _directly


def tabular(model: models.MLP) -> Network:
    """A network of rows of numbers, ``part["x"]``; the views of a row are jittered."""

    def training_scores(params, stats, known, batch, key, views):
        if views is None:
            return model.apply(params, batch["x"]), stats
        return jax.vmap(model.apply, (None, 0))(params, _views(batch["x"], key, views)), stats

    def scores(params, stats, known, part):
        return model.apply(params, part["x"])

    return Network(model.num_classes, (), training_scores, scores)


def tabular_in_lanes(model: models.LaneMLP) -> Network:
    """`tabular` with the examples last in training, ``[K, B]`` or ``[V, K, B]``."""

    def training_scores(params, stats, known, batch, key, views):
        if views is None:
            return model.apply(params, batch["x"].T), stats
        jittered = jnp.swapaxes(_views(batch["x"], key, views), 1, 2)
        return jax.vmap(model.apply, (None, 0))(params, jittered), stats

    def scores(params, stats, known, part):
        return model.apply(params, part["x"].T).T

    def apply_loss(loss, scores, *per_example):
        # A loss is one per example; mapped over the last axis it keeps the layout of the scores.
        return jax.vmap(loss, (-1, *[0] * len(per_example)))(scores, *per_example)

    return Network(model.num_classes, (), training_scores, scores, apply_loss)


def _views(x: jax.Array, key: jax.Array, views: int) -> jax.Array:
    """Jittered copies, ``[V, B, features]``."""
    return x[None] + VIEW_JITTER * jax.random.normal(key, (views, *x.shape))
