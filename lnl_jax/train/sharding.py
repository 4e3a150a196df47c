"""Data parallelism under `jax.jit`: the step sees the whole batch, the arrays are split."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lnl_jax._host_arguments import check_integer

PyTree = Any
DATA_AXIS = "data"


def data_mesh(num_devices: int | None = None) -> Mesh:
    """A mesh of one axis, ``"data"``.

    Args:
        num_devices: the first so many of `jax.devices()`; None takes all of them.

    Returns:
        The mesh, its axis of type Auto: the compiler then places the collectives.

    Raises:
        ValueError: if there are fewer devices.
    """
    devices = jax.devices()
    if num_devices is not None:
        check_integer("num_devices", num_devices, at_most=len(devices))
    return _mesh(devices[:num_devices])


def local_mesh() -> Mesh:
    """A mesh of one axis, ``"data"``, of the devices of this process only.

    Returns:
        The mesh, its axis of type Auto. Without other processes it is that of `data_mesh`.

    Example:
        >>> local_mesh() == data_mesh()
        True
    """
    return _mesh(jax.local_devices())


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.asarray(devices), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def shard_batch(batch: PyTree, mesh: Mesh) -> PyTree:
    """Splits the leading axis of every array over the devices of the mesh.

    Args:
        batch: a pytree of arrays ``[B, ...]``.
        mesh: from `data_mesh`.

    Returns:
        The same arrays, split.

    Raises:
        ValueError: if B is not a multiple of the number of devices; pad the batch and mask; or
            if it holds a scalar, or the mesh has other axes.
    """
    for leaf in jax.tree.leaves(batch):
        if not np.ndim(leaf):
            raise ValueError("batch holds a scalar, which has no examples to split; take it out.")
        if len(leaf) % mesh.size:
            raise ValueError(
                f"the batch has {len(leaf)} examples, not a multiple of {mesh.size} devices; pad "
                "it, with mask false for the padding."
            )
    return split_rows(batch, mesh)


def check_mesh(mesh: Mesh) -> None:
    """Raises ValueError unless the mesh has the one axis over which arrays are split."""
    if mesh.axis_names != (DATA_AXIS,):
        raise ValueError(
            f"mesh must have the one axis {DATA_AXIS!r}, got {mesh.axis_names}; make it with "
            "lnl_jax.train.data_mesh."
        )


def split_rows(tree: PyTree, mesh: Mesh) -> PyTree:
    """Splits the leading axis of arrays whose lengths were checked."""
    check_mesh(mesh)
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(DATA_AXIS)))


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Puts a copy of every array, such as a `TrainState`, on each device of the mesh.

    Args:
        tree: a pytree of arrays and typed keys; where the mesh has devices of several processes,
            the same in each.
        mesh: from `data_mesh`.

    Returns:
        The same arrays, replicated.
    """
    everywhere = NamedSharding(mesh, PartitionSpec())

    def put(leaf: Any) -> Any:
        if not jnp.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key):
            return jax.device_put(leaf, everywhere)
        # JAX puts no typed key on devices of other processes.
        data = jax.device_put(jax.random.key_data(leaf), everywhere)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))

    return jax.tree.map(put, tree)
