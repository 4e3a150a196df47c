"""Encoders of images that are trained by contrast: views, LARS, features of whole sets."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lnl_jax import evaluation, models
from lnl_jax.comparison.image_networks import in_chunks
from lnl_jax.data import augment

PyTree = Any
# (params, extra, batch, key) -> (views of unit norm [2, B, d], extra)
Embed = Callable[..., tuple[jax.Array, PyTree]]


def lars(schedule: optax.Schedule, weight_decay: float) -> optax.GradientTransformation:
    """LARS for kernels; scales, shifts and biases get plain momentum.

    Args:
        schedule: the learning rate at each step.
        weight_decay: of kernels.
    """

    def kernels(params):
        return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    return optax.lars(schedule, weight_decay, kernels, trust_ratio_mask=kernels, momentum=0.9)


def embed_views(
    network: models.ProjectedEncoder, mean: np.ndarray, std: np.ndarray, *, padded: bool
) -> Embed:
    """Two views of each image, their embeddings, and new batch statistics.

    Args:
        network: encoder and projector.
        mean: of each channel.
        std: likewise.
        padded: whether batches have padding, which must not enter the batch statistics.
    """

    def embed(params, stats, batch, key):
        views = [augment.simclr_view(one, batch["image"]) for one in jax.random.split(key)]
        images = augment.to_float(jnp.concatenate(views), mean, std)
        mask = jnp.tile(batch["mask"], 2) if padded else None
        (_, embeddings), updated = network.apply(
            {"params": params, "batch_stats": stats},
            images,
            train=True,
            mask=mask,
            mutable=["batch_stats"],
        )
        views = evaluation.unit_rows(embeddings).reshape(2, -1, embeddings.shape[-1])
        return views, updated["batch_stats"]

    return embed


def features_of(
    network: models.ProjectedEncoder,
    variables: PyTree,
    image: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
) -> jax.Array:
    """The encoder's features of images, a chunk at a time, ``[N, D]``.

    Args:
        network: encoder and projector.
        variables: its parameters and batch statistics.
        image: ``[N, H, W, C]``.
        mean: of each channel.
        std: likewise.
    """

    @jax.jit
    def encode(variables, images):
        return in_chunks(
            lambda some: network.apply(variables, augment.to_float(some, mean, std))[0], images
        )

    return encode(variables, jnp.asarray(image))
