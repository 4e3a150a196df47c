"""Dataset distillation: soft labels that cost little, the images they belong to, and the ledger.

`labels` are stored or made online, by a teacher or by one of the `projectors`; `images` are
distilled, or chosen by `selection`; the `ledger` says what all of it costs. `training` trains
teachers, students and projectors, which are `networks`.
"""

import lnl_jax._flax  # noqa: F401
from lnl_jax.distill import images, labels, ledger, networks, projectors, selection, training

__all__ = [
    "images",
    "labels",
    "ledger",
    "networks",
    "projectors",
    "selection",
    "training",
]
