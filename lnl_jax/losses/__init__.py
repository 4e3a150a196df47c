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
from lnl_jax.losses._jensen_shannon import generalized_jensen_shannon, jensen_shannon
from lnl_jax.losses._ldr import ldr_kl
from lnl_jax.losses._margin import class_balanced_weights, crammer_singer, ldam, weston_watkins
from lnl_jax.losses._normalize import l1_mean_normalize, logit_normalize, softplus_mean_normalize
from lnl_jax.losses._normalized import normalized_cross_entropy, normalized_focal
from lnl_jax.losses._symmetric import (
    mean_absolute_error,
    mean_squared_error,
    reverse_cross_entropy,
    robust_log_loss,
    symmetric_cross_entropy,
)

__all__ = [
    "aldr_kl",
    "aldr_kl_step",
    "aldr_temperature",
    "asymmetric_exponential",
    "asymmetric_generalized_cross_entropy",
    "asymmetric_unhinged",
    "backward_correction",
    "bi_tempered_logistic",
    "class_balanced_weights",
    "confident",
    "crammer_singer",
    "forward_correction",
    "generalized_cross_entropy",
    "generalized_jensen_shannon",
    "hard_bootstrap",
    "jensen_shannon",
    "l1_mean_normalize",
    "ldam",
    "ldr_kl",
    "logit_normalize",
    "mean_absolute_error",
    "mean_squared_error",
    "normalized_cross_entropy",
    "normalized_focal",
    "partially_huberised_cross_entropy",
    "reverse_cross_entropy",
    "robust_log_loss",
    "soft_bootstrap",
    "softplus_mean_normalize",
    "symmetric_cross_entropy",
    "taylor_cross_entropy",
    "truncated_generalized_cross_entropy",
    "weston_watkins",
]
