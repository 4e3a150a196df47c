"""Less work for the compiler: nearly all of the time of these tests is its."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _compiled_without_expensive_passes():
    """Many tiny programs that run once: their machine code need not be fast."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
