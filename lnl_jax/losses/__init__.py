"""Losses: arrays in, one loss per example out. The caller reduces.

``f(logits, labels, *, hyperparameters..., axis=-1, where=None) -> losses``. Labels are integers or
distributions; `where` masks classes; a hyperparameter is a scalar or has one value per example.
"""

from lnl_jax.losses._aldr import aldr_kl, aldr_kl_step, aldr_temperature
from lnl_jax.losses._cross_entropy import generalized_cross_entropy
from lnl_jax.losses._ldr import ldr_kl
from lnl_jax.losses._normalize import l1_mean_normalize, logit_normalize, softplus_mean_normalize

__all__ = [
    "aldr_kl",
    "aldr_kl_step",
    "aldr_temperature",
    "generalized_cross_entropy",
    "l1_mean_normalize",
    "ldr_kl",
    "logit_normalize",
    "softplus_mean_normalize",
]
