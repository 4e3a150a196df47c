"""Losses: arrays in, one loss per example out. The caller reduces.

``f(logits, labels, *, hyperparameters..., axis=-1, where=None) -> losses``. Labels are integers or
distributions; `where` masks classes; a hyperparameter is a scalar or has one value per example.
"""

from lnl_jax.losses._aldr import aldr_kl, aldr_temperature
from lnl_jax.losses._aldr_step import aldr_kl_step
from lnl_jax.losses._asymmetric import (
    asymmetric_exponential,
    asymmetric_generalized_cross_entropy,
    asymmetric_unhinged,
)
from lnl_jax.losses._bi_tempered import bi_tempered_logistic
from lnl_jax.losses._confidence import (
    confidence_regularized_cross_entropy,
    confidence_thresholds,
    log_confidence,
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
from lnl_jax.losses._elr import early_learning_regularization, elr_step
from lnl_jax.losses._epsilon_softmax import epsilon_softmax_cross_entropy
from lnl_jax.losses._jensen_shannon import generalized_jensen_shannon, jensen_shannon
from lnl_jax.losses._ldr import ldr_kl
from lnl_jax.losses._margin import class_balanced_weights, crammer_singer, ldam, weston_watkins
from lnl_jax.losses._negative import (
    normalized_negative_cross_entropy,
    normalized_negative_focal,
)
from lnl_jax.losses._normalize import (
    l1_mean_normalize,
    logit_clip,
    logit_normalize,
    softplus_mean_normalize,
)
from lnl_jax.losses._normalized import normalized_cross_entropy, normalized_focal
from lnl_jax.losses._rows import SopRows, elr_table, scent_table, sop_table
from lnl_jax.losses._scent import log_normalizer_step, scent_step
from lnl_jax.losses._sop import sop_step
from lnl_jax.losses._symmetric import (
    mean_absolute_error,
    mean_squared_error,
    reverse_cross_entropy,
    robust_log_loss,
    symmetric_cross_entropy,
)

__all__ = [
    "SopRows",
    "aldr_kl",
    "aldr_kl_step",
    "aldr_temperature",
    "asymmetric_exponential",
    "asymmetric_generalized_cross_entropy",
    "asymmetric_unhinged",
    "backward_correction",
    "bi_tempered_logistic",
    "class_balanced_weights",
    "confidence_regularized_cross_entropy",
    "confidence_thresholds",
    "confident",
    "crammer_singer",
    "early_learning_regularization",
    "elr_step",
    "elr_table",
    "epsilon_softmax_cross_entropy",
    "forward_correction",
    "generalized_cross_entropy",
    "generalized_jensen_shannon",
    "hard_bootstrap",
    "jensen_shannon",
    "l1_mean_normalize",
    "ldam",
    "ldr_kl",
    "log_confidence",
    "log_normalizer_step",
    "logit_clip",
    "logit_normalize",
    "mean_absolute_error",
    "mean_squared_error",
    "normalized_cross_entropy",
    "normalized_focal",
    "normalized_negative_cross_entropy",
    "normalized_negative_focal",
    "partially_huberised_cross_entropy",
    "reverse_cross_entropy",
    "robust_log_loss",
    "scent_step",
    "scent_table",
    "soft_bootstrap",
    "softplus_mean_normalize",
    "sop_step",
    "sop_table",
    "symmetric_cross_entropy",
    "taylor_cross_entropy",
    "truncated_generalized_cross_entropy",
    "weston_watkins",
]
