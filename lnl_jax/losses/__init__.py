"""Losses: arrays in, one loss per example out. The caller reduces.

``f(logits, labels, *, hyperparameters..., axis=-1, where=None) -> losses``. Labels are integers or
distributions; `where` masks classes; a hyperparameter is a scalar or has one value per example.
"""

from lnl_jax.losses._aldr import aldr_kl, aldr_kl_step, aldr_temperature
from lnl_jax.losses._asymmetric import (
    asymmetric_exponential,
    asymmetric_generalized_cross_entropy,
    asymmetric_unhinged,
)
from lnl_jax.losses._bi_tempered import bi_tempered_logistic
from lnl_jax.losses._cached import cached_contrastive_grads
from lnl_jax.losses._contrastive import (
    ContrastiveStatistics,
    contrastive_statistics,
    decoupled_contrastive,
    info_nce,
    info_nce_of,
    similarity_statistics,
)
from lnl_jax.losses._correction import (
    backward_correction,
    forward_correction,
    hard_bootstrap,
    soft_bootstrap,
)
from lnl_jax.losses._cross_entropy import (
    confident,
    generalized_cross_entropy,
    partially_huberised_cross_entropy,
    taylor_cross_entropy,
    truncated_generalized_cross_entropy,
)
from lnl_jax.losses._dro import (
    chi2_ball_value,
    chi2_ball_weights,
    cvar_value,
    cvar_weights,
    kl_ball_value,
    kl_ball_weights,
    kl_dro_value,
    kl_dro_weights,
)
from lnl_jax.losses._fastclip import cosine_gamma, fastclip
from lnl_jax.losses._group_dro import group_dro_value, group_dro_weights
from lnl_jax.losses._inner_estimates import (
    InnerEstimate,
    difference_to_positive,
    difference_with_diagonal,
    difference_with_positive,
    raw_similarity,
    restart_batch,
    restart_example,
    start_from_zero,
)
from lnl_jax.losses._isogclr import (
    ContrastiveRows,
    isogclr,
    isogclr_of,
    temperature_step,
)
from lnl_jax.losses._jensen_shannon import generalized_jensen_shannon, jensen_shannon
from lnl_jax.losses._ldr import ldr_kl
from lnl_jax.losses._margin import (
    class_balanced_weights,
    crammer_singer,
    ldam,
    weston_watkins,
)
from lnl_jax.losses._normalize import l1_mean_normalize, logit_normalize, softplus_mean_normalize
from lnl_jax.losses._normalized import normalized_cross_entropy, normalized_focal
from lnl_jax.losses._positive_unlabelled import (
    nn_pu,
    pu_mlc,
    pu_mlc_consistency,
    sigmoid_surrogate,
)
from lnl_jax.losses._ring import ring_statistics
from lnl_jax.losses._sigmoid_contrastive import sigmoid_contrastive
from lnl_jax.losses._sogclr import sogclr, sogclr_of
from lnl_jax.losses._symmetric import (
    mean_absolute_error,
    mean_squared_error,
    reverse_cross_entropy,
    robust_log_loss,
    symmetric_cross_entropy,
)

__all__ = [
    "ContrastiveRows",
    "ContrastiveStatistics",
    "InnerEstimate",
    "aldr_kl",
    "aldr_kl_step",
    "aldr_temperature",
    "asymmetric_exponential",
    "asymmetric_generalized_cross_entropy",
    "asymmetric_unhinged",
    "backward_correction",
    "bi_tempered_logistic",
    "cached_contrastive_grads",
    "chi2_ball_value",
    "chi2_ball_weights",
    "class_balanced_weights",
    "confident",
    "contrastive_statistics",
    "cosine_gamma",
    "crammer_singer",
    "cvar_value",
    "cvar_weights",
    "decoupled_contrastive",
    "difference_to_positive",
    "difference_with_diagonal",
    "difference_with_positive",
    "fastclip",
    "forward_correction",
    "generalized_cross_entropy",
    "generalized_jensen_shannon",
    "group_dro_value",
    "group_dro_weights",
    "hard_bootstrap",
    "info_nce",
    "info_nce_of",
    "isogclr",
    "isogclr_of",
    "jensen_shannon",
    "kl_ball_value",
    "kl_ball_weights",
    "kl_dro_value",
    "kl_dro_weights",
    "l1_mean_normalize",
    "ldam",
    "ldr_kl",
    "logit_normalize",
    "mean_absolute_error",
    "mean_squared_error",
    "nn_pu",
    "normalized_cross_entropy",
    "normalized_focal",
    "partially_huberised_cross_entropy",
    "pu_mlc",
    "pu_mlc_consistency",
    "raw_similarity",
    "restart_batch",
    "restart_example",
    "reverse_cross_entropy",
    "ring_statistics",
    "robust_log_loss",
    "sigmoid_contrastive",
    "sigmoid_surrogate",
    "similarity_statistics",
    "soft_bootstrap",
    "softplus_mean_normalize",
    "sogclr",
    "sogclr_of",
    "start_from_zero",
    "symmetric_cross_entropy",
    "taylor_cross_entropy",
    "temperature_step",
    "truncated_generalized_cross_entropy",
    "weston_watkins",
]
