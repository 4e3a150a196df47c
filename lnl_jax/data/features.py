"""Features of images by a frozen tower: computed once, kept in a file, gone on with."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lnl_jax._extras import require
from lnl_jax._files import opened, parse_json
from lnl_jax._host_arguments import check_integer
from lnl_jax.data.npz import read_arrays, save_npz

HOLDS = "features and their fingerprint, as lnl_jax.data.embed writes them"
# At once: as many as took the least time in `benchmarks/towers.py`.
PIXELS_ON_CPU, ELSEWHERE = 8 * 112**2, 256
MOST_IN_A_LINE = 1 << 16
REPAIR = "name another file, or delete it"


class Tower(NamedTuple):
    """A frozen network, with what its images go through first.

    Attributes:
        name: of the architecture and of the layer that the features are taken from: what the
            weights do not tell.
        apply: ``(variables, images) -> features [B, D]``.
        variables: any tree of arrays.
        preprocess: ``(images, *, size) -> images``, such as those of `lnl_jax.data.preprocess`.
    """

    name: str
    apply: Callable[[Any, jax.Array], jax.Array]
    variables: Any
    preprocess: Callable[..., jax.Array]


def embed(
    tower: Tower,
    images: np.ndarray,
    size: int,
    *,
    cache: str | Path | None = None,
    batch_size: int | None = None,
) -> np.ndarray:
    """The features of each image, by a tower that stays as it is.

    Batch after batch goes to the device, the last one filled up, so that one program is compiled. A
    memory-mapped array is never read whole. With a `cache`, what is done is in ``CACHE.part`` while
    it runs, and the next call goes on from there; at the end the file holds ``features`` with a
    fingerprint of the tower, its weights and preprocessing, the images and the size. A bar shows
    the progress where standard error is a terminal.

    Args:
        tower: the `Tower`.
        images: ``[N, H, W, C]``, uint8 or floating point, as the preprocessing takes them.
        size: rows and columns that the tower sees.
        cache: an ``.npz`` file in a folder that exists. Where it is there, and of these images and
            this tower, it is read and nothing is computed. None keeps nothing.
        batch_size: how many images are computed at once; None for 256, and on CPU for as many as
            its cache holds of a network of images: 8 of 112 pixels, 2 of 224.

    Returns:
        ``[N, D]``, float32.

    Raises:
        ValueError: if there are no images, the tower does not take images of this size, or the
            cache holds something else: says what differs.

    Example:
        >>> from lnl_jax.data import preprocess
        >>> mean = Tower("mean", lambda _, x: x.mean((1, 2)), (), preprocess.siglip_images)
        >>> embed(mean, np.full((5, 8, 8, 3), 255, np.uint8), size=4, batch_size=2).shape
        (5, 3)
    """
    check_integer("size", size)
    if batch_size is None:
        on_cpu = jax.default_backend() == "cpu"
        batch_size = max(1, PIXELS_ON_CPU // size**2) if on_cpu else ELSEWHERE
    check_integer("batch_size", batch_size)
    if getattr(images, "ndim", None) != 4 or not len(images):
        found = getattr(images, "shape", type(images).__name__)
        raise ValueError(f"images must have the shape [N, H, W, C], N from 1 on, got {found}.")
    batch_size = min(batch_size, len(images))
    width = _width(tower, images, size, batch_size)
    if cache is None:
        return np.concatenate(list(_batches(tower, images, size, batch_size, 0)))
    path = Path(cache)
    if path.suffix != ".npz" or not path.parent.is_dir():
        raise ValueError(f"cache must be an .npz file in a folder that exists, got {str(cache)!r}.")
    fingerprint = _fingerprint(tower, images, size)
    if path.exists():
        return _read(path, fingerprint, (len(images), width))
    part = path.with_name(f"{path.name}.part")
    _complete(part, fingerprint, tower, images, size, batch_size, width)
    features = _rows(part, width)[: len(images)]
    save_npz(path, {"features": features, "fingerprint": np.array(json.dumps(fingerprint))})
    part.unlink()
    return features


def _width(tower: Tower, images: np.ndarray, size: int, batch_size: int) -> int:
    """D, found without computing anything."""
    batch = jax.ShapeDtypeStruct((batch_size, *images.shape[1:]), images.dtype)
    try:
        found = jax.eval_shape(_program(tower, size), tower.variables, batch)
    except ValueError as error:
        raise ValueError(
            f"the tower {tower.name} does not take images of {images.dtype} and the shape "
            f"{images.shape} at size={size}: {error}"
        ) from None
    if len(found.shape) != 2 or found.shape[0] != batch_size:
        raise ValueError(
            f"the tower {tower.name} must give features [B, D], got the shape {found.shape}."
        )
    return found.shape[1]


def _program(tower: Tower, size: int) -> Callable[[Any, jax.Array], jax.Array]:
    def run(variables: Any, images: jax.Array) -> jax.Array:
        return tower.apply(variables, tower.preprocess(images, size=size)).astype(jnp.float32)

    return run


def _batches(tower: Tower, images: np.ndarray, size: int, batch_size: int, start: int):
    """The features of each batch from `start` on."""
    require("tqdm")
    from tqdm import tqdm

    run = jax.jit(_program(tower, size))
    bar = tqdm(desc=tower.name, total=len(images), initial=start, unit="image", disable=None)
    with bar:
        for first in range(start, len(images), batch_size):
            batch = np.asarray(images[first : first + batch_size])
            count = len(batch)
            filled = np.concatenate([batch, np.repeat(batch[:1], batch_size - count, axis=0)])
            yield np.asarray(run(tower.variables, jnp.asarray(filled)))[:count]
            bar.update(count)


def _complete(
    part: Path,
    fingerprint: dict[str, str],
    tower: Tower,
    images: np.ndarray,
    size: int,
    batch_size: int,
    width: int,
) -> None:
    """Writes the rows that are not in the file yet, after a line with the fingerprint."""
    head = (json.dumps(fingerprint) + "\n").encode()
    if not part.exists() or part.stat().st_size < len(head):
        part.write_bytes(head)
    with opened(part) as file:
        try:
            found = parse_json(file.readline(MOST_IN_A_LINE))
        except ValueError:
            raise ValueError(f"{part} does not begin with a fingerprint; delete it.") from None
    _compare(part, found, fingerprint)
    # Whole batches, so that the same ones are computed whether or not there was an interruption.
    start = len(_rows(part, width)) // batch_size * batch_size
    with part.open("r+b") as file:
        file.seek(len(head) + start * width * 4)
        file.truncate()
        for features in _batches(tower, images, size, batch_size, min(start, len(images))):
            file.write(features.astype("<f4").tobytes())
            file.flush()


def _rows(part: Path, width: int) -> np.ndarray:
    """The whole rows that a file holds after its first line."""
    with opened(part) as file:
        file.readline()
        content = file.read()
    whole = len(content) // (4 * width)
    return (
        np.frombuffer(content[: whole * 4 * width], "<f4").reshape(whole, width).astype(np.float32)
    )


def _fingerprint(tower: Tower, images: np.ndarray, size: int) -> dict[str, str]:
    """What the features depend on, part by part, so that a message can say what differs."""
    weights = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tower.variables):
        leaf = np.ascontiguousarray(leaf)
        weights.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        weights.update(leaf.tobytes())
    pixels = hashlib.sha256(f"{images.dtype} {images.shape}".encode())
    for start in range(0, len(images), 256):
        pixels.update(np.asarray(images[start : start + 256]).tobytes())
    function = tower.preprocess
    name = getattr(function, "__qualname__", None) or repr(function)
    return {
        "tower": tower.name,
        "weights": weights.hexdigest()[:16],
        "images": pixels.hexdigest()[:16],
        "size": str(size),
        "preprocessing": name,
    }


def _compare(path: Path, found: Any, wanted: dict[str, str]) -> None:
    found = found if isinstance(found, dict) else {}
    others = [
        f"{key} {found.get(key)} and not {wanted[key]}"
        for key in wanted
        if found.get(key) != wanted[key]
    ]
    if others:
        raise ValueError(f"{path} holds features of other data: {', '.join(others)}; {REPAIR}.")


def _read(path: Path, fingerprint: dict[str, str], shape: tuple[int, int]) -> np.ndarray:
    arrays = read_arrays(path.parent, path.stem, HOLDS)[1]
    try:
        features, found = arrays["features"], parse_json(str(arrays["fingerprint"]))
    except (KeyError, ValueError):
        raise ValueError(f"{path} does not hold {HOLDS}; {REPAIR}.") from None
    _compare(path, found, fingerprint)
    if features.shape != shape or features.dtype != np.float32:
        raise ValueError(
            f"{path} holds features of shape {features.shape} and not {shape}; {REPAIR}."
        )
    return features
