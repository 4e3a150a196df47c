"""Trainings of students, teachers and projectors: AdamW along a cosine, one program per loss."""

from lnl_jax.distill.training._steps import (
    cosine_adamw,
    in_steps,
    initial_state,
    resumable,
    step_with,
    train_in_passes,
    train_in_turn,
)

__all__ = [
    "cosine_adamw",
    "in_steps",
    "initial_state",
    "resumable",
    "step_with",
    "train_in_passes",
    "train_in_turn",
]
