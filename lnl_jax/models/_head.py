"""The last layer of the convolutional networks."""

import jax.numpy as jnp
from flax import linen as nn

# Uniform within 1 / sqrt(fan_in), as a linear layer of PyTorch.
_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def head(num_classes: int) -> nn.Dense:
    """A dense layer to scores in float32."""
    return nn.Dense(num_classes, dtype=jnp.float32, kernel_init=_uniform)
