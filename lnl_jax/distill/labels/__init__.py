"""Soft labels that cost little: made, kept, read again, and what a student makes of them."""

from lnl_jax.distill.labels._calibration import (
    ferkd_targets,
)
from lnl_jax.distill.labels._files import (
    encode_labels,
    label_file_bytes,
    label_fingerprint,
    read_labels,
    write_labels,
)
from lnl_jax.distill.labels._geometry import (
    Geometry,
    apply_geometry,
    draw_geometry,
    geometry_fingerprint,
    mixed_labels,
)
from lnl_jax.distill.labels._objectives import (
    distillation_kl,
    distillation_mse,
    soft_cross_entropy,
)
from lnl_jax.distill.labels._pool import (
    pool_steps,
    pooled_step,
)
from lnl_jax.distill.labels._quantized import (
    QuantizedLabels,
    dequantize,
    quantize,
)
from lnl_jax.distill.labels._sources import (
    hard_labels,
    labels_ahead,
    model_labels,
    scheduled_labels,
    stored_labels,
)
from lnl_jax.distill.labels._top import (
    TopLabels,
    as_logits,
    complete_hard,
    complete_logit_fill,
    complete_logit_renorm,
    complete_marginal_renorm,
    complete_marginal_smoothing,
    complete_smoothing,
    index_dtype,
    keep_top,
)

__all__ = [
    "Geometry",
    "QuantizedLabels",
    "TopLabels",
    "apply_geometry",
    "as_logits",
    "complete_hard",
    "complete_logit_fill",
    "complete_logit_renorm",
    "complete_marginal_renorm",
    "complete_marginal_smoothing",
    "complete_smoothing",
    "dequantize",
    "distillation_kl",
    "distillation_mse",
    "draw_geometry",
    "encode_labels",
    "ferkd_targets",
    "geometry_fingerprint",
    "hard_labels",
    "index_dtype",
    "keep_top",
    "label_file_bytes",
    "label_fingerprint",
    "labels_ahead",
    "mixed_labels",
    "model_labels",
    "pool_steps",
    "pooled_step",
    "quantize",
    "read_labels",
    "scheduled_labels",
    "soft_cross_entropy",
    "stored_labels",
    "write_labels",
]
