"""The functions that a name on the command line stands for."""

from collections.abc import Callable

import optax
from jax import Array

from lnl_jax import losses

Loss = Callable[..., Array]
Normalization = Callable[[Array], Array]


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Optax's softmax cross-entropy, `[B]`."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def unnormalized(logits: Array) -> Array:
    """The scores as the network gives them."""
    return logits


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "generalized_cross_entropy": losses.generalized_cross_entropy,
    "ldr_kl": losses.ldr_kl,
    "aldr_kl": losses.aldr_kl,
}

NORMALIZATIONS: dict[str, Normalization] = {
    "none": unnormalized,
    "softplus_mean": losses.softplus_mean_normalize,
    "l1_mean": losses.l1_mean_normalize,
}
