"""Float64 for the tests that compare with exact values, and less work for the compiler."""

import jax
import pytest


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True)
def _compiled_without_expensive_passes():
    """Thousands of tiny programs that run once: their machine code need not be fast."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
