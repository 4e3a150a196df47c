"""Steps whose batches are split over the devices of a run."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from lnl_jax import train

Batches = Iterable[Mapping[str, Any]]


def mesh_for(batches: Batches) -> tuple[Mesh | None, Iterator[Mapping[str, Any]]]:
    """The mesh over which batches are split, as `train.over_devices` has it.

    A run has trainings with batches of several sizes, such as one image of each class: what does
    not split stays on one device.

    Args:
        batches: the first one is looked at.

    Returns:
        The mesh, None for one device; and the same batches.
    """
    batches = iter(batches)
    first = list(itertools.islice(batches, 1))
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves([dict(batch) for batch in first])}
    mesh = None
    if len(sizes) == 1 and () not in sizes:
        mesh = train.batch_mesh(*sizes.pop(), or_one=True, local=True)
    return mesh, itertools.chain(first, batches)


def on_mesh(step: Callable, mesh: Mesh | None) -> Callable:
    """A step whose batches are split over a mesh.

    Args:
        step: of `step_with`, whose constants are then on all devices.
        mesh: None leaves the step as it is.

    Returns:
        The step.
    """
    if mesh is None:
        return step
    function, constants = getattr(step, "func", step), getattr(step, "args", ())
    return jax.tree_util.Partial(_split(function, mesh), *train.replicate(constants, mesh))


@functools.lru_cache(maxsize=64)
def _split(step: Callable, mesh: Mesh) -> Callable:
    """One function for each, so that it is compiled once."""
    return train.data_parallel(step, mesh)
