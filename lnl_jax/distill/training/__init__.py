"""Trainings of students, teachers and projectors: AdamW along a cosine, one program per loss."""

from lnl_jax.distill.training._passes import (
    NetworkTraining,
    kept_variables,
    resumable,
    train_in_passes,
)
from lnl_jax.distill.training._steps import (
    cosine_adamw,
    in_steps,
    initial_state,
    step_with,
    train_in_turn,
)

__all__ = [
    "NetworkTraining",
    "cosine_adamw",
    "in_steps",
    "initial_state",
    "kept_variables",
    "resumable",
    "step_with",
    "train_in_passes",
    "train_in_turn",
]
