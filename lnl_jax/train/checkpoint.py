"""Checkpoints of any pytree of arrays: save in the background, restore bitwise, survive a kill.

A pytree is stored as a flat dict from leaf path to array, so what Orbax cannot express (named
tuples, static fields, empty tuples, arrays without elements) comes from the `like` of the restore.
"""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax._extras import require
from lnl_jax._host_arguments import check_integer
from lnl_jax.train.tables import is_table

if TYPE_CHECKING:
    from orbax.checkpoint import CheckpointManager

PyTree = Any


def open_checkpoints(directory: str | pathlib.Path, *, keep: int = 1) -> CheckpointManager:
    """Opens a folder of checkpoints, creating it where needed.

    Leave it with `manager.close()`, which waits for the save in progress.

    Args:
      directory: the folder.
      keep: how many of the newest checkpoints stay on disk, at least 1.

    Returns:
      An Orbax `CheckpointManager`.

    Raises:
      ValueError: if `keep` is no such number, or `directory` is a file.
    """
    check_integer("keep", keep)
    if pathlib.Path(directory).is_file():
        raise ValueError(f"directory must be a folder, {directory} is a file.")
    require("orbax")
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(
        preservation_policy=ocp.checkpoint_managers.LatestN(keep),
        cleanup_tmp_directories=True,  # what a killed save left behind
        enable_background_delete=True,
        save_root_metadata=False,
        # One rename makes the checkpoint visible, so a kill leaves the whole of it or nothing.
        atomicity_options=ocp.options.AtomicityOptions(
            mode=ocp.options.AtomicityMode.ATOMIC_RENAME
        ),
    )
    # Named handlers let a manager read what another process wrote before it saves anything itself.
    handlers = {"state": ocp.StandardCheckpointHandler(), "metadata": ocp.JsonCheckpointHandler()}
    path = pathlib.Path(directory).absolute()
    return ocp.CheckpointManager(path, options=options, item_handlers=handlers)


def save(manager: CheckpointManager, step: int, state: PyTree, metadata: dict) -> None:
    """Saves a state in the background; the caller may donate or overwrite its arrays at once.

    An error of the previous background save is raised here, or by `manager.wait_until_finished()`.

    Args:
      manager: from `open_checkpoints`.
      step: an integer from 0, larger than every step saved before.
      state: a pytree whose leaves are arrays, typed PRNG keys or Python numbers.
      metadata: a dict of JSON values, kept with the state; numbers and arrays of NumPy and JAX
        become numbers and lists, tuples become lists.

    Raises:
      ValueError: if a leaf or a value of the metadata is none of these, or the step is no integer
        or not larger than the last one.
    """
    require("orbax")
    import orbax.checkpoint as ocp

    step = step.item() if isinstance(step, jax.Array) and not step.ndim else step
    check_integer("step", step, at_least=0)
    if not isinstance(metadata, dict):
        raise ValueError(f"metadata must be a dict, got a {type(metadata).__name__}.")
    # Checked here: what JSON cannot hold would be found in the background, after the return.
    metadata = _as_json("metadata", metadata)
    latest = manager.latest_step()
    if latest is not None and step <= latest:
        raise ValueError(f"step {step} is not after the last saved step {latest}.")
    leaves = _named_leaves(state)
    described = _described(state, leaves)
    manager.save(
        int(step),
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(_stored(leaves)),
            metadata=ocp.args.JsonSave({"leaves": described, "user": metadata}),
        ),
        force=True,
    )


def latest_metadata(manager: CheckpointManager) -> dict | None:
    """The metadata of the newest checkpoint.

    Args:
      manager: from `open_checkpoints`.

    Returns:
      What `save` was given, or None where nothing was saved.
    """
    step = manager.latest_step()
    return None if step is None else _read_json(manager, step)["user"]


def restore_latest(manager: CheckpointManager, like: PyTree) -> tuple[int, PyTree, dict] | None:
    """Restores the newest checkpoint in the form of `like`.

    Args:
      manager: from `open_checkpoints`.
      like: a pytree of the structure, shapes and dtypes of the saved one: the freshly initialised
        state, or the `jax.ShapeDtypeStruct` of each leaf. Its shardings decide where the arrays go;
        where it has none, they go back where they were.

    Returns:
      The step, the state (bitwise the saved one) and the metadata; None where nothing was saved.

    Raises:
      ValueError: if the saved leaves are not those of `like`.
    """
    require("orbax")
    import orbax.checkpoint as ocp

    step = manager.latest_step()
    if step is None:
        return None
    json = _read_json(manager, step)
    leaves = _named_leaves(like)
    _check_same(json["leaves"], _described(like, leaves), manager.directory)
    targets = {name: _target(leaf) for name, leaf in _stored(leaves).items()}
    args = ocp.args.Composite(state=ocp.args.StandardRestore(targets))
    restored = manager.restore(step, args=args)["state"]
    values = [
        _in_the_form_of(leaf, restored[name]) if name in restored else _without_elements(leaf)
        for name, leaf in leaves.items()
    ]
    return step, jax.tree.unflatten(jax.tree.structure(like), values), json["user"]


def _as_json(name: str, value: Any) -> Any:
    """A value of plain Python that JSON holds.

    Raises:
      ValueError: if it has no such form; names the place.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        unnamed = [key for key in value if not isinstance(key, str)]
        if unnamed:
            raise ValueError(f"{name} must have strings as keys, got {unnamed[0]!r}.")
        return {key: _as_json(f"{name}[{key!r}]", one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(f"{name}[{place}]", one) for place, one in enumerate(value)]
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        if jnp.issubdtype(value.dtype, jnp.floating):
            return np.asarray(value, np.float64).tolist()
        if getattr(value.dtype, "kind", "V") in "biuU":
            return np.asarray(value).tolist()
    raise ValueError(
        f"{name} must be text, a number or a list or dict of them, got a {type(value).__name__}; "
        "arrays that are not small belong into the state."
    )


def _read_json(manager: CheckpointManager, step: int) -> dict:
    require("orbax")
    import orbax.checkpoint as ocp

    args = ocp.args.Composite(metadata=ocp.args.JsonRestore())
    return manager.restore(step, args=args)["metadata"]


def _named_leaves(tree: PyTree) -> dict[str, Any]:
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path) or "state": leaf for path, leaf in paths}


def _described(tree: PyTree, leaves: dict[str, Any]) -> dict[str, str]:
    """What must be the same: the types of the leaves, and whose rows the tables hold."""
    found = {name: _describe(name, leaf) for name, leaf in leaves.items()}
    for path, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_table):
        if is_table(node) and node.fingerprint:
            found[f"{jax.tree_util.keystr(path)}.fingerprint"] = node.fingerprint
    return found


def _describe(name: str, leaf: Any) -> str:
    """The type of a leaf as text, such as `float32[3,4]`."""
    if isinstance(leaf, bool | int | float | complex):
        return type(leaf).__name__
    if (
        not hasattr(leaf, "shape")
        or not hasattr(leaf, "dtype")
        or getattr(leaf.dtype, "kind", "V") in "OSU"
    ):
        raise ValueError(
            f"leaf {name} is a {type(leaf).__name__}; a checkpoint holds arrays, keys and numbers."
        )
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _stored(leaves: dict[str, Any]) -> dict[str, Any]:
    """The leaves that Orbax is given: it refuses arrays without elements and NumPy scalars."""
    stored = {name: leaf for name, leaf in leaves.items() if np.prod(np.shape(leaf)) > 0}
    return {
        name: np.asarray(leaf) if isinstance(leaf, np.generic) else leaf
        for name, leaf in stored.items()
    }


def _target(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    return leaf


def _in_the_form_of(leaf: Any, value: Any) -> Any:
    if isinstance(leaf, np.generic):
        return value[()]
    # Orbax commits what it restores to devices. A state that was free to follow the batch onto a
    # mesh must stay free, or a resumed run would fail where a fresh one works.
    if isinstance(leaf, jax.Array) and not leaf.committed:
        return _uncommitted(value)
    return value


def _without_elements(leaf: Any) -> Any:
    return jnp.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf


def _uncommitted(value: jax.Array) -> jax.Array:
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        data = _uncommitted(jax.random.key_data(value))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(value))
    return jnp.asarray(np.asarray(value))


def _check_same(saved: dict[str, str], wanted: dict[str, str], directory: Any) -> None:
    if saved == wanted:
        return
    name = next(n for n in (*wanted, *saved) if saved.get(n) != wanted.get(n))
    raise ValueError(
        f"the checkpoint in {directory} does not fit the present state: leaf {name} is "
        f"{saved.get(name, 'absent')} there and {wanted.get(name, 'absent')} here; restore it with "
        "the code and settings that saved it, or delete the folder to start over."
    )
