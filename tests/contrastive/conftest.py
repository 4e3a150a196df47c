"""Tiles so small that a test's batch has many."""

import pytest

from lnl_jax.contrastive import _tiles


@pytest.fixture
def small_tiles(monkeypatch):
    """So that small batches have many: oblong ones for blocks of one or two anchors, or square."""
    monkeypatch.setattr(_tiles, "SIMILARITIES_PER_TILE", 6)
