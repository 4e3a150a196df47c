"""One file of stored labels per run, with what they belong to."""

import hashlib
import io
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from lnl_jax._files import parse_json, read_npz
from lnl_jax.distill._checks import check_seed

_META = "fingerprint"


def label_fingerprint(
    images: np.ndarray, labels: np.ndarray, *, seed: int, geometry: str
) -> dict[str, Any]:
    """What a file of labels belongs to.

    Args:
        images: the distilled set, ``[N, H, W, C]``.
        labels: its classes, ``[N]``.
        seed: of the geometry.
        geometry: of `geometry_fingerprint`.

    Returns:
        JSON values: hashes of images and classes, seed, geometry, and JAX's generator.

    Raises:
        ValueError: if there is not one label per image, or the seed is out of range.
    """
    check_seed(seed)
    if len(images) != len(labels):
        raise ValueError(f"labels must have one entry per image, {len(images)}, got {len(labels)}.")
    data = hashlib.sha256()
    for array in (images, labels):
        array = np.ascontiguousarray(array)
        data.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return {
        "data": data.hexdigest()[:32],
        "seed": int(seed),
        "geometry": geometry,
        "generator": "threefry2x32",
        "partitionable": bool(jax.config.jax_threefry_partitionable),
    }


def write_labels(
    path: str | os.PathLike, arrays: Mapping[str, Any], belongs_to: Mapping[str, Any]
) -> int:
    """Writes a file of labels, whole or not at all, over no other.

    Args:
        path: of the file; must not exist.
        arrays: the labels, such as ``{"logits": ...}``, or the fields of `TopLabels`.
        belongs_to: of `label_fingerprint`.

    Returns:
        The size of the file in bytes, which is `label_file_bytes` of the same arrays.

    Raises:
        FileExistsError: if there is a file.
    """
    path = pathlib.Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists; remove it first, or choose another name.")
    content = encode_labels(arrays, belongs_to)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return len(content)


def label_file_bytes(arrays: Mapping[str, Any], belongs_to: Mapping[str, Any]) -> dict[str, int]:
    """The bytes of a file of labels, by what they are for.

    Args:
        arrays: as of `write_labels`.
        belongs_to: likewise.

    Returns:
        A number for every array and for the ``container``: names, shapes and fingerprint. The sum
        is the size of the file.
    """
    sizes = {name: np.asarray(values).nbytes for name, values in arrays.items()}
    return sizes | {"container": len(encode_labels(arrays, belongs_to)) - sum(sizes.values())}


def read_labels(
    path: str | os.PathLike, belongs_to: Mapping[str, Any] | None
) -> dict[str, np.ndarray]:
    """Reads a file of labels that must belong to this data set, seed and geometry.

    Args:
        path: of the file.
        belongs_to: of `label_fingerprint`; None reads any file.

    Returns:
        The arrays of `write_labels`.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the file is damaged, or belongs to something else: says to what.
    """
    try:
        arrays = read_npz(path)
        found = parse_json(arrays.pop(_META).tobytes())
        if not isinstance(found, dict):
            raise ValueError("its fingerprint is no object of JSON")
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is no whole file of labels: {error}.") from error
    differing = [
        f"{name} {found.get(name)!r}, not {wanted!r}"
        for name, wanted in (belongs_to or {}).items()
        if found.get(name) != wanted
    ]
    if differing:
        raise ValueError(
            f"{path} holds labels of another run: {'; '.join(differing)}. Make the labels again."
        )
    return arrays


def encode_labels(arrays: Mapping[str, Any], belongs_to: Mapping[str, Any]) -> bytes:
    """What `write_labels` writes.

    Args:
        arrays: as of `write_labels`.
        belongs_to: likewise.

    Returns:
        An uncompressed ``.npz`` file.

    Raises:
        ValueError: if an array has the name of the fingerprint or is of a type that a file does not
            keep, or the fingerprint is not made of JSON values.
    """
    if _META in arrays:
        raise ValueError(f"arrays must not use the name {_META!r}.")
    for name, values in arrays.items():
        dtype = np.asarray(values).dtype
        # Others, such as bfloat16, would be read again as raw bytes; objects would be pickled.
        if dtype.kind not in "biufU":
            raise ValueError(
                f"arrays: {name} is of {dtype}, which the file does not keep; cast it to float16 "
                "or float32."
            )
    try:
        meta = json.dumps(dict(belongs_to), sort_keys=True).encode()
    except TypeError as error:
        raise ValueError(f"belongs_to must hold JSON values: {error}.") from None
    buffer = io.BytesIO()
    whole = {name: np.asarray(values) for name, values in arrays.items()}
    np.savez(buffer, **whole, **{_META: np.frombuffer(meta, np.uint8)})
    return buffer.getvalue()
