"""Soft-label projectors: a frozen tower with a small adapter, in place of stored labels."""

from lnl_jax.distill.projectors._lora import (
    CONV1X1,
    LORALIB,
    LoraForm,
    count_parameters,
    init_lora,
    lora_shapes,
    merge_lora,
)
from lnl_jax.distill.projectors._projector import (
    RN50_TARGETS,
    VIT_TARGETS,
    centered,
    init_projector,
    project,
    projector_loss,
    projector_shapes,
    unit_rows,
    weak_targets,
)
from lnl_jax.distill.projectors._unmerged import (
    apply_unmerged,
)

__all__ = [
    "CONV1X1",
    "LORALIB",
    "LoraForm",
    "RN50_TARGETS",
    "VIT_TARGETS",
    "apply_unmerged",
    "centered",
    "count_parameters",
    "init_lora",
    "init_projector",
    "lora_shapes",
    "merge_lora",
    "project",
    "projector_loss",
    "projector_shapes",
    "unit_rows",
    "weak_targets",
]
