"""What a distilled data set costs in bytes, and scores that no trick of the evaluation raises."""

from lnl_jax.distill.ledger._figures import (
    storage_curve,
)
from lnl_jax.distill.ledger._imagenet import (
    imagenet_claims,
    imagenet_curve,
    imagenet_ledger,
    imagenet_report,
)
from lnl_jax.distill.ledger._reports import (
    networks_table,
    students_report,
)
from lnl_jax.distill.ledger._runs import (
    PRUNED,
    robust_score_table,
    run_ledger,
)
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
    "PRUNED",
    "augmentation_robust_score",
    "claimed_ratios",
    "geometry_bytes",
    "imagenet_claims",
    "imagenet_curve",
    "imagenet_ledger",
    "imagenet_report",
    "label_bytes",
    "label_robust_score",
    "ledger_table",
    "networks_table",
    "quantized_label_bytes",
    "readable_size",
    "robust_score_table",
    "run_ledger",
    "storage_curve",
    "students_report",
    "top_label_bytes",
    "total_bytes",
    "tree_bytes",
]
