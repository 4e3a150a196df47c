"""Contrastive losses: queries and keys in, one loss per anchor out, rows in and rows out."""

from lnl_jax.contrastive._cached import cached_contrastive_grads
from lnl_jax.contrastive._fastclip import fastclip
from lnl_jax.contrastive._info_nce import (
    ContrastiveStatistics,
    contrastive_statistics,
    decoupled_contrastive,
    info_nce,
    info_nce_from_statistics,
    similarity_statistics,
)
from lnl_jax.contrastive._inner_estimates import (
    InnerEstimate,
    difference_to_positive,
    difference_with_diagonal,
    difference_with_positive,
    raw_similarity,
    restart_batch,
    restart_example,
    start_from_zero,
)
from lnl_jax.contrastive._inner_rates import cosine_gamma, scent_gamma
from lnl_jax.contrastive._isogclr import isogclr, isogclr_from_statistics
from lnl_jax.contrastive._ring import ring_statistics
from lnl_jax.contrastive._sigmoid_contrastive import sigmoid_contrastive
from lnl_jax.contrastive._sogclr import sogclr, sogclr_from_statistics
from lnl_jax.contrastive._tables import isogclr_table, sogclr_table
from lnl_jax.contrastive._temperatures import ContrastiveRows, Temperatures, temperature_step

__all__ = [
    "ContrastiveRows",
    "ContrastiveStatistics",
    "InnerEstimate",
    "Temperatures",
    "cached_contrastive_grads",
    "contrastive_statistics",
    "cosine_gamma",
    "decoupled_contrastive",
    "difference_to_positive",
    "difference_with_diagonal",
    "difference_with_positive",
    "fastclip",
    "info_nce",
    "info_nce_from_statistics",
    "isogclr",
    "isogclr_from_statistics",
    "isogclr_table",
    "raw_similarity",
    "restart_batch",
    "restart_example",
    "ring_statistics",
    "scent_gamma",
    "sigmoid_contrastive",
    "similarity_statistics",
    "sogclr",
    "sogclr_from_statistics",
    "sogclr_table",
    "start_from_zero",
    "temperature_step",
]
