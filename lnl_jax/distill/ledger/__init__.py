"""What a distilled data set costs in bytes, and scores that no trick of the evaluation raises."""

from lnl_jax.distill.ledger._scores import (
    augmentation_robust_score,
    label_robust_score,
)
from lnl_jax.distill.ledger._storage import (
    Entry,
    claimed_ratios,
    geometry_bytes,
    label_bytes,
    ledger_table,
    quantized_label_bytes,
    readable_size,
    top_label_bytes,
    total_bytes,
    tree_bytes,
)

__all__ = [
    "Entry",
    "augmentation_robust_score",
    "claimed_ratios",
    "geometry_bytes",
    "label_bytes",
    "label_robust_score",
    "ledger_table",
    "quantized_label_bytes",
    "readable_size",
    "top_label_bytes",
    "total_bytes",
    "tree_bytes",
]
