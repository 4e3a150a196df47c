"""Where the machine code of studies is kept, so that the same command starts sooner again."""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import time
from collections.abc import Iterator

import jax
from jax.experimental.compilation_cache import compilation_cache

from lnl_jax.runner.usage import UsageError

# What was compiled so long ago is deleted: other code or another JAX has taken its place.
DAYS = 60
# Programs that compile faster would fill the folder with files and save nothing.
SECONDS = 0.1


@functools.cache
def cache_folder(name: str = "programs") -> pathlib.Path:
    """A folder for this JAX and this processor: machine code of another one need not run here.

    Args:
        name: of the folder around it.

    Returns:
        Below the user's cache directory; it need not exist.
    """
    base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else platform.processor()
    features = next((line for line in text.splitlines() if line.startswith("flags")), text)
    processor = hashlib.sha256(features.encode()).hexdigest()[:8]
    version = f"{jax.__version__}-{importlib.metadata.version('jaxlib')}"
    return base / "lnl_jax" / name / f"jax-{version}-{platform.machine()}-{processor}"


def drop_old_entries(folder: pathlib.Path, days: float = DAYS) -> None:
    """Deletes the files that were written so many days ago.

    Args:
        folder: that may not exist.
        days: how many.
    """
    oldest = time.time() - days * 24 * 3600
    for file in folder.glob("*") if folder.exists() else ():
        if file.is_file() and file.stat().st_mtime < oldest:
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def kept_programs(choice: str | None = None) -> Iterator[pathlib.Path | None]:
    """Keeps what is compiled on disk, and takes from there what was compiled before.

    Args:
        choice: a folder, or ``none`` to keep nothing; None is `cache_folder`, unless another one
            was set, as by the variable ``JAX_COMPILATION_CACHE_DIR``.

    Yields:
        The folder, None for none.

    Raises:
        UsageError: if a folder was chosen that cannot be written.
    """
    before, seconds = jax.config.jax_compilation_cache_dir, _seconds()
    if choice is None and before is not None:
        yield pathlib.Path(before)
        return
    folder = _writable(choice)
    _use(None if folder is None else str(folder), SECONDS)
    try:
        yield folder
    finally:
        _use(before, seconds)


def _writable(choice: str | None) -> pathlib.Path | None:
    if choice is not None and choice.lower() == "none":
        return None
    folder = cache_folder() if choice is None else pathlib.Path(choice)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder} cannot be written")
    except OSError as error:
        if choice is None:  # a home that is read-only
            return None
        raise UsageError(f"--compilation_cache {choice}: {error}") from error
    if choice is None:
        drop_old_entries(folder)
    return folder


def _seconds() -> float:
    return jax.config.jax_persistent_cache_min_compile_time_secs


def _use(folder: str | None, seconds: float) -> None:
    # JAX opens the folder once, and does not look whether it is another one by now.
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
