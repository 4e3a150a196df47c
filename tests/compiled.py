"""Where the machine code of the tests' programs is kept from one session to the next."""

import functools
import pathlib

from lnl_jax.runner import compilation_cache

DAYS = 7
# A quarter of what Linux gives a process; a file takes some thousands.
MAPPINGS = 8_000

# Not the folder of the studies, which a user's commands find as they left it.
cache_folder = functools.partial(compilation_cache.cache_folder, "compiled")
# Changed tests leave programs behind.
drop_old_entries = functools.partial(compilation_cache.drop_old_entries, days=DAYS)


def few_mappings() -> bool:
    """Whether another file's programs surely fit beside those that this process holds."""
    maps = pathlib.Path("/proc/self/maps")
    if not maps.exists():
        return False
    with maps.open("rb") as lines:
        return sum(1 for _ in lines) < MAPPINGS
