"""The multilayer perceptron of the tabular experiments."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array


class MLP(nn.Module):
    """Dense layers with an activation between them, and scores at the end.

    Kernels are drawn from the Xavier normal distribution, biases uniformly within
    ``1 / sqrt(fan_in)``: the initialisation of the tabular networks of Zhu et al., "Label
    Distributionally Robust Losses for Multi-class Classification" (ICML 2023), official code.

    Attributes:
        num_classes: K.
        hidden: widths of the hidden layers.
        activation: applied after each hidden layer.

    Example:
        >>> model = MLP(num_classes=10, hidden=(64, 64))
        >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 64)))
        >>> model.apply(variables, jnp.zeros((5, 64))).shape
        (5, 10)
    """

    num_classes: int
    hidden: Sequence[int] = (64, 64)
    activation: Callable[[Array], Array] = nn.tanh

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool = False, mask: Array | None = None) -> Array:
        """Scores ``[B, K]`` for inputs ``[B, ...]``, which are flattened.

        `train` and `mask` change nothing; every model takes them.
        """
        outputs = inputs.reshape(inputs.shape[0], -1)
        for width in self.hidden:
            outputs = self.activation(_dense(width, outputs.shape[-1])(outputs))
        return _dense(self.num_classes, outputs.shape[-1])(outputs)


def _dense(width: int, fan_in: int) -> nn.Dense:
    def bias(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    # Flax's xavier_normal is truncated at two deviations; the paper's is not.
    kernel = nn.initializers.variance_scaling(1.0, "fan_avg", "normal")
    return nn.Dense(width, kernel_init=kernel, bias_init=bias)
