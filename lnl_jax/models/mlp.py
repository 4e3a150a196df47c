"""The multilayer perceptron of the tabular experiments, in two layouts."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from lnl_jax.models._checks import check_sizes


class MLP(nn.Module):
    """Dense layers with an activation between them, and scores at the end.

    Kernels are drawn from the Xavier normal distribution, biases uniformly within
    ``1 / sqrt(fan_in)``: the initialisation of the tabular networks of Zhu et al., "Label
    Distributionally Robust Losses for Multi-class Classification" (ICML 2023), official code.

    Attributes:
        num_classes: K.
        hidden: widths of the hidden layers.
        activation: applied after each hidden layer.
        dtype: of the computation, such as ``jnp.bfloat16``; parameters and scores are float32 all
            the same. None means that of inputs and parameters together.

    Example:
        >>> model = MLP(num_classes=10, hidden=(64, 64))
        >>> inputs = jnp.zeros((5, 64))
        >>> jax.eval_shape(model.init_with_output, jax.random.key(0), inputs)[0].shape
        (5, 10)
    """

    num_classes: int
    hidden: Sequence[int] = (64, 64)
    activation: Callable[[Array], Array] = nn.tanh
    dtype: Any = None

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool = False, mask: Array | None = None) -> Array:
        """Scores ``[B, K]`` for inputs ``[B, ...]``, which are flattened.

        `train` and `mask` change nothing; every model takes them.
        """
        _check(self.num_classes, self.hidden, inputs)
        outputs = inputs.reshape(inputs.shape[0], -1)
        for width in self.hidden:
            outputs = self.activation(_dense(width, outputs.shape[-1], self.dtype)(outputs))
        return _dense(self.num_classes, outputs.shape[-1], _of_scores(self.dtype))(outputs)


class LaneMLP(nn.Module):
    """`MLP` with the examples along the last axis, for many small networks side by side.

    A CPU works on the last axis with its vector lanes. There the examples fill them, whatever the
    widths of the layers (`benchmarks/sweep.py` times both). Kernels are ``[width, fan_in]``, the
    transposes of those of `MLP`, and drawn from the same distributions. It is differentiated in
    reverse mode only.

    Attributes:
        num_classes: K.
        hidden: widths of the hidden layers.
        activation: applied after each hidden layer.
        dtype: of the computation, such as ``jnp.bfloat16``; parameters and scores are float32 all
            the same. None means that of inputs and parameters together.

    Example:
        >>> model = LaneMLP(num_classes=10, hidden=(64, 64))
        >>> inputs = jnp.zeros((64, 5))
        >>> jax.eval_shape(model.init_with_output, jax.random.key(0), inputs)[0].shape
        (10, 5)
    """

    num_classes: int
    hidden: Sequence[int] = (64, 64)
    activation: Callable[[Array], Array] = nn.tanh
    dtype: Any = None

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Scores ``[K, B]`` for inputs ``[features, B]``."""
        _check(self.num_classes, self.hidden, inputs)
        outputs = inputs
        for width in self.hidden:
            outputs = self.activation(_LaneDense(width, self.dtype)(outputs))
        return _LaneDense(self.num_classes, _of_scores(self.dtype))(outputs)


def _check(num_classes: int, hidden: Sequence[int], inputs: Array) -> None:
    check_sizes(num_classes=num_classes, hidden=tuple(hidden))
    if inputs.ndim < 2 or not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise ValueError(
            "inputs must be floating, with an axis of examples and one of features, got "
            f"{inputs.dtype} of shape {inputs.shape}."
        )


def _of_scores(dtype: Any) -> Any:
    """The dtype of the last layer."""
    return None if dtype is None else jnp.float32


class _LaneDense(nn.Module):
    width: int
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        fan_in = inputs.shape[0]
        kernel = self.param("kernel", _kernel_init(1, 0), (self.width, fan_in))
        bias = self.param("bias", _bias_init(fan_in), (self.width,))
        if self.dtype is not None:
            inputs, kernel, bias = (one.astype(self.dtype) for one in (inputs, kernel, bias))
        return _product(kernel, inputs) + bias[:, None]


@jax.custom_vjp
def _product(kernel: Array, inputs: Array) -> Array:
    """``kernel @ inputs``, whose gradient has no product with a transposed left factor.

    XLA for CPU has fast kernels for the others only, and would fold the small transpose into the
    product; the barrier keeps it apart.
    """
    return kernel @ inputs


def _product_forward(kernel: Array, inputs: Array) -> tuple[Array, tuple[Array, Array]]:
    return kernel @ inputs, (kernel, inputs)


def _product_backward(factors: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    kernel, inputs = factors
    gradient, transposed = jax.lax.optimization_barrier((gradient, kernel.T))
    return gradient @ inputs.T, transposed @ gradient


_product.defvjp(_product_forward, _product_backward)


def _dense(width: int, fan_in: int, dtype: Any) -> nn.Dense:
    return nn.Dense(
        width, dtype=dtype, kernel_init=_kernel_init(0, 1), bias_init=_bias_init(fan_in)
    )


def _kernel_init(in_axis: int, out_axis: int) -> nn.initializers.Initializer:
    # Flax's xavier_normal is truncated at two deviations; the paper's is not.
    return nn.initializers.variance_scaling(1.0, "fan_avg", "normal", in_axis, out_axis)


def _bias_init(fan_in: int) -> nn.initializers.Initializer:
    def bias(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return bias
