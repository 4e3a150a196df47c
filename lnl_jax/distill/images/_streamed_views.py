"""Views of distilled images that are decoded and augmented as a training goes through them."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax.distill.images._stitched import JpegSet, decoded_batches
from lnl_jax.distill.labels._geometry import Geometry, apply_geometry, draw_geometry, mixed_labels


def streamed_views(
    images: JpegSet,
    *,
    seed: int,
    epochs: int,
    batch_size: int,
    image_size: int,
    num_classes: int,
    min_area: float,
    augmented: bool = True,
    num_threads: int = 4,
) -> Iterator[dict[str, Any]]:
    """The batches of a training, on the device, as `train_students` takes them.

    Trainings on sets of the same size share the geometry, which is drawn again from the seed;
    without augmentation they share its order.

    Args:
        images: the distilled set.
        seed: of the geometry.
        epochs: passes over the set.
        batch_size: images in each batch; what does not fill one is left out of a pass.
        image_size: rows and columns.
        num_classes: K.
        min_area: of the crops, as a fraction.
        augmented: whether there are crops, mirrored ones and CutMix.
        num_threads: that decode.

    Yields:
        Dicts of `images` from 0 to 1, `mixed` classes ``[B, K]``, and the number of the `step`.
    """
    count = len(images.label)
    steps = count // batch_size
    settings = {"count": count, "batch_size": batch_size, "size": (image_size,) * 2}
    draw = _drawing(tuple(settings.items()), min_area)
    for epoch in range(epochs):
        geometry = jax.tree.map(np.asarray, draw(seed, epoch * steps + jnp.arange(steps)))
        if not augmented:
            geometry = _neutral(geometry)
        batches = decoded_batches(images, geometry.rows, num_threads=num_threads)
        for step, batch in enumerate(batches):
            one = jax.tree.map(lambda values, at=step: values[at], geometry)
            seen, mixed = _view(batch["image"], batch["label"], one, num_classes=num_classes)
            yield {"images": seen, "mixed": mixed, "step": epoch * steps + step}


@functools.lru_cache(maxsize=16)
def _drawing(settings: tuple[tuple[str, Any], ...], min_area: float) -> Callable:
    draw = functools.partial(draw_geometry, min_area=min_area, **dict(settings))
    return jax.jit(lambda seed, steps: jax.vmap(lambda step: draw(seed, step))(steps))


def _neutral(geometry: Geometry) -> Geometry:
    """The order alone: whole images, none mirrored or mixed."""
    zeros = jax.tree.map(np.zeros_like, geometry)
    boxes = zeros.boxes + np.array([0, 0, 1, 1], zeros.boxes.dtype)
    return zeros._replace(rows=geometry.rows, boxes=boxes)


@functools.partial(jax.jit, static_argnames="num_classes")
def _view(pixels, classes, geometry, *, num_classes):
    here = geometry._replace(rows=jnp.arange(len(pixels)))
    images = apply_geometry(pixels.astype(jnp.float32) / 255, here)
    return images, mixed_labels(classes, here, num_classes=num_classes)
