"""Networks as the studies of noisy labels call them, in training and at any other time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from lnl_jax import models

PyTree = Any

# Standard deviation of what tells the views of an example apart; numbers are about from 0 to 1.
VIEW_JITTER = 0.1


class Network(NamedTuple):
    """A model in a study.

    Attributes:
        num_classes: K.
        stats: what is carried along beside the parameters, such as batch statistics; at the start.
        training_scores: ``(params, stats, known, batch, key, views) -> (scores, stats)``: ``[B,
            K]``, or ``[V, B, K]`` of that many random views of each example.
        scores: ``(params, stats, known, part) -> scores`` of all examples of a part, ``[N, K]``.
    """

    num_classes: int
    stats: PyTree
    training_scores: Callable
    scores: Callable


def tabular(model: models.MLP) -> Network:
    """A network of rows of numbers, ``part["x"]``; the views of a row are jittered."""

    def training_scores(params, stats, known, batch, key, views):
        if views is None:
            return model.apply(params, batch["x"]), stats
        x = batch["x"]
        jittered = x[None] + VIEW_JITTER * jax.random.normal(key, (views, *x.shape))
        return jax.vmap(model.apply, (None, 0))(params, jittered), stats

    def scores(params, stats, known, part):
        return model.apply(params, part["x"])

    return Network(model.num_classes, (), training_scores, scores)
