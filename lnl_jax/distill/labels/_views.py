"""All views that a training sees, drawn beforehand: crops and CutMix, with their mixed classes."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax.distill.labels._geometry import Geometry, apply_geometry, draw_geometry, mixed_labels

# Random numbers take XLA many seconds to compile; so many steps are drawn by one program.
STEPS_AT_ONCE = 50


class Views(NamedTuple):
    """What happens to a set of images in every step of a training.

    Attributes:
        images: as the network sees them, ``[steps, B, H, W, C]``.
        mixed: the classes, mixed by area, ``[steps, B, K]``.
        geometry: a `Geometry` whose arrays have a leading axis of steps.
    """

    images: np.ndarray
    mixed: np.ndarray
    geometry: Geometry


def draw_views(
    images: np.ndarray,
    classes: np.ndarray,
    *,
    seed: int,
    steps: int,
    batch_size: int,
    num_classes: int,
    min_area: float = 0.5,
    alpha: float = 1.0,
    flip_rate: float = 0.0,
) -> Views:
    """The views of all steps: a pure function of images and seed, so nothing of it is stored.

    Args:
        images: ``[N, H, W, C]``.
        classes: integers, ``[N]``.
        seed: of the geometry.
        steps: how many.
        batch_size: images in each.
        num_classes: K.
        min_area: of the crops, as a fraction.
        alpha: of CutMix.
        flip_rate: of the crops that are mirrored; digits must not be.

    Returns:
        The views.
    """
    settings = {"count": len(images), "batch_size": batch_size, "size": images.shape[1:3]}
    settings |= {"min_area": min_area, "alpha": alpha, "flip_rate": flip_rate}
    program = _program(num_classes, tuple(settings.items()))
    images, classes = jnp.asarray(images), jnp.asarray(classes)
    starts = range(0, steps, STEPS_AT_ONCE)
    found = [
        jax.tree.map(np.asarray, program(images, classes, seed, start + jnp.arange(STEPS_AT_ONCE)))
        for start in starts
    ]
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:steps], *found)


@functools.lru_cache(maxsize=64)
def _program(num_classes: int, settings: tuple[tuple[str, Any], ...]):
    @jax.jit
    def program(images, classes, seed, steps):
        def one(step):
            geometry = draw_geometry(seed, step, **dict(settings))
            mixed = mixed_labels(classes, geometry, num_classes=num_classes)
            return Views(apply_geometry(images, geometry), mixed, geometry)

        return jax.vmap(one)(steps)

    return program


def view_batches(views: Views) -> Iterator[dict[str, Any]]:
    """The batches of a training, as `train_students` and sources of labels take them.

    Args:
        views: of all steps.

    Yields:
        Dicts of `images`, `mixed` and the number of the `step`.
    """
    for step, (images, mixed) in enumerate(zip(views.images, views.mixed, strict=True)):
        yield {"images": images, "mixed": mixed, "step": step}


def in_order(views: Views, steps: np.ndarray) -> Views:
    """The views of these steps, such as those of a pool that is gone through again and again.

    Args:
        views: of all steps.
        steps: their numbers.

    Returns:
        The views in that order.
    """
    return jax.tree.map(lambda values: values[steps], views)


def step_geometry(views: Views, step: int) -> Geometry:
    """That of one step, as of `draw_geometry`.

    Args:
        views: of all steps.
        step: its number.

    Returns:
        The geometry.
    """
    return jax.tree.map(lambda values: values[step], views.geometry)
