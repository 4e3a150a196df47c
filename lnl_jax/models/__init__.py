"""Networks, as flax linen modules. They know no loss and no training."""

from lnl_jax.models.mlp import MLP

__all__ = ["MLP"]
