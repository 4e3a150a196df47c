"""Where the machine code of the tests' programs is kept from one session to the next."""

import functools
import hashlib
import os
import pathlib
import platform
import time

import jax
import jaxlib

DAYS = 7
# A quarter of what Linux gives a process; a file takes some thousands.
MAPPINGS = 8_000


@functools.cache
def cache_folder() -> pathlib.Path:
    """A folder for this JAX and this processor: machine code of another one need not run here."""
    base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else platform.processor()
    features = next((line for line in text.splitlines() if line.startswith("flags")), text)
    processor = hashlib.sha256(features.encode()).hexdigest()[:8]
    name = f"jax-{jax.__version__}-{jaxlib.__version__}-{platform.machine()}-{processor}"
    return base / "lnl_jax" / "compiled" / name


def drop_old_entries(folder: pathlib.Path) -> None:
    """Deletes what was compiled more than `DAYS` ago: changed tests leave programs behind."""
    oldest = time.time() - DAYS * 24 * 3600
    for file in folder.glob("*") if folder.exists() else ():
        if file.stat().st_mtime < oldest:
            file.unlink(missing_ok=True)


def few_mappings() -> bool:
    """Whether another file's programs surely fit beside those that this process holds."""
    maps = pathlib.Path("/proc/self/maps")
    if not maps.exists():
        return False
    with maps.open("rb") as lines:
        return sum(1 for _ in lines) < MAPPINGS
