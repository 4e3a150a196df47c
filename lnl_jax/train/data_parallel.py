"""A step whose batch is split over the devices of a mesh, wherever it is run."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lnl_jax.train.sharding import DATA_AXIS, check_mesh
from lnl_jax.train.step import TrainState

PyTree = Any


def data_parallel(
    step: Callable[..., tuple[PyTree, dict]], mesh: Mesh | None, *, split_tables: bool = False
) -> Callable[..., tuple[PyTree, dict]]:
    """Splits the batch of a step over the devices of a mesh; each holds a copy of the state.

    The step is written over the whole batch, as `make_train_step` makes it, and stays so: the
    compiler splits the work and places the sums over devices, so that the numbers are those of one
    device up to the order of sums. It holds in `jax.jit`, in `jax.lax.scan`, and in all loops
    here, which need not know of it. Put a data set that is gathered from on all devices once, by
    `replicate`; else it is sent with every call.

    Args:
        step: ``(..., state, batch) -> (state, metrics)``, with a dict of ``[B, ...]`` arrays as
            its last argument.
        mesh: from `data_mesh` or `batch_mesh`; None returns the step as it is, for one device.
        split_tables: whether the rows of the tables of a `TrainState` are split over the devices
            as well, each having its share of the examples, for tables that are larger than a
            device; else each has all.

    Returns:
        The step, which raises ValueError when it is traced, if B is not a multiple of the number
        of devices, or N is not where tables are split.

    Raises:
        ValueError: if the mesh has other axes.

    Example:
        >>> import jax.numpy as jnp
        >>> from lnl_jax.train import data_mesh
        >>> def step(state, batch):
        ...     return state + batch["x"].sum(), {}
        >>> mesh = data_mesh()
        >>> parallel = jax.jit(data_parallel(step, mesh))
        >>> state, _ = parallel(jnp.float32(0), {"x": jnp.ones(mesh.size)})
        >>> float(state) == len(state.sharding.device_set) == len(jax.devices())
        True
    """
    if mesh is None:
        return step
    check_mesh(mesh)

    def on_all(*arguments: Any) -> tuple[PyTree, dict]:
        *others, state, batch = arguments
        state = _placed(state, mesh, split_tables)
        state, metrics = step(*others, state, _split("the batch", "examples", dict(batch), mesh))
        return _placed(state, mesh, split_tables), metrics

    return on_all


def _placed(state: PyTree, mesh: Mesh, split_tables: bool) -> PyTree:
    if not split_tables:
        return _everywhere(state, mesh)
    is_state = lambda node: isinstance(node, TrainState)  # noqa: E731

    def place(node: Any) -> Any:
        if not is_state(node):
            return _everywhere(node, mesh)
        tables = _split("the tables", "rows", node.tables, mesh)
        return _everywhere(node._replace(tables=()), mesh)._replace(tables=tables)

    return jax.tree.map(place, state, is_leaf=is_state)


def _everywhere(tree: PyTree, mesh: Mesh) -> PyTree:
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec()))


def _split(what: str, entries: str, tree: PyTree | Mapping, mesh: Mesh) -> PyTree:
    for leaf in jax.tree.leaves(tree):
        if not np.ndim(leaf) or len(leaf) % mesh.size:
            count = len(leaf) if np.ndim(leaf) else "no"
            raise ValueError(
                f"{what} must have a multiple of {mesh.size} {entries}, one share for each device "
                f"of the mesh; got {count}. Pad, with mask false for the padding."
            )
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec(DATA_AXIS)))
