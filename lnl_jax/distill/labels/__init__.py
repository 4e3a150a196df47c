"""Soft labels that cost little: made, kept, read again, and what a student makes of them."""

from lnl_jax.distill.labels._architectures import (
    SIZED_NETWORKS,
    SMALL_NETWORKS,
    sized_convnet,
    sized_resnet18,
    sized_vit,
    small_convnet,
    small_vit,
)
from lnl_jax.distill.labels._calibration import (
    ferkd_targets,
)
from lnl_jax.distill.labels._figures import (
    accuracy_figure,
)
from lnl_jax.distill.labels._files import (
    encode_labels,
    label_file_bytes,
    label_fingerprint,
    read_labels,
    write_labels,
)
from lnl_jax.distill.labels._forms import (
    StoredLabels,
    bytes_form,
    half_form,
    logits_of_all_steps,
    store_labels,
    store_predictions,
    top_form,
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
from lnl_jax.distill.labels._students import (
    HARD,
    Objective,
    chosen_by_validation,
    compare_students,
    student_keys,
    student_loss,
    train_students,
)
from lnl_jax.distill.labels._teachers import (
    classes_loss,
    mean_of_teachers,
    stacked_teachers,
    train_teachers,
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
from lnl_jax.distill.labels._views import (
    Views,
    draw_views,
    in_order,
    view_batches,
)

__all__ = [
    "Geometry",
    "HARD",
    "Objective",
    "QuantizedLabels",
    "SIZED_NETWORKS",
    "SMALL_NETWORKS",
    "StoredLabels",
    "TopLabels",
    "Views",
    "accuracy_figure",
    "apply_geometry",
    "as_logits",
    "bytes_form",
    "chosen_by_validation",
    "classes_loss",
    "compare_students",
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
    "draw_views",
    "encode_labels",
    "ferkd_targets",
    "geometry_fingerprint",
    "half_form",
    "hard_labels",
    "in_order",
    "index_dtype",
    "keep_top",
    "label_file_bytes",
    "label_fingerprint",
    "labels_ahead",
    "logits_of_all_steps",
    "mean_of_teachers",
    "mixed_labels",
    "model_labels",
    "pool_steps",
    "pooled_step",
    "quantize",
    "read_labels",
    "scheduled_labels",
    "sized_convnet",
    "sized_resnet18",
    "sized_vit",
    "small_convnet",
    "small_vit",
    "soft_cross_entropy",
    "stacked_teachers",
    "store_labels",
    "store_predictions",
    "stored_labels",
    "student_keys",
    "student_loss",
    "top_form",
    "train_students",
    "train_teachers",
    "view_batches",
    "write_labels",
]
