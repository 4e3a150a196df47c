"""Low-rank adapters beside the layers of a network, whose kernels stay as they are."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from lnl_jax.distill.ledger._storage import PyTree
from lnl_jax.distill.projectors._lora import CONV1X1, Adapter, change_of, check_scale


def apply_unmerged(
    apply: Callable[..., Any],
    params: PyTree,
    adapter: Adapter,
    *inputs: Array,
    scale: float = 1.0,
) -> Any:
    r"""Calls a flax network with the adapter beside its layers, :math:`W x + s\,b\,(a\,x)`.

    The kernels are not touched, so many adapters can share them in memory. The factors are those
    of the form `CONV1X1`. Strides, padding, dilation and groups are the layer's; in a convolution
    of g groups the window to the rank is applied in each of them, at g times its cost.

    Args:
        apply: ``(params, *inputs)`` to outputs, which calls linen modules: `nn.Dense`,
            `nn.DenseGeneral` of one axis, `nn.Conv` or `nn.ConvTranspose` for the adapted kernels.
        params: nested dicts of arrays.
        adapter: of `init_lora`, with the form `CONV1X1`.
        *inputs: of the network.
        scale: s.

    Returns:
        What `apply` returns, up to rounding as with merged parameters.

    Raises:
        ValueError: if an adapted kernel was not used by a dense or convolutional layer, or its
            layer is of another kind, masks or transposes its kernel; or as of `merge_lora`.
    """
    check_scale(scale)
    used, within = set(), False

    def beside(call, arguments, keywords, context):
        nonlocal within
        outputs, module = call(*arguments, **keywords), context.module
        path = "/".join((*module.path, "kernel"))
        # The narrow layer itself is called through here, and has no path of its own.
        if within or path not in adapter or context.method_name != "__call__":
            return outputs
        used.add(path)
        kernel = module.get_variable("params", "kernel")
        change_of(CONV1X1, path, adapter[path], kernel.shape)
        _check_layer(path, module, kernel)
        within = True
        try:
            added = _beside(module, adapter[path]["a"], adapter[path]["b"], arguments)
        finally:
            within = False
        return outputs + (scale * added).astype(outputs.dtype)

    with nn.intercept_methods(beside):
        outputs = apply(params, *inputs)
    if used != set(adapter):
        unused = ", ".join(sorted(set(adapter) - used))
        raise ValueError(f"adapter: no dense or convolutional layer used the kernels {unused}.")
    return outputs


def _beside(module: nn.Module, a: Array, b: Array, arguments: tuple) -> Array:
    """The layer with the window to the rank as its kernel, then the product with the rest."""
    groups = getattr(module, "feature_group_count", 1)
    rank, outputs = b.shape
    narrow = module.clone(features=groups * rank, use_bias=False, parent=None, name=None)
    # Output channels of a grouped convolution belong to one group each, so each has its own window.
    window = jnp.concatenate([a] * groups, -1) if groups > 1 else a
    inner = narrow.apply({"params": {"kernel": window}}, *arguments)
    b = b.astype(inner.dtype)
    if groups == 1:
        return inner @ b
    split = inner.reshape(*inner.shape[:-1], groups, rank)
    found = jnp.einsum("...gr,rgo->...go", split, b.reshape(rank, groups, outputs // groups))
    return found.reshape(*inner.shape[:-1], outputs)


def _check_layer(path: str, module: nn.Module, kernel: Array) -> None:
    layers = (nn.Dense, nn.DenseGeneral, nn.Conv, nn.ConvTranspose)
    general = isinstance(module, nn.DenseGeneral) and kernel.ndim != 2
    if not isinstance(module, layers) or general:
        raise ValueError(
            f"adapter: {path} of shape {kernel.shape} belongs to a {type(module).__name__}, beside "
            "which no factors can stand; merge it: merge_lora."
        )
    if getattr(module, "mask", None) is not None or getattr(module, "transpose_kernel", False):
        raise ValueError(
            f"adapter: the layer of {path} masks or transposes its kernel; merge it: merge_lora."
        )
