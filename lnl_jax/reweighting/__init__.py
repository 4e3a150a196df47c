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
from lnl_jax.reweighting._rescaling import (
    meta_gradient,
    rescale_preserving_sum,
    uncertainty_weights,
)
from lnl_jax.reweighting._small_loss import (
    co_teaching_weights,
    small_loss_weights,
    small_loss_weights_by_class,
)
from lnl_jax.reweighting._training_statistics import (
    gaussian_kl,
    gaussian_overlap,
    majority_agreement,
    storm_features,
)

__all__ = [
    "chi2_ball_value",
    "chi2_ball_weights",
    "co_teaching_weights",
    "cvar_value",
    "cvar_weights",
    "gaussian_kl",
    "gaussian_overlap",
    "group_dro_value",
    "group_dro_weights",
    "kl_ball_value",
    "kl_ball_weights",
    "kl_dro_value",
    "kl_dro_weights",
    "majority_agreement",
    "meta_gradient",
    "rescale_preserving_sum",
    "small_loss_weights",
    "small_loss_weights_by_class",
    "storm_features",
    "uncertainty_weights",
]
