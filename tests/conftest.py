"""JAX settings for every test: eight CPU devices, no promotion, and little work in compiling."""

import gc
import importlib.metadata
import os

# Set before JAX starts. An accelerator would make the golden comparisons depend on the machine.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Thousands of programs that run once: their machine code need not be fast. Processes that tests
# start inherit it, as the same program must give the same numbers there.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# The older way to emit a fused loop compiles in half the time. Only these releases have both, and a
# flag that XLA does not know ends the process.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

import jax
import numpy as np
import pytest

from tests.compiled import cache_folder, drop_old_entries, few_mappings

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Most of the time of these tests is compilation, which workers and sessions share.
jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

STRICT_DTYPES = (
    "losses",
    "contrastive",
    "reweighting",
    "semi_supervised",
    "metrics",
    "models",
)


def pytest_sessionstart(session):
    """Once a session, not once a worker."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        drop_old_entries(cache_folder())


def pytest_collection_finish():
    """What was imported stays: the garbage collector need not walk through it again and again.

    Nor as often through what JAX keeps of each program.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_are_dropped():
    """Each one holds mappings of memory, of which a process has some 65,000; then XLA crashes.

    Until there are many, the next file finds the programs of operations that it shares.
    """
    yield
    if not few_mappings():
        jax.clear_caches()
        gc.collect()


@pytest.fixture(autouse=True)
def _dtype_promotion(request):
    # optax's adam and schedules promote dtypes, so everything that optimises runs with the default.
    room = request.path.relative_to(request.config.rootpath).parts[1]
    strict = room in STRICT_DTYPES
    with jax.numpy_dtype_promotion("strict" if strict else "standard"):
        yield


@pytest.fixture
def optimised():
    """Fast machine code, for a test that computes more than it compiles."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def float64():
    """For what is compared with exact values."""
    with jax.enable_x64(True):
        yield
