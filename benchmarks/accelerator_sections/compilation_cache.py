"""The persistent cache of compiled programs, in a folder of our own for a while."""

import contextlib
from collections.abc import Iterator

import jax
from jax.experimental.compilation_cache import compilation_cache

NAMES = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@contextlib.contextmanager
def cached_in(folder: str | None) -> Iterator[None]:
    """Programs of every size are kept in this folder, or with None nowhere; then as before."""
    before = [getattr(jax.config, name) for name in NAMES]
    put((folder, 0, -1))
    try:
        yield
    finally:
        put(before)


def put(values: tuple | list) -> None:
    """Sets the options; JAX keeps the folder it began with until it is told."""
    for name, value in zip(NAMES, values, strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
