"""Label noise: transition matrices, and labels drawn from them."""

from lnl_jax.noise._corrupt import Corrupted, corrupt
from lnl_jax.noise._matrices import pairflip, symmetric

__all__ = ["Corrupted", "corrupt", "pairflip", "symmetric"]
