"""Steps whose batches are split over the devices of a run."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from lnl_jax import train

Batches = Iterable[Mapping[str, Any]]


def over_devices(step: Callable, batches: Batches) -> tuple[Callable, Iterator]:
    """A step of `step_with` on batches that are split as `train.over_devices` has it.

    A run has trainings with batches of several sizes, such as one image of each class: what does
    not split stays on one device.

    Args:
        step: a `jax.tree_util.Partial`, whose constants are then on all devices, or a function.
        batches: the first one is looked at.

    Returns:
        The step, and the same batches.
    """
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        return step, iter(())
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(dict(first))}
    mesh = None
    if len(sizes) == 1 and () not in sizes:
        mesh = train.batch_mesh(*sizes.pop(), or_one=True)
    if mesh is not None:
        function, constants = getattr(step, "func", step), getattr(step, "args", ())
        split = _split(function, mesh)
        step = jax.tree_util.Partial(split, *train.replicate(constants, mesh))
    return step, _chained(first, batches)


def _chained(first: Mapping, others: Iterator[Mapping]) -> Iterator[Mapping]:
    yield first
    del first
    yield from others


@functools.lru_cache(maxsize=64)
def _split(step: Callable, mesh: Mesh) -> Callable:
    """One function for each, so that it is compiled once."""
    return train.data_parallel(step, mesh)
