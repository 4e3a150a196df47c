"""Weights and values over examples, from their losses ``[B]``."""

from lnl_jax.reweighting._dro import (
    chi2_ball_value,
    chi2_ball_weights,
    cvar_value,
    cvar_weights,
    kl_ball_value,
    kl_ball_weights,
    kl_dro_value,
    kl_dro_weights,
)
from lnl_jax.reweighting._group_dro import group_dro_value, group_dro_weights

__all__ = [
    "chi2_ball_value",
    "chi2_ball_weights",
    "cvar_value",
    "cvar_weights",
    "group_dro_value",
    "group_dro_weights",
    "kl_ball_value",
    "kl_ball_weights",
    "kl_dro_value",
    "kl_dro_weights",
]
