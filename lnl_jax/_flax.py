"""Imported by rooms of flax modules before anything else, so that a missing flax is named."""

from lnl_jax._extras import require

require("flax")
