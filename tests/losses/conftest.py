"""Float64 for the tests that compare with exact values."""

import jax
import pytest

from lnl_jax.losses import _tiles


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def square_tiles(monkeypatch):
    """As many keys as anchors at a time, so that small batches have many tiles."""
    monkeypatch.setattr(_tiles, "SIMILARITIES_PER_TILE", 1)
