"""How values become files: JSON, figures, arrays and tables, each written whole or not at all.

In JSON, NaN and the infinities are the strings "NaN", "Infinity" and "-Infinity", because JSON has
no numbers for them.
"""

import contextlib
import csv
import errno
import io
import json
import math
import os
import pathlib
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from lnl_jax._extras import require

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


TEMPORARY = ".tmp"  # the ending of what is being written


def write_file(path: pathlib.Path, data: bytes) -> None:
    """Writes a file so that readers, a kill and a power cut meet the whole of it or nothing.

    A link at its place is replaced, not followed.
    """
    # A name that nobody could foresee, and never that of a file which is there.
    handle, temporary = tempfile.mkstemp(TEMPORARY, f".{path.name[:40]}.", path.parent)
    try:
        with open(handle, "wb") as file:
            os.fchmod(handle, 0o666 & ~_umask())
            file.write(data)
            file.flush()
            os.fsync(handle)  # or the name may survive a power cut, and the bytes not
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _sync_folder(path: pathlib.Path) -> None:
    """Puts the names in a folder on disk; some file systems know no such thing."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_file(path: pathlib.Path) -> bytes:
    """The bytes of a file of a run; a link or a pipe in its place is none.

    Raises:
        OSError: if it is not there, or not a file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a file", str(path))
        return file.read()


def remove(path: pathlib.Path) -> None:
    """Deletes a file, a folder with all in it, or a link and not what it points at."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes JSON values for people to read."""
    write_file(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def to_json(value: Any) -> Any:
    """Turns NumPy and JAX values, tuples and numbers that are not finite into JSON values."""
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return to_json(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON.")


def from_json(value: Any) -> Any:
    """The inverse of `to_json` for the numbers that are not finite."""
    if isinstance(value, dict):
        return {k: from_json(v) for k, v in value.items()}
    if isinstance(value, list):
        return [from_json(v) for v in value]
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value


def write_artifact(path: pathlib.Path, name: str, value: Any) -> list[dict[str, Any]] | None:
    """Writes an artifact into a folder; returns it as JSON where it is a table."""
    # File systems count bytes, and the name of a file that is being written is longer.
    if pathlib.Path(name).name != name or name in ("", "..") or len(name.encode()) > 200:
        raise ValueError(f"{name!r} cannot be the name of an artifact.")
    if isinstance(value, bytes):
        write_file(path / name, value)
    elif isinstance(value, Mapping):
        write_file(path / f"{name}.npz", _npz(name, value))
    elif isinstance(value, list) and all(isinstance(row, Mapping) for row in value):
        write_file(path / f"{name}.csv", csv_bytes(value))
        return to_json(value)
    elif hasattr(value, "savefig"):
        for ending, data in _images(value).items():
            write_file(path / f"{name}.{ending}", data)
    else:
        raise TypeError(
            f"artifact {name!r} is a {type(value).__name__}; it may be a figure, a dict of arrays, "
            "a list of dicts or bytes."
        )
    return None


def _npz(name: str, arrays: Mapping[str, Any]) -> bytes:
    arrays = {key: np.asarray(array) for key, array in arrays.items()}
    if any(array.dtype.kind == "O" for array in arrays.values()):
        raise TypeError(f"artifact {name!r} holds Python objects, not arrays.")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def csv_bytes(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A table as CSV, its columns the keys of all rows."""
    buffer = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(to_json(row) for row in rows)
    return buffer.getvalue().encode()


def _images(figure: Any) -> dict[str, bytes]:
    """A figure as PNG, to be looked at, and as SVG, to be printed; the same bytes every time."""
    require("matplotlib")
    import matplotlib
    from matplotlib import pyplot

    options = {"png": {"dpi": 150}, "svg": {"metadata": {"Date": None}}}
    images = {}
    with matplotlib.rc_context({"svg.hashsalt": "lnl_jax"}):
        for ending, more in options.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=ending, bbox_inches="tight", **more)
            images[ending] = buffer.getvalue()
    pyplot.close(figure)  # a sweep would collect one open figure per run
    return images
