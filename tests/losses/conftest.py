"""Float64 for the tests that compare with exact values."""

import jax
import pytest

from lnl_jax.losses import _tiles


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def small_tiles(monkeypatch):
    """So that small batches have many: oblong ones for blocks of one or two anchors, or square."""
    monkeypatch.setattr(_tiles, "SIMILARITIES_PER_TILE", 6)
