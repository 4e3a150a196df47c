"""Where the machine code of the tests' programs is kept from one session to the next."""

import functools
import importlib.metadata
import pathlib

from lnl_jax.runner import compilation_cache

DAYS = 7
# A quarter of what Linux gives a process; a file takes some thousands.
MAPPINGS = 8_000

# The older way to emit loops, which the tests take where there is one, adds up in one row: of many
# numbers the sum is rounded by more. What claims as much compiles as users do.
BOTH_WAYS = importlib.metadata.version("jaxlib").startswith("0.10.")
AS_USERS_DO = {"xla_cpu_use_fusion_emitters": True} if BOTH_WAYS else {}

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
