"""Metrics as pairs of a sum and a count, which add up exactly over batches, devices and hosts."""

from lnl_jax.metrics._average import Average, merge
from lnl_jax.metrics._classification import accuracy, memorization, negative_log_likelihood

__all__ = ["Average", "accuracy", "memorization", "merge", "negative_log_likelihood"]
