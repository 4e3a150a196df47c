"""Strict JAX settings for every test: eight CPU devices, no rank promotion, no dtype promotion."""

import os

# Set before JAX starts. An accelerator would make the golden comparisons depend on the machine.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

STRICT_DTYPES = ("losses", "metrics", "models")


@pytest.fixture(autouse=True)
def _dtype_promotion(request):
    # optax's adam and schedules promote dtypes, so everything that optimises runs with the default.
    strict = any(part in STRICT_DTYPES for part in request.path.parts)
    with jax.numpy_dtype_promotion("strict" if strict else "standard"):
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(0)
