"""Batch normalisation over the examples that count, of all devices."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from lnl_jax.models._checks import check_mask, check_normalization


class BatchNorm(nn.Module):
    """Batch normalisation of the last axis, in float32, that leaves padding out.

    It keeps `flax.linen.BatchNorm`'s names of variables, and its running variance is likewise the
    biased one. Flax's own averages the means of the devices, which weights their examples unequally
    where the padding is unequal and is NaN where a device holds nothing else.

    Attributes:
        momentum: weight of the old running statistics, from 0 to 1.
        epsilon: added to the variance, above 0.
        axis_name: of the devices, inside `pmap` and `shard_map` only.

    References:
        Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
        Internal Covariate Shift" (ICML 2015).
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool, mask: Array | None = None) -> Array:
        """The normalised inputs ``[B, ..., C]``, in their dtype."""
        check_normalization(self.momentum, self.epsilon)
        channels = inputs.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        values = inputs.astype(jnp.float32)
        if train:
            count, mean, var = self._moments(values, mask)
            if not self.is_initializing():
                # A batch of padding alone has no statistics.
                decay = jnp.where(count > 0, self.momentum, 1.0)
                running_mean.value = decay * running_mean.value + (1 - decay) * mean
                running_var.value = decay * running_var.value + (1 - decay) * var
        else:
            mean, var = running_mean.value, running_var.value
        axes = range(inputs.ndim - 1)
        mean, factor, bias = (
            jnp.expand_dims(row, axes)
            for row in (mean, scale * jax.lax.rsqrt(var + self.epsilon), bias)
        )
        return ((values - mean) * factor + bias).astype(inputs.dtype)

    def _moments(self, values: Array, mask: Array | None) -> tuple[Array, Array, Array]:
        """Count, mean and variance of each channel, in one pass and one sum over the devices."""
        check_mask(mask, values)
        axes = tuple(range(values.ndim - 1))
        if mask is None:
            where, examples = None, jnp.float32(len(values))
        else:
            where = mask.reshape(-1, *(1,) * (values.ndim - 1))
            examples = mask.sum(dtype=jnp.float32)
        sums = (
            examples * (values[0, ..., 0].size),
            values.sum(axes, where=where),
            jnp.square(values).sum(axes, where=where),
        )
        if self.axis_name is not None:
            sums = jax.lax.psum(sums, self.axis_name)
        count, total, squares = sums
        mean = total / jnp.maximum(count, 1)
        var = squares / jnp.maximum(count, 1) - jnp.square(mean)
        # Rounding must not make it negative; a maximum would halve the second slope where all
        # inputs are equal.
        var = var - jax.lax.stop_gradient(jnp.minimum(var, 0))
        return count, mean, var
