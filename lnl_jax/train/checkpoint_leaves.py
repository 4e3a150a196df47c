"""The leaves of a state as a checkpoint holds them: their names, their types, and the way back."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax.train.tables import is_table

PyTree = Any
_ON_HOST = "NumPy "


def as_json(name: str, value: Any) -> Any:
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
        return {key: as_json(f"{name}[{key!r}]", one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(f"{name}[{place}]", one) for place, one in enumerate(value)]
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        if jnp.issubdtype(value.dtype, jnp.floating):
            return np.asarray(value, np.float64).tolist()
        if getattr(value.dtype, "kind", "V") in "biuU":
            return np.asarray(value).tolist()
    raise ValueError(
        f"{name} must be text, a number or a list or dict of them, got a {type(value).__name__}; "
        "arrays that are not small belong into the state."
    )


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """The leaves by their paths."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path) or "state": leaf for path, leaf in paths}


def described(tree: PyTree, leaves: dict[str, Any]) -> dict[str, str]:
    """What must be the same: the types of the leaves, and whose rows the tables hold."""
    found = {name: describe(name, leaf) for name, leaf in leaves.items()}
    for path, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_table):
        if is_table(node) and node.fingerprint:
            found[f"{jax.tree_util.keystr(path)}.fingerprint"] = node.fingerprint
    return found


def describe(name: str, leaf: Any) -> str:
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


def stored(leaves: dict[str, Any]) -> dict[str, Any]:
    """The leaves that Orbax is given: it refuses arrays without elements and NumPy scalars.

    Keys are stored as their data, so that all that is stored has bytes.
    """
    stored = {name: leaf for name, leaf in leaves.items() if np.prod(np.shape(leaf)) > 0}
    return {name: _plain(leaf) for name, leaf in stored.items()}


def _plain(leaf: Any) -> Any:
    if isinstance(leaf, np.generic):
        return np.asarray(leaf)
    if isinstance(leaf, jax.Array):
        data = jax.random.key_data(leaf) if _is_key(leaf) else leaf
        return np.asarray(data) if _is_of_one_process(data) else data
    if not _is_key(leaf):
        return leaf
    # Of a description: the axis of the data is added, and is not split.
    data = jax.eval_shape(jax.random.key_data, leaf)
    return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=leaf.sharding)


def _is_key(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def _is_of_one_process(leaf: jax.Array) -> bool:
    """Whether an array is not of all processes: Orbax knows such ones as arrays of NumPy alone."""
    return jax.process_count() > 1 and leaf.is_fully_addressable


def _impl(leaf: Any) -> Any:
    """The kind of a key, also of a description of one."""
    if isinstance(leaf, jax.Array):
        return jax.random.key_impl(leaf)
    return jax.random.key_impl(jax.ShapeDtypeStruct((), leaf.dtype))


def target(leaf: Any) -> Any:
    """What Orbax is told of a leaf: its type and where it goes."""
    if isinstance(leaf, jax.Array):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    return leaf


def blank(described: str) -> Any:
    """Something of the type that a description names, for Orbax to restore it on the host.

    As an array of JAX where it was one: all that a restore reads is read then.
    """
    dtype, _, shape = described.rstrip("]").partition("[")
    numbers = {"bool": False, "int": 0, "float": 0.0, "complex": 0j}
    if "[" not in described:
        return numbers[dtype]
    sizes = [int(size) for size in shape.split(",") if size]
    kind, device = jnp.dtype(dtype.removeprefix(_ON_HOST)), _host_device()
    if dtype.startswith(_ON_HOST) or device is None or jax.dtypes.canonicalize_dtype(kind) != kind:
        return np.broadcast_to(np.zeros((), kind), sizes)
    sharding = jax.sharding.SingleDeviceSharding(device)
    return jax.ShapeDtypeStruct(sizes, kind, sharding=sharding)


def describe_stored(name: str, leaf: Any) -> str:
    """The type of what Orbax is given, and whether it is an array of NumPy."""
    return _ON_HOST * isinstance(leaf, np.ndarray) + describe(name, leaf)


def _host_device() -> jax.Device | None:
    """Where arrays of JAX take no memory of an accelerator; None where that is nowhere."""
    if jax.process_count() > 1:
        return None
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # the only platform that was asked for is another one
        return None


def in_the_form_of(leaf: Any, value: Any) -> Any:
    """What Orbax restored, as the state has it."""
    if isinstance(leaf, np.generic):
        return value[()]
    if _is_key(leaf):
        key = jax.random.wrap_key_data(value, impl=_impl(leaf))
        return _uncommitted(key) if getattr(leaf, "committed", True) is False else key
    # Orbax commits what it restores to devices. A state that was free to follow the batch onto a
    # mesh must stay free, or a resumed run would fail where a fresh one works.
    if isinstance(leaf, jax.Array) and not leaf.committed:
        return _uncommitted(value)
    if isinstance(leaf, jax.Array) and isinstance(value, np.ndarray):
        return jax.device_put(value, leaf.sharding)
    return value


def without_elements(leaf: Any) -> Any:
    """A leaf that was not stored, as an array."""
    return jnp.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf


def _uncommitted(value: jax.Array) -> jax.Array:
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        data = _uncommitted(jax.random.key_data(value))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(value))
    return jnp.asarray(np.asarray(value))


def check_same(saved: dict[str, str], wanted: dict[str, str], directory: Any) -> None:
    """Raises ValueError where saved leaves are not those of the present state; names the first."""
    if saved == wanted:
        return
    name = next(n for n in (*wanted, *saved) if saved.get(n) != wanted.get(n))
    raise ValueError(
        f"the checkpoint in {directory} does not fit the present state: leaf {name} is "
        f"{saved.get(name, 'absent')} there and {wanted.get(name, 'absent')} here; restore it with "
        "the code and settings that saved it, or delete the folder to start over."
    )
