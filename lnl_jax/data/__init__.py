"""Data sets as dicts of arrays, one function each, and batches of them."""

from lnl_jax.data.batches import batches, epoch_plan, take
from lnl_jax.data.digits import digits
from lnl_jax.data.labels import check_labels
from lnl_jax.data.splits import hold_out

__all__ = ["batches", "check_labels", "digits", "epoch_plan", "hold_out", "take"]
