"""Files of weights: read without pickle, no parameter missing and none left over."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax import Array

from lnl_jax import _files
from lnl_jax._extras import require
from lnl_jax._files import check_plain

# A name in the file, the path of our parameter, and what makes the one of the other.
Take = Callable[[np.ndarray], np.ndarray]
Entry = tuple[str, tuple[str, ...], Take]
LISTED = 40
WEIGHTS = ".safetensors"


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """What is in a `.safetensors` file, or in the parts that an index of them names."""
    if path.suffix == ".json":
        return {k: v for part in _parts(path) for k, v in read_tensors(path.parent / part).items()}
    check_plain(path)
    require("safetensors")
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    # Its own error, and what NumPy raises of a dtype that it does not know.
    except Exception as error:
        raise ValueError(
            f"{path} is not a complete safetensors file ({path.stat().st_size} bytes; {error}): "
            "it was cut off or is something else; fetch it again."
        ) from None


def _parts(index: Path) -> list[str]:
    """The files that an index names: weights that lie beside it."""
    places = read_json(index).get("weight_map")
    parts = list(places.values()) if isinstance(places, dict) else []
    wrong = [
        part
        for part in parts
        if not (isinstance(part, str) and Path(part).name == part and part.endswith(WEIGHTS))
    ]
    if wrong or not parts:
        found = f"{wrong[0]!r}" if wrong else "none"
        raise ValueError(
            f"{index} must have a weight_map that names *{WEIGHTS} files beside it, got {found}."
        )
    parts = sorted(set(parts))
    gone = [part for part in parts if not (index.parent / part).is_file()]
    if gone:
        raise FileNotFoundError(f"{index} names files that are not there: {listed(gone)}.")
    return parts


def read_json(path: Path) -> dict:
    """The object in a JSON file."""
    values = _files.read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(values).__name__}.")
    return values


def is_pickle(path: Path) -> bool:
    """Whether it is named as the pickles of PyTorch are."""
    return path.suffix in (".pt", ".pth", ".bin", ".pkl", ".ckpt")


def account(found: Iterable[str], expected: set[str]) -> None:
    """Raises ValueError where names are missing or left over; lists them."""
    missing, extra = expected - set(found), set(found) - expected
    if missing or extra:
        both = (("missing", missing), ("left over", extra))
        lines = "; ".join(f"{what}: {listed(which)}" for what, which in both if which)
        raise ValueError(f"this is a checkpoint of another architecture; {lines}.")


def listed(found: Iterable[str]) -> str:
    """The names, or the first of many."""
    found = sorted(found)
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return (", ".join(found[:LISTED]) or "nothing") + more


def converted(
    wanted: dict[str, Any], tensors: dict[str, np.ndarray], entries: Sequence[Entry]
) -> dict[str, Any]:
    """The variables of a model, in float32.

    Args:
        wanted: their shapes, as `jax.eval_shape` of the model's `init` gives them.
        tensors: what the file holds.
        entries: where each of our parameters comes from.

    Raises:
        ValueError: if a shape is of another architecture, or a tensor is not floating point.
    """
    wanted = traverse_util.flatten_dict(wanted)
    values = {path: _value(tensors[name], name, take) for name, path, take in entries}
    wrong = [
        f"{'/'.join(path)} {values[path].shape} instead of {wanted[path].shape}"
        for path in wanted
        if values[path].shape != wanted[path].shape
    ]
    if wrong or set(values) != set(wanted):
        raise ValueError(f"shapes are of another architecture: {listed(wrong)}.")
    return traverse_util.unflatten_dict(values)


def _value(tensor: np.ndarray, name: str, take: Take) -> Array:
    if not jnp.issubdtype(tensor.dtype, jnp.floating):
        raise ValueError(f"{name} must be floating point, got {tensor.dtype}.")
    try:
        return jnp.asarray(take(tensor), jnp.float32)
    except ValueError:
        raise ValueError(f"{name} has the shape {tensor.shape} of another architecture.") from None
