"""Networks as the studies of noisy labels call them, in training and at any other time."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

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
            K]``, or ``[V, B, K]`` of that many random views of each example, with the classes along
            `class_axis`.
        scores: ``(params, stats, known, part) -> scores`` of all examples of a part, ``[N, K]``.
        class_axis: of `training_scores`, counted from the end.
    """

    num_classes: int
    stats: PyTree
    training_scores: Callable
    scores: Callable
    class_axis: int = -1


def initial_variables(
    model: Any, example: Any, seeds: Sequence[int], *, impl: str | None = None
) -> PyTree:
    """What all methods and settings start from: a model initialised for every data set.

    Args:
        model: a flax module.
        example: an input of it, a batch of one.
        seeds: one for each of the D data sets.
        impl: the generator, as of `jax.random.key`. XLA's own, ``"rbg"``, compiles the
            initialisation of a deep network in seconds instead of tens of seconds; its numbers
            differ between kinds of devices.

    Returns:
        The variables, arrays ``[D, ...]``.
    """
    init = jax.jit(lambda key: model.init(key, example))
    found = [init(jax.random.key(seed, impl=impl)) for seed in seeds]
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *found)


def hidden_widths(columns: int, num_classes: int) -> tuple[int, int]:
    """Those of the LDR paper's network of tables: columns or classes, whichever are fewer."""
    width = min(columns, num_classes)
    return width, width


def tabular(model: models.MLP) -> Network:
    """A network of numbers, ``part["x"]``; the views of a row are jittered.

    Args:
        model: ``[B, ...] -> [B, K]``, without batch statistics; features of a large network are
            such rows, too, and so are few small images.

    Returns:
        The `Network`, with the variables of the model as its parameters.
    """

    def training_scores(params, stats, known, batch, key, views):
        if views is None:
            return model.apply(params, batch["x"]), stats
        return jax.vmap(model.apply, (None, 0))(params, _views(batch["x"], key, views)), stats

    def scores(params, stats, known, part):
        return model.apply(params, part["x"])

    return Network(model.num_classes, (), training_scores, scores)


def tabular_in_lanes(model: models.LaneMLP) -> Network:
    """As `tabular`, with the examples last in training, which a CPU likes for small networks.

    Args:
        model: ``[columns, B] -> [K, B]``.

    Returns:
        The `Network`, whose training scores are ``[K, B]`` or ``[V, K, B]``.
    """

    def training_scores(params, stats, known, batch, key, views):
        if views is None:
            return model.apply(params, batch["x"].T), stats
        jittered = jnp.swapaxes(_views(batch["x"], key, views), 1, 2)
        return jax.vmap(model.apply, (None, 0))(params, jittered), stats

    def scores(params, stats, known, part):
        return model.apply(params, part["x"].T).T

    return Network(model.num_classes, (), training_scores, scores, class_axis=-2)


def _views(x: jax.Array, key: jax.Array, views: int) -> jax.Array:
    """Jittered copies, ``[V, B, features]``."""
    return x[None] + VIEW_JITTER * jax.random.normal(key, (views, *x.shape))
