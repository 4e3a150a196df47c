"""Digests of arrays and of what stands beside them: whether bytes on disk are those of the save."""

import hashlib
import json
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

# A part of an array: "" for the whole of it, else its slices, "0:4,0:8".
Parts = dict[str, str]


def digests(leaves: dict[str, Any]) -> dict[str, Parts]:
    """The SHA-256 of the bytes of each array; of one that is split over processes, of its parts.

    Args:
        leaves: arrays of JAX and NumPy, and numbers.

    Returns:
        The same names, with a digest for each part.
    """
    for leaf in leaves.values():
        if isinstance(leaf, jax.Array) and leaf.is_fully_addressable:
            leaf.copy_to_host_async()
    found = {name: _parts(leaf) for name, leaf in leaves.items()}
    split = {name: found[name] for name, leaf in leaves.items() if not _is_here(leaf)}
    for parts in _of_all_processes(split) if split else ():
        for name, more in parts.items():
            found[name] |= more
    return found


def damage_of(leaves: dict[str, Any], expected: dict[str, Parts]) -> str:
    """Compares arrays with the digests that were taken of them when they were saved.

    Args:
        leaves: what was read.
        expected: from `digests`.

    Returns:
        Which one differs, in a few words; empty where none does.
    """
    for name, parts in expected.items():
        if name not in leaves:
            return f"leaf {name} is not there"
        values = _on_host(leaves[name])
        for place, digest in parts.items():
            if _sha256(values[_slices(place)]) != digest:
                return f"the bytes of leaf {name} are not those that were saved"
    return ""


def json_digest(value: dict[str, Any]) -> str:
    """The SHA-256 of a dict of JSON values, in whatever order its keys are."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _is_here(leaf: Any) -> bool:
    """Whether this process can see all of an array."""
    if not isinstance(leaf, jax.Array):
        return True
    return leaf.is_fully_addressable or leaf.is_fully_replicated


def _parts(leaf: Any) -> Parts:
    if _is_here(leaf):
        return {"": _sha256(np.asarray(leaf))}
    return {_place(shard.index): _sha256(shard.data) for shard in leaf.addressable_shards}


def _of_all_processes(found: dict[str, Parts]) -> list[dict[str, Parts]]:
    text = np.frombuffer(json.dumps(found).encode(), np.uint8)
    longest = int(multihost_utils.process_allgather(np.int32(len(text))).max())
    # Blanks at the end are nothing to JSON.
    padded = np.full(longest, ord(" "), np.uint8)
    padded[: len(text)] = text
    return [json.loads(row.tobytes()) for row in multihost_utils.process_allgather(padded)]


def _on_host(leaf: Any) -> np.ndarray:
    if _is_here(leaf):
        return np.asarray(leaf)
    return multihost_utils.process_allgather(leaf, tiled=True)


def _sha256(values: Any) -> str:
    flat = np.ascontiguousarray(values).reshape(-1)
    return hashlib.sha256(flat.view(np.uint8)).hexdigest()


def _place(index: tuple[slice, ...]) -> str:
    """Slices as text."""
    ends = [(each.start or 0, "" if each.stop is None else each.stop) for each in index]
    return ",".join(f"{start}:{stop}" for start, stop in ends)


def _slices(place: str) -> tuple[slice, ...]:
    ends = [part.partition(":") for part in place.split(",") if part]
    return tuple(slice(int(start), int(stop) if stop else None) for start, _, stop in ends)
