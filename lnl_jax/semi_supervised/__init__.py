"""Losses of partly labelled batches."""

from lnl_jax.semi_supervised._positive_unlabelled import (
    nn_pu,
    pu_mlc,
    pu_mlc_consistency,
    sigmoid_surrogate,
)

__all__ = [
    "nn_pu",
    "pu_mlc",
    "pu_mlc_consistency",
    "sigmoid_surrogate",
]
