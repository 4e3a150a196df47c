"""Data parallelism under `jax.jit`: the step sees the whole batch, the arrays are split."""

import collections
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

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


def local_mesh(num_devices: int | None = None) -> Mesh:
    """A mesh of one axis, ``"data"``, of the devices of this process only.

    Args:
        num_devices: the first so many, on which it computes by default; None takes all of them.

    Returns:
        The mesh, its axis of type Auto. Without other processes it is that of `data_mesh`.

    Example:
        >>> local_mesh() == data_mesh()
        True
    """
    return _mesh(jax.local_devices()[:num_devices])


def even_mesh(num_devices: int) -> Mesh:
    """A mesh of as many devices of each process, the first ones."""
    rank: dict[int, int] = collections.Counter()
    chosen = []
    for device in jax.devices():
        rank[device.process_index] += 1
        if rank[device.process_index] <= num_devices:
            chosen.append(device)
    return _mesh(chosen)


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
            return _copies(leaf, everywhere)
        # JAX puts no typed key on devices of other processes.
        data = _copies(jax.random.key_data(leaf), everywhere)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))

    return jax.tree.map(put, tree)


def _copies(leaf: Any, everywhere: NamedSharding) -> jax.Array:
    if everywhere.is_fully_addressable or not _is_here(leaf):
        return jax.device_put(leaf, everywhere)
    # Each process makes its own: JAX takes none that is bound to a device of this process, and of
    # all others it sends the whole through the network, to refuse what has a NaN in it.
    devices = [d for d in everywhere.mesh.devices.flat if d.process_index == jax.process_index()]
    copies = [jax.device_put(leaf, device) for device in devices]
    return jax.make_array_from_single_device_arrays(copies[0].shape, everywhere, copies)


def _is_here(leaf: Any) -> bool:
    """Whether this process has all of it."""
    return not isinstance(leaf, jax.Array) or leaf.is_fully_addressable


def placed(tree: PyTree, sharding: Sharding) -> PyTree:
    """Arrays that every process has whole, where a sharding has them: each process its own parts.

    Args:
        tree: a pytree of arrays, none of them typed keys, the same in each process.
        sharding: of all of them.

    Returns:
        The same arrays. What is on devices of several processes already, `jax.device_put` moves.
    """

    def put(leaf: Any) -> jax.Array:
        if sharding.is_fully_addressable or not _is_here(leaf):
            return jax.device_put(leaf, sharding)
        values = np.asarray(leaf)
        values = values.astype(jax.dtypes.canonicalize_dtype(values.dtype), copy=False)
        return jax.make_array_from_callback(values.shape, sharding, lambda part: values[part])

    return jax.tree.map(put, tree)


def on_this_process(tree: PyTree) -> PyTree:
    """Every array whole in this process, so that it can be read, indexed and saved by it alone.

    An array of devices of several processes is one only for all of them together: what is done with
    it, all have to do. One that every device has is taken from a device here, without a copy; one
    that is split is gathered, for which all processes must call this.

    Args:
        tree: a pytree of arrays, typed keys and whatever else.

    Returns:
        The same, with arrays of several processes as arrays of a device of this one.

    Example:
        >>> on_this_process({"x": jnp.ones(2)})["x"].tolist()
        [1.0, 1.0]
    """

    def take(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = take(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        if leaf.is_fully_replicated:
            return leaf.addressable_data(0)
        return jnp.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(take, tree)


def rows_of_this_process(tree: PyTree, mesh: Mesh, axis: int = 0) -> PyTree:
    """The share of this process of arrays that are to be split over a mesh.

    Args:
        tree: arrays with an axis of B, a multiple of the devices.
        mesh: from `data_mesh`, with as many devices of each process, one after the other.
        axis: which.

    Returns:
        Arrays with B / processes in its place; `whole_batch` puts them together.
    """
    places = [
        place
        for place, device in enumerate(mesh.devices.flat)
        if device.process_index == jax.process_index()
    ]

    def take(values: np.ndarray) -> np.ndarray:
        each = np.shape(values)[axis] // mesh.size
        return np.take(values, range(places[0] * each, (places[-1] + 1) * each), axis)

    return jax.tree.map(take, tree)


def whole_batch(tree: PyTree, mesh: Mesh) -> PyTree:
    """A batch over the devices of several processes, each of which has its own rows.

    Args:
        tree: arrays ``[B / processes, ...]`` on the host, as of `rows_of_this_process`.
        mesh: the same.

    Returns:
        Arrays ``[B, ...]``, split over the devices of the mesh.
    """
    split = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
    return jax.tree.map(
        lambda values: jax.make_array_from_process_local_data(split, np.asarray(values)), tree
    )
