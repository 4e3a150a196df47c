"""Distilled images that are optimised: recovered from noise, or updated."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from lnl_jax._arguments import check_range
from lnl_jax._host_arguments import check_integer
from lnl_jax.distill.images._patches import check_factor, shrunk


def recover(
    objective: Callable[[Array, Array, Array], Array],
    shape: tuple[int, ...],
    key: Array,
    *,
    steps: int = 4000,
    learning_rate: float = 0.25,
    low: Array | float = 0.0,
    high: Array | float = 1.0,
    start: Array | None = None,
) -> Array:
    """SRe2L's recovery: images from noise that a teacher takes for real ones of their class.

    Adam with betas 0.5 and 0.9, the learning rate falls to 0 by a cosine; pixels are clipped after
    each step. The last iterate counts, as in the official code.

    Args:
        objective: ``(images, key, step)`` to a loss: cross-entropy of a random view plus a small
            multiple of `batch_norm_gap`, both of `batch_norm_statistics`.
        shape: of the images, ``[B, H, W, C]``.
        key: of the random numbers.
        steps: of Adam, at least 1.
        learning_rate: the first, above 0.
        low: smallest pixel, broadcasts to the images.
        high: largest pixel, above `low`.
        start: where to begin; None for standard normal pixels.

    Returns:
        The images.

    Raises:
        ValueError: if a number is out of range, or `start` has another shape.

    References:
        Yin et al., "Squeeze, Recover and Relabel: Dataset Condensation at ImageNet Scale From A New
        Perspective" (SRe2L, NeurIPS 2023), section 3.2.
    """
    _check_descent(steps, learning_rate, at_least=1)
    if not (np.asarray(low) < np.asarray(high)).all():
        raise ValueError(f"low must be below high, got {low} and {high}.")
    if start is not None and jnp.shape(start) != tuple(shape):
        raise ValueError(f"start must have the shape {tuple(shape)}, got {jnp.shape(start)}.")
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, steps), b1=0.5, b2=0.9)
    begin, key = jax.random.split(key)
    images = jax.random.normal(begin, shape) if start is None else start

    @jax.jit
    def descend(images, state, key, step):
        gradient = jax.grad(objective)(images, jax.random.fold_in(key, step), step)
        update, state = tx.update(gradient, state)
        return jnp.clip(images + update, low, high), state

    state = tx.init(images)
    for step in range(steps):
        images, state = descend(images, state, key, jnp.int32(step))
    return images


def image_update(
    encode: Callable[[Array], Array],
    images: Array,
    *,
    factor: int = 2,
    steps: int = 50,
    learning_rate: float = 0.01,
) -> Array:
    r"""HeLlO's update: low-resolution patches whose features are those of the originals.

    .. math:: \min_q \lVert E(\mathrm{up}(q)) - E(p) \rVert^2, \qquad q_0 = \mathrm{down}(p)

    The features of the originals are fixed: were both sides free, blurring would solve it.

    Args:
        encode: the image tower, images to features.
        images: p, ``[B, H, W, C]``; `factor` divides H and W.
        factor: by which q is smaller, at least 1.
        steps: of Adam; 0 gives up(down(p)).
        learning_rate: of Adam, above 0.

    Returns:
        up(q), with the shape of `images`.

    Raises:
        ValueError: if a number is out of range, or `factor` does not divide the sides.

    References:
        "Heavy Labels Out! Dataset Distillation with Label Space Lightening" (HeLlO, ICCV 2025), the
        image update, in our reading; the paper gains 0.1 points by it.
    """
    _check_descent(steps, learning_rate, at_least=0)
    check_factor(factor, images)
    target = encode(images)
    tx = optax.adam(learning_rate)

    def loss(small):
        return jnp.square(encode(_enlarged(small, images.shape)) - target).mean(-1).sum()

    @jax.jit
    def descend(small, state):
        update, state = tx.update(jax.grad(loss)(small), state)
        return small + update, state

    small = shrunk(images, factor)
    state = tx.init(small)
    for _ in range(steps):
        small, state = descend(small, state)
    return _enlarged(small, images.shape)


def _check_descent(steps: int, learning_rate: float, *, at_least: int) -> None:
    check_integer("steps", steps, at_least=at_least)
    check_range("learning_rate", learning_rate, above=0, below=np.inf)


def _enlarged(images: Array, shape: tuple[int, ...]) -> Array:
    return jax.image.resize(images, shape, "bilinear")
