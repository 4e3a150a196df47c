"""Label noise: transition matrices, and labels drawn from them."""

from lnl_jax.noise._corrupt import Corrupted, corrupt
from lnl_jax.noise._instance_dependent import instance_dependent
from lnl_jax.noise._mappings import LETTER_SWAPS, NEWS20_SWAPS, VOWEL_SWAPS, cyclic
from lnl_jax.noise._matrices import cifar10_asymmetric, class_dependent, pairflip, symmetric

__all__ = [
    "LETTER_SWAPS",
    "NEWS20_SWAPS",
    "VOWEL_SWAPS",
    "Corrupted",
    "cifar10_asymmetric",
    "class_dependent",
    "corrupt",
    "cyclic",
    "instance_dependent",
    "pairflip",
    "symmetric",
]
