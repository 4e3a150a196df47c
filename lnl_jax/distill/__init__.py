"""Dataset distillation: soft labels that cost little, the images they belong to, and the ledger.

`labels` are stored or made online, by a teacher or by one of the `projectors`; `images` are
distilled, or chosen by `selection`; the `ledger` says what all of it costs.
"""

import lnl_jax._flax  # noqa: F401
from lnl_jax.distill import images, labels, ledger, projectors, selection

__all__ = ["images", "labels", "ledger", "projectors", "selection"]
