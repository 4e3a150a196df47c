"""Soft-label projectors: a frozen tower with a small adapter, in place of stored labels."""

from lnl_jax.distill.projectors._captioned_foundation import (
    initial_foundation,
    shifted_batches,
    small_foundation,
    train_captioned_foundation,
)
from lnl_jax.distill.projectors._clip_foundation import (
    clip_encoder,
    clip_foundation,
)
from lnl_jax.distill.projectors._contrastive_foundation import (
    contrastive_batches,
    mean_words,
    train_contrastive_foundation,
)
from lnl_jax.distill.projectors._efficientnet_foundation import (
    LITE0_TARGETS,
    efficientnet_foundation,
)
from lnl_jax.distill.projectors._foundation import (
    Foundation,
    behind_prefix,
    prefix_features,
)
from lnl_jax.distill.projectors._logits import (
    adapter_file,
    label_logits,
    merged_tower,
    projector_logits,
    projector_predict,
    projector_training,
    read_adapter,
    stored_projector,
    zero_shot_logits,
)
from lnl_jax.distill.projectors._lora import (
    CONV1X1,
    LORALIB,
    LoraForm,
    count_parameters,
    init_lora,
    lora_shapes,
    merge_lora,
)
from lnl_jax.distill.projectors._prefix_training import (
    train_behind_prefix,
)
from lnl_jax.distill.projectors._projector import (
    RN50_TARGETS,
    VIT_TARGETS,
    centered,
    init_projector,
    project,
    projector_loss,
    projector_shapes,
    weak_targets,
)
from lnl_jax.distill.projectors._prototypes import (
    prototype_words,
)
from lnl_jax.distill.projectors._small_clip import (
    SmallClip,
    small_clip,
)
from lnl_jax.distill.projectors._training import (
    Adaptation,
    TrainedProjector,
    adaptations,
    check_ranks,
    follow_teachers,
    initial_projector,
    label_dtype,
    learn_classes,
    online_teachers_loss,
    to_float16,
    train_on_views,
    train_projector,
    zero_shot_projector,
)
from lnl_jax.distill.projectors._unmerged import (
    apply_unmerged,
)

__all__ = [
    "Adaptation",
    "CONV1X1",
    "Foundation",
    "LITE0_TARGETS",
    "LORALIB",
    "LoraForm",
    "RN50_TARGETS",
    "SmallClip",
    "TrainedProjector",
    "VIT_TARGETS",
    "adaptations",
    "adapter_file",
    "apply_unmerged",
    "behind_prefix",
    "centered",
    "check_ranks",
    "clip_encoder",
    "clip_foundation",
    "contrastive_batches",
    "count_parameters",
    "efficientnet_foundation",
    "follow_teachers",
    "init_lora",
    "init_projector",
    "initial_foundation",
    "initial_projector",
    "label_dtype",
    "label_logits",
    "learn_classes",
    "lora_shapes",
    "mean_words",
    "merge_lora",
    "merged_tower",
    "online_teachers_loss",
    "prefix_features",
    "project",
    "projector_logits",
    "projector_loss",
    "projector_predict",
    "projector_shapes",
    "projector_training",
    "prototype_words",
    "read_adapter",
    "shifted_batches",
    "small_clip",
    "small_foundation",
    "stored_projector",
    "to_float16",
    "train_behind_prefix",
    "train_captioned_foundation",
    "train_contrastive_foundation",
    "train_on_views",
    "train_projector",
    "weak_targets",
    "zero_shot_logits",
    "zero_shot_projector",
]
